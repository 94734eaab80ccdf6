import PeatModels
import PeatTensor

/// Windows of tokens, one behind the other, and for each place the token that is to be predicted there.
///
/// `N` places. Windows may have different lengths; nothing is filled up.
public struct TokenBatch: Sendable, Equatable {
  /// Stands in `targets` where there is nothing to learn.
  public static let ignored: Int32 = -1

  /// `[N]`, window after window.
  public let tokens: [Int32]
  /// `[N]`: what is to be said at each of `tokens`, such as the token after it, or `ignored`.
  public let targets: [Int32]
  /// `[N]`: the type of each token; empty where all are of type 0.
  public let types: [Int32]
  /// What `tokens` number where they are patches of pictures.
  public let patches: PatchTable?
  /// Where each window begins in its dataset's tokens: windows of the same dataset that begin at the same place are the
  /// same, if they are of one arrangement. Empty where the batch is of no dataset.
  public let windowPlaces: [Int]
  /// Where each window begins, and the end of the last.
  public let windowStarts: [Int]
  /// How the places divide into sequences that know nothing of each other: a window, or each document in it.
  public let layout: SequenceLayout
  /// How many targets are not ignored: what a sum of losses is divided by.
  public let targetCount: Int

  /// - Parameters:
  ///   - windowLengths: how many places each window has.
  ///   - windowPlaces: where each window begins in its dataset.
  ///   - sequenceLengths: how many places each sequence has; the windows' lengths if not given.
  ///   - sourceLengths: how many of them an encoder reads.
  /// - Precondition: both arrays, and all lengths together, have the same count.
  public init(
    tokens: [Int32], targets: [Int32], windowLengths: [Int], sequenceLengths: [Int]? = nil,
    sourceLengths: [Int]? = nil, windowPlaces: [Int] = [], types: [Int32] = [],
    patches: PatchTable? = nil
  ) {
    self.types = types
    self.patches = patches
    self.windowPlaces = windowPlaces
    var starts = [0]
    for length in windowLengths { starts.append((starts.last ?? 0) + length) }
    windowStarts = starts
    let lengths = sequenceLengths ?? windowLengths
    layout =
      sourceLengths.map { SequenceLayout(lengths: lengths, sources: $0) }
      ?? SequenceLayout(lengths: lengths)
    precondition(
      tokens.count == targets.count && (types.isEmpty || types.count == tokens.count)
        && starts.last == tokens.count && layout.count == tokens.count,
      "TokenBatch: \(tokens.count) tokens and \(targets.count) targets in windows of \(windowLengths)"
    )
    self.tokens = tokens
    self.targets = targets
    self.targetCount = targets.count { $0 != Self.ignored }
  }

  /// The tokens as a model takes them.
  public func withInputs<Result>(_ body: (ModelInputs) throws -> Result) rethrows -> Result {
    try tokens.withUnsafeBufferPointer { tokens in
      guard !types.isEmpty else { return try body(ModelInputs(tokens, patches: patches)) }
      return try types.withUnsafeBufferPointer {
        try body(ModelInputs(tokens, types: $0, patches: patches))
      }
    }
  }

  /// How many windows.
  public var windowCount: Int { windowStarts.count - 1 }

  /// The places of some of the windows, as when a batch is computed in parts.
  public func places(ofWindows range: Range<Int>) -> Range<Int> {
    windowStarts[range.lowerBound]..<windowStarts[range.upperBound]
  }
}
