import FedPEAT
import Foundation

extension [Document] {
  /// One JSON object per line: the fields, and text, or prompt and completion, or messages with the tools beside them.
  func writeJSONLines(to url: URL) throws {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    var data = Data()
    for document in self {
      if let conversation = document.conversationLine() {
        data += Data((conversation + "\n").utf8)
        continue
      }
      var line = document.fields.mapValues(JSONValue.string)
      if let prompt = document.prompt, let completion = document.completion {
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
