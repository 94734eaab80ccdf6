import Foundation
import PeatTensor

/// How much processor time a tokenizer takes for a text, on one thread. Tools/compare-tokenizers measures the package `tokenizers` in the same way.
public enum TokenizerBenchmark {
  public struct Report: Sendable, Codable, Equatable {
    public var byteCount: Int
    public var tokenCount: Int
    /// The text at once, special tokens left out; the median of the repetitions.
    public var wholeSeconds: Double
    /// Each line for itself, as one batch.
    public var linesSeconds: Double
    /// The numbers of the whole text back to text.
    public var decodeSeconds: Double
    /// The sum of number times place (counted from 1), modulo 2⁶¹, to see that two programs give the same numbers.
    public var checksum: Int
  }

  /// Measures after one pass that is not counted.
  public static func run(_ tokenizer: Tokenizer, text: String, repetitions: Int) throws -> Report {
    let lines = text.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
    let numbers = try tokenizer.encode(text, addSpecialTokens: false)
    var (whole, byLines, decode): ([Double], [Double], [Double]) = ([], [], [])
    for _ in 0..<max(1, repetitions) {
      whole.append(try seconds { try tokenizer.encode(text, addSpecialTokens: false).count })
      byLines.append(
        try seconds {
          try tokenizer.encodeBatch(
            lines, addSpecialTokens: false, truncation: nil, padding: nil
          ).count
        })
      decode.append(
        seconds { tokenizer.decode(numbers, skipSpecialTokens: false).utf8.count })
    }
    var checksum: UInt64 = 0
    for (place, number) in numbers.enumerated() {
      checksum = (checksum + UInt64(number) * UInt64(place + 1)) & (1 << 61 - 1)
    }
    return Report(
      byteCount: text.utf8.count, tokenCount: numbers.count, wholeSeconds: median(whole),
      linesSeconds: median(byLines), decodeSeconds: median(decode), checksum: Int(checksum))
  }

  /// Seconds of processor time: what other processes do at the same time counts little.
  private static func seconds(_ body: () throws -> Int) rethrows -> Double {
    let start = ProcessMeasurement.processorSeconds
    let count = try body()
    // The result counts, so the work can't be left out.
    return count < 0 ? 0 : ProcessMeasurement.processorSeconds - start
  }

  private static func median(_ values: [Double]) -> Double { values.sorted()[values.count / 2] }
}
