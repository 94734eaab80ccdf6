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
