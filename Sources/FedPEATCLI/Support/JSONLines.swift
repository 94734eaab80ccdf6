import FedPEAT
import Foundation

extension [Document] {
  /// One JSON object per line: the fields, and text, or prompt and completion, or messages.
  func writeJSONLines(to url: URL) throws {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    var data = Data()
    for document in self {
      var line = document.fields.mapValues(JSONValue.string)
      if let turns = document.turns {
        line["messages"] = .array(
          turns.map { .object(["role": .string($0.role), "content": .string($0.content)]) })
      } else if let prompt = document.prompt, let completion = document.completion {
        line["prompt"] = .string(prompt)
        line["completion"] = .string(completion)
      } else {
        line["text"] = .string(document.text)
      }
      data += try encoder.encode(line) + Data("\n".utf8)
    }
    try AtomicOutput.write(data, to: url)
  }
}
