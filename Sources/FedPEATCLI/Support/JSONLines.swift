import FedPEAT
import Foundation

extension [Document] {
  /// One JSON object per line: the fields, and text, or prompt and completion.
  func writeJSONLines(to url: URL) throws {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    var data = Data()
    for document in self {
      var line = document.fields
      if let prompt = document.prompt, let completion = document.completion {
        line["prompt"] = prompt
        line["completion"] = completion
      } else {
        line["text"] = document.text
      }
      data += try encoder.encode(line) + Data("\n".utf8)
    }
    try AtomicOutput.write(data, to: url)
  }
}
