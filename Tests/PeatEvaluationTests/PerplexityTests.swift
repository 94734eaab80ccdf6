import Foundation
import PeatEvaluation
import PeatModels
import PeatTensor
import Testing

@Suite("Perplexity") struct PerplexityTests {
  /// Probabilities of a, b, c, blank and begin after each of them; they are powers of two.
  static let probabilities: [[Float]] = [
    [1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 16],
    [1 / 8, 1 / 2, 1 / 4, 1 / 16, 1 / 16],
    [1 / 4, 1 / 4, 1 / 4, 1 / 8, 1 / 8],
    [1 / 16, 1 / 16, 1 / 8, 1 / 4, 1 / 2],
    [1 / 8, 1 / 8, 1 / 4, 1 / 4, 1 / 4],
  ]

  private let model: TransformerModel

  init() throws {
    model = try BigramModel.make(Self.probabilities.map { $0.map { logf($0) } })
  }

  private func measure(
    _ texts: [String], context: Int = 4, stride: Int? = nil, documents: Bool = false,
    begin: Bool = false, limit: Int? = nil, threads: Int = 1
  ) throws -> PerplexityReport {
    try PerplexityMeasure(context: context, stride: stride, threads: threads, model: model).report(
      model, tokenizer: LetterTokenizer(), documents: texts, asDocuments: documents,
      addBegin: begin, limit: limit)
  }

  /// Bits of each prediction in a text, by the table.
  private func bits(_ text: String) -> [Double] {
    let tokens = LetterTokenizer().encode(text, addSpecialTokens: false).map(Int.init)
    return zip(tokens, tokens.dropFirst()).map { -Double(log2f(Self.probabilities[$0][$1])) }
  }

  private func expect(
    _ report: PerplexityReport, bits: [Double], bytes: Int,
    sourceLocation: SourceLocation = #_sourceLocation
  ) {
    let sum = bits.reduce(0, +)
    let mean = sum / Double(bits.count)
    #expect(report.tokens == bits.count, sourceLocation: sourceLocation)
    #expect(abs(report.loss - mean * log(2)) < 1e-5, "\(report)", sourceLocation: sourceLocation)
    #expect(abs(report.perplexity - exp2(mean)) < 1e-4, sourceLocation: sourceLocation)
    #expect(abs(report.bitsPerByte - sum / Double(bytes)) < 1e-5, sourceLocation: sourceLocation)
  }

  @Test func `by hand`() throws {
    // a→a 1 bit, a→b 2, b→b 1, b→c 2.
    let report = try measure(["aabbc"])
    #expect(report.tokens == 4)
    #expect(abs(report.perplexity - exp2(1.5)) < 1e-5)
    #expect(abs(report.loss - 1.5 * log(2)) < 1e-6)
    #expect(abs(report.bitsPerByte - 6.0 / 5) < 1e-6)
  }

  @Test
  func `windows start with the last token of the one before, and a short last one is left out`()
    throws
  {
    let text = "aabbcabcabacb"
    // Twelve predictions fill three windows of four; with one letter more the thirteenth is left out.
    try expect(measure([text]), bits: bits(text), bytes: 13)
    try expect(measure([text + "a"]), bits: bits(text), bytes: 13)
    try expect(measure([text + "abc"]), bits: bits(text), bytes: 13)
    try expect(measure([text + "abca"]), bits: bits(text + "abca"), bytes: 17)
    // A text shorter than a window is measured as it is.
    try expect(measure(["abc"]), bits: bits("abc"), bytes: 3)
  }

  @Test(arguments: 1...4) func `overlapping windows count each prediction once`(stride: Int) throws
  {
    // This model looks at the last token only, so overlap changes nothing but who predicts what.
    let text = "aabbcabcabacb"
    try expect(measure([text], stride: stride), bits: bits(text), bytes: 13)
  }

  @Test func `the limit is one of windows, or of documents`() throws {
    let text = "aabbcabcabacb"
    try expect(measure([text], limit: 2), bits: Array(bits(text).prefix(8)), bytes: 9)
    try expect(measure([text], limit: 99), bits: bits(text), bytes: 13)
    try expect(
      measure(["aab", "bca", "ccc"], documents: true, limit: 2), bits: bits("aab") + bits("bca"),
      bytes: 6)
  }

  @Test func `documents are measured by themselves, cut to the context`() throws {
    try expect(
      measure(["aab", "bca"], documents: true), bits: bits("aab") + bits("bca"), bytes: 6)
    // Joined, a line break stands between them; this tokenizer has none, so a→b and b→b meet.
    try expect(measure(["aab", "bca"], context: 5), bits: bits("aabbca"), bytes: 7)
    try expect(measure(["aabbc"], documents: true), bits: bits("aabb"), bytes: 4)
    // The begin token counts among the context's tokens and is not itself predicted.
    try expect(
      measure(["aabbc", "b"], documents: true, begin: true), bits: bits(".aab") + bits(".b"),
      bytes: 4)
    try expect(measure(["aab"], begin: true), bits: bits(".aab"), bytes: 3)
  }

  @Test func `threads do not change the sum`() throws {
    let text = String(repeating: "aabbcabcabacb", count: 20)
    let one = try measure([text])
    for threads in [2, 3, 64] { #expect(try measure([text], threads: threads) == one) }
  }

  @Test func `sizes that do not fit are refused`() {
    for (context, stride) in [(0, nil), (9, nil), (4, 0), (4, 5), (-1, nil)] as [(Int, Int?)] {
      #expect(throws: PeatError.self) {
        try PerplexityMeasure(context: context, stride: stride, model: model)
      }
    }
    for texts in [[""], ["a"], []] as [[String]] {
      #expect(throws: PeatError.self) { try measure(texts) }
    }
  }

  @Test func `a token that the model does not know is refused`() throws {
    let small = try BigramModel.make([[0, 0], [0, 0]])
    let measure = try PerplexityMeasure(context: 4, model: small)
    #expect(throws: PeatError.self) { try measure.loss(small, rows: [[0, 1, 2]]) }
  }

  @Test func `it stops when asked, and refuses a loss that is no number`() throws {
    let measure = try PerplexityMeasure(context: 4, model: model)
    do {
      _ = try measure.loss(model, rows: [[0, 1, 2]], shouldStop: { true })
      Issue.record("was not stopped")
    } catch { #expect((error as? PeatError)?.code == .interrupted) }
    let broken = try BigramModel.make(Self.probabilities.map { $0.map { _ in Float.nan } })
    do {
      _ = try measure.loss(broken, rows: [[0, 1, 2]])
      Issue.record("was taken")
    } catch { #expect((error as? PeatError)?.code == .badData) }
  }
}
