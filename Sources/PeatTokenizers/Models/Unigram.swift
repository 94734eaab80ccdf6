// Unigram language model. Mirrors tokenizers 0.23 `models/unigram/model.rs` (`encode_optimized`) and sentencepiece.

import PeatTensor

/// Cuts a piece so that the sum of its tokens' scores (log probabilities) is the highest.
///
/// A scalar that no token covers costs the lowest score less 10; neighbouring unknowns become one, which falls back to its
/// bytes `<0x00>` … `<0xFF>` if the model says so. Of equal sums the one met first holds, as in the original. A piece of n bytes takes
/// O(n · m) for tokens of at most m bytes.
///
/// Source: Kudo 2018, <https://arxiv.org/abs/1804.10959>.
struct Unigram: TokenModel {
  private static let unknownPenalty = 10.0

  let vocabulary: Vocabulary
  private let scores: [Double]
  private let unknown: Int32
  private let unknownScore: Double
  private let trie: TokenTrie
  /// The byte tokens, where the model falls back to them; -1 where one is missing.
  private let byteTokens: [Int32]?

  init(_ part: TokenizerPart) throws {
    let vocab = try part.required("vocab")
    var vocabulary = Vocabulary()
    var trie = TokenTrie()
    var scores: [Double] = []
    for (number, element) in try vocab.rawElements().enumerated() {
      guard case .array(let pair) = element, pair.count == 2, case .string(let token) = pair[0],
        case .number(let text) = pair[1], let score = Double(text), score.isFinite
      else {
        throw vocab.failure("has at \(number) no token with its score; expected [\"token\", -1.5].")
      }
      try vocabulary.add(token, number: number, vocab)
      scores.append(score)
      if !token.bytes.isEmpty { trie.insert(token.bytes[...], number: Int32(number)) }
    }
    guard let lowest = scores.min() else { throw vocab.failure("is empty; expected tokens.") }
    unknown = Int32(try part.required("unk_id").integer(in: 0...scores.count - 1))
    unknownScore = lowest - Self.unknownPenalty
    byteTokens = try part.bool("byte_fallback", default: false) ? vocabulary.byteTokens : nil
    self.vocabulary = vocabulary
    self.scores = scores
    self.trie = trie
  }

  /// The best way to a place in the piece: the token that ends there and where it begins.
  private struct Step {
    var score = 0.0
    var start: Int32 = -1
    var token: Int32 = 0
  }

  func encode(_ piece: [UInt8], into numbers: inout [Int32]) {
    let steps = bestSteps(piece)
    // From the end to the beginning; unknowns side by side are gathered.
    let begin = numbers.count
    var end = piece.count
    var unknownEnd = -1
    while end > 0 {
      let step = steps[end]
      if step.token == unknown {
        if unknownEnd < 0 { unknownEnd = end }
      } else {
        if unknownEnd >= 0 { appendUnknown(piece[end..<unknownEnd], into: &numbers) }
        unknownEnd = -1
        numbers.append(step.token)
      }
      end = Int(step.start)
    }
    if unknownEnd >= 0 { appendUnknown(piece[..<unknownEnd], into: &numbers) }
    numbers[begin...].reverse()
  }

  private func bestSteps(_ piece: [UInt8]) -> [Step] {
    precondition(piece.count < Int(Int32.max), "a piece of \(piece.count) bytes is too long to cut")
    var steps = [Step](repeating: Step(), count: piece.count + 1)
    func offer(_ score: Double, _ token: Int32, from start: Int, to end: Int) {
      if steps[end].start < 0 || score > steps[end].score {
        steps[end] = Step(score: score, start: Int32(start), token: token)
      }
    }
    var start = 0
    while start < piece.count {
      let score = steps[start].score
      let next = start + UTF8Text.scalar(piece, at: start).length
      var isCovered = false
      var node = TokenTrie.root
      var end = start
      while end < piece.count, let child = trie.child(of: node, piece[end]) {
        node = child
        end += 1
        if let token = trie.token(node) {
          offer(score + scores[Int(token)], token, from: start, to: end)
          if end == next { isCovered = true }
        }
      }
      if !isCovered { offer(score + unknownScore, unknown, from: start, to: next) }
      start = next
    }
    return steps
  }

  /// Appends what stands for a run of unknown scalars, last number first.
  private func appendUnknown(_ run: ArraySlice<UInt8>, into numbers: inout [Int32]) {
    if let token = vocabulary.numbers[ByteString(run)] {
      numbers.append(token)
    } else if let byteTokens, run.allSatisfy({ byteTokens[Int($0)] >= 0 }) {
      for byte in run.reversed() { numbers.append(byteTokens[Int(byte)]) }
    } else {
      numbers.append(unknown)
    }
  }
}
