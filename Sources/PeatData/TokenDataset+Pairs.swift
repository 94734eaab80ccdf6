import PeatModels
import PeatTensor
import PeatTokenizers

extension TokenDataset {
  /// Documents as a model with an encoder learns from them.
  ///
  /// - Throws: what `TokenSequence.pairs` throws; `badData` where nothing is left to learn.
  public static func pairs(
    _ documents: [Document], tokenizer: Tokenizer, for model: TransformerConfiguration,
    context: Int
  ) throws -> TokenDataset {
    let corruption = SpanCorruption(tokenizer)
    return try TokenDataset(
      documents.flatMap {
        try TokenSequence.pairs(
          of: $0, tokenizer: tokenizer, start: model.decoderStart, corruption: corruption,
          context: context)
      }, .pairs(context: context))
  }

  /// Throws where a model can't read what lies here: a token that it has no row for, or no pairs where it has an encoder.
  public func check(for model: TransformerConfiguration) throws {
    let isOfPairs = if case .pairs = arrangement { true } else { false }
    guard isOfPairs == model.hasEncoder else {
      throw PeatError.usage(
        model.hasEncoder
          ? "A model with an encoder learns from pairs of a source and a target; the data is none."
          : "The data is pairs of a source and a target, for a model with an encoder; this one has none."
      )
    }
    try check(vocabularySize: model.vocabularySize)
  }

  /// Throws where a token has no row in the model's embedding.
  public func check(vocabularySize: Int) throws {
    guard patches == nil else { return }
    guard let token = tokenOutside(vocabularySize: vocabularySize) else { return }
    throw PeatError.badData(
      "The data has token \(token), the model knows \(vocabularySize). Check that tokenizer.json and config.json come "
        + "from the same checkpoint.")
  }
}

/// How many tokens a pair has that the encoder reads, and that the decoder does.
public struct PairSize: Sendable, Equatable {
  public var source: Int
  public var target: Int

  public init(source: Int, target: Int) {
    self.source = source
    self.target = target
  }
}

extension TokenDataset {
  /// The pairs that are the largest: each of the others has no more tokens than one of these, on either side. None where data is no pairs.
  public var largestPairs: [PairSize] {
    guard case .pairs = arrangement else { return [] }
    let sizes = windows.map { window in
      let source = sourceLength(of: store.sequence(window.start..<window.start + window.count + 1))
      return PairSize(source: source, target: window.count - source)
    }
    var largest: [PairSize] = []
    for size in sizes.sorted(by: { ($0.source, $0.target) > ($1.source, $1.target) })
    where size.target > largest.last?.target ?? -1 {
      largest.append(size)
    }
    return largest
  }

  /// The share of all pairs' tokens that the encoder reads; `nil` where data is no pairs.
  public var sourceShare: Double? {
    guard case .pairs = arrangement else { return nil }
    var (sources, all) = (0, 0)
    for window in windows {
      sources += sourceLength(of: store.sequence(window.start..<window.start + window.count + 1))
      all += window.count
    }
    return Double(sources) / Double(max(all, 1))
  }

  /// How many tokens of a pair the encoder reads: the start token's prediction is the first that is learned.
  func sourceLength(of pair: TokenSequence) -> Int { (pair.isTarget.firstIndex(of: true) ?? 2) - 1 }
}
