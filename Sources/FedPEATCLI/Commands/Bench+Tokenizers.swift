import FedPEAT
import Foundation

extension Bench {
  /// A tokenizer on a text, in processor time of one thread.
  func tokenizers() throws {
    guard let model, let text else {
      throw PeatError.usage(
        "'bench tokenizers' needs a model's folder and a text: --model DIR --text FILE.")
    }
    let tokenizer = try Tokenizer(folder: URL(model: model))
    let content = try DocumentReader.read(URL(path: text), as: .text).map(\.text).joined()
    try checkInterruption()
    let report = try TokenizerBenchmark.run(tokenizer, text: content, repetitions: runs)
    func row(_ name: String, _ seconds: Double) -> [String] {
      [
        name, Format.number(seconds, digits: 4),
        Format.number(Double(report.byteCount) / seconds / 1e6, digits: 1),
      ]
    }
    try common.report(
      report,
      text: Format.table([
        ["", "seconds", "MB/s"], row("at once", report.wholeSeconds),
        row("line by line", report.linesSeconds), row("back to text", report.decodeSeconds),
      ]) + "\n\n\(Format.count(report.byteCount)) bytes, \(Format.count(report.tokenCount)) tokens")
  }
}
