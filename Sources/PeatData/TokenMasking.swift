import PeatTensor

/// Hides some of a window's tokens, for a model that is to say what stood there.
///
/// Of those that may be learned the share `share` is chosen, to the nearest whole number, at least one. Of the chosen ones 80 % become the mask token, 10 % any token
/// of the vocabulary, and 10 % stay as they are.
///
/// Source: Devlin et al. 2018, <https://arxiv.org/abs/1810.04805>, section 3.1, task 1.
public struct TokenMasking: Sendable, Equatable {
  /// What stands in the place of most chosen tokens.
  public var maskToken: Int32
  /// Tokens of the vocabulary, from 0 on.
  public var vocabularySize: Int
  /// What is put around each window that is cut out of a stream, `[CLS]` and `[SEP]`; it is never chosen.
  public var before: [Int32]
  public var after: [Int32]
  public var share: Double
  /// Of the masks that repeat: each window of an evaluation has its own.
  public var seed: UInt64

  public init(
    maskToken: Int32, vocabularySize: Int, before: [Int32] = [], after: [Int32] = [],
    share: Double = 0.15, seed: UInt64 = 0
  ) {
    self.maskToken = maskToken
    self.vocabularySize = vocabularySize
    self.before = before
    self.after = after
    self.share = share
    self.seed = seed
  }

  /// How many tokens are put around a window.
  var frameCount: Int { before.count + after.count }

  /// How many of so many tokens are chosen.
  func chosenCount(of candidates: Int) -> Int {
    candidates == 0
      ? 0 : max(1, Int((Double(candidates) * share).rounded(.toNearestOrEven)))
  }

  /// The seed of a window's mask that repeats.
  func seed(ofWindowAt start: Int) -> UInt64 { seed ^ SeededRandom.hash(of: "window \(start)") }

  /// Hides tokens.
  ///
  /// - Parameters:
  ///   - tokens: a window's.
  ///   - mayBeChosen: which of them.
  /// - Returns: for each place what stood there where it was chosen, else `TokenBatch.ignored`.
  func hide(_ tokens: inout [Int32], mayBeChosen: [Bool], seed: UInt64) -> [Int32] {
    var targets = Array(repeating: TokenBatch.ignored, count: tokens.count)
    let candidates = mayBeChosen.indices.filter { mayBeChosen[$0] }
    var random = SeededRandom(seed: seed, "masked tokens")
    for place in random.shuffled(candidates).prefix(chosenCount(of: candidates.count)) {
      targets[place] = tokens[place]
      switch random.uniform() {
      case ..<0.8: tokens[place] = maskToken
      case ..<0.9: tokens[place] = Int32(random.integer(below: vocabularySize))
      default: break
      }
    }
    return targets
  }
}
