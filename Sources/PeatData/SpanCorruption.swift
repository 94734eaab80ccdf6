import PeatTensor
import PeatTokenizers

/// Makes pairs of plain text: spans are left out of the source, each with a token in its place, and the target says them, each behind its token, and a last such token.
///
/// Of n tokens ⌊0.15 · n⌉ are left out, in spans of 3 on average. Where they lie is drawn once for a text, by what it says.
///
/// Source: Raffel et al. 2020, <https://arxiv.org/abs/1910.10683>, section 3.1.4.
public struct SpanCorruption: Sendable {
  static let share = 0.15
  static let meanLength = 3.0

  /// Tokens that stand for spans, the first span's first.
  public let sentinels: [Int32]

  /// - Precondition: at least two sentinels: one for a span and one behind the last.
  public init(sentinels: [Int32]) {
    precondition(sentinels.count > 1, "SpanCorruption: \(sentinels.count) sentinels")
    self.sentinels = sentinels
  }

  /// With the tokens `<extra_id_0>`, `<extra_id_1>` and so on; `nil` where a tokenizer has no two of them.
  public init?(_ tokenizer: Tokenizer) {
    var sentinels: [Int32] = []
    while let token = tokenizer.number(of: "<extra_id_\(sentinels.count)>") {
      sentinels.append(token)
    }
    guard sentinels.count > 1 else { return nil }
    self.init(sentinels: sentinels)
  }

  /// How many tokens of so many are left out, and in how many spans.
  private func lost(of count: Int) -> (tokens: Int, spans: Int) {
    let tokens = min(max(Int((Double(count) * Self.share).rounded()), 1), count - 1)
    let spans = max(Int((Double(tokens) / Self.meanLength).rounded()), 1)
    return (tokens, min(spans, tokens, count - tokens))
  }

  /// Pairs that fit a context, from one end of the text to the other; what is left over and too short is in none.
  func pairs(of tokens: [Int32], start: Int32, end: Int32?, context: Int) -> [TokenSequence] {
    // What a piece of so many tokens is as source and target: a sentinel for each span in both, one behind, the end of the source, the start.
    func fits(_ count: Int) -> Bool {
      let spans = lost(of: count).spans
      return count + 2 * spans + 3 <= context && spans < sentinels.count
    }
    var longest = min(tokens.count, context)
    while longest > 1, !fits(longest) { longest -= 1 }
    guard longest > 1 else { return [] }
    return stride(from: 0, to: tokens.count, by: longest).compactMap { first in
      let piece = Array(tokens[first..<min(first + longest, tokens.count)])
      return piece.count > 1 ? pair(of: piece, start: start, end: end) : nil
    }
  }

  private func pair(of piece: [Int32], start: Int32, end: Int32?) -> TokenSequence {
    var hash: UInt64 = 0xcbf2_9ce4_8422_2325
    for token in piece { hash = (hash ^ UInt64(UInt32(bitPattern: token))) &* 0x100_0000_01b3 }
    var random = SeededRandom(seed: hash, "spans")
    let (lost, spans) = lost(of: piece.count)
    let kept = parts(of: piece.count - lost, spans, using: &random)
    let left = parts(of: lost, spans, using: &random)
    var (source, target): ([Int32], [Int32]) = ([], [])
    var place = 0
    for span in 0..<spans {
      source += piece[place..<place + kept[span]] + [sentinels[span]]
      place += kept[span]
      target += [sentinels[span]] + piece[place..<place + left[span]]
      place += left[span]
    }
    target.append(sentinels[spans])
    let ending = end.map { [$0] } ?? []
    return TokenSequence(source: source + ending, start: start, target: target + ending)
  }

  /// Cuts a number into so many parts of at least 1, all ways being as likely.
  private func parts(
    of count: Int, _ parts: Int, using random: inout SeededRandom
  ) -> [Int] {
    let cuts = random.shuffled(Array(1..<max(count, 1))).prefix(parts - 1).sorted()
    return zip([0] + cuts, cuts + [count]).map { $1 - $0 }
  }
}
