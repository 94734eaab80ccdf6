import PeatData
import PeatModels
import PeatTensor
import PeatTokenizers

/// Makes a vector of a text out of a model's last states over the text's tokens, those that the tokenizer puts around it among them: their mean, if the recipe says
/// nothing else.
///
/// Source: Reimers and Gurevych 2019, <https://arxiv.org/abs/1908.10084>, section 3.
public struct TextEmbedder: Sendable {
  public let model: TransformerModel
  /// Tokens of a text that are read, at most.
  public var context: Int
  public var recipe: SentenceRecipe
  public var threads: Int

  /// - Parameters:
  ///   - context: what `recipe` says, at most what the model reads, if not given.
  /// - Throws: `usage` for a model that reads no text, and a context that is longer than it reads.
  public init(
    _ model: TransformerModel, recipe: SentenceRecipe = SentenceRecipe(), context: Int? = nil,
    threads: Int = 1
  ) throws {
    guard model.configuration.image == nil else {
      throw PeatError.usage("This model sees pictures and reads no text.")
    }
    guard !model.configuration.hasEncoder else {
      throw PeatError.usage(
        "This model of the type \(model.configuration.modelType) has an encoder and a decoder; vectors are made of the last states of a model that reads a text and says none."
      )
    }
    let context = context ?? min(recipe.longest ?? .max, model.contextLength)
    try model.checkContext(context)
    self.model = model
    self.context = context
    self.recipe = recipe
    self.threads = threads
  }

  /// - Returns: `[texts, d]`, or as many times `d` as the recipe has poolings; zeros of a text without tokens, which is empty where the tokenizer puts nothing around it.
  /// - Throws: `badData` where the model computes something else than numbers.
  public func embeddings(
    of texts: [String], tokenizer: Tokenizer, shouldStop: @Sendable () -> Bool = { false },
    onProgress: (@Sendable (_ done: Int, _ of: Int) -> Void)? = nil
  ) throws -> Tensor {
    try embeddings(
      of: rows(of: texts, tokenizer: tokenizer).tokens, shouldStop: shouldStop,
      onProgress: onProgress)
  }

  /// The tokens of texts that are read, and how many texts have more than that.
  public func rows(
    of texts: [String], tokenizer: Tokenizer
  ) throws -> (tokens: [[Int32]], shortened: Int) {
    func encode(_ texts: [String], _ truncation: Truncation?) throws -> [[Int32]] {
      try tokenizer.encodeBatch(
        texts, addSpecialTokens: true, truncation: truncation, padding: nil
      ).map(\.numbers)
    }
    let texts = texts.map(recipe.prepared)
    let rows = try encode(texts, Truncation(maximumLength: context))
    // Those that are shorter are whole.
    let full = zip(texts, rows).filter { $0.1.count >= context }.map(\.0)
    return (rows, try encode(full, nil).count { $0.count > context })
  }

  /// Of texts whose tokens are known.
  public func embeddings(
    of rows: [[Int32]], shouldStop: @Sendable () -> Bool = { false },
    onProgress: (@Sendable (_ done: Int, _ of: Int) -> Void)? = nil
  ) throws -> Tensor {
    let width = model.configuration.embeddingWidth
    for row in rows { try model.checkTokens(row) }
    let values = try concurrently(
      count: rows.count, threads: threads, shouldStop: shouldStop, onProgress: onProgress
    ) { number, tape in
      // No states: sentence-transformers' mean of nothing is 0 too.
      guard !rows[number].isEmpty else {
        return [Float](repeating: 0, count: width * recipe.poolings.count)
      }
      let states = rows[number].withUnsafeBufferPointer {
        model.hiddenStates($0, layout: SequenceLayout(lengths: [$0.count]), on: tape)
      }
      let scalars = Array(states.tensor().scalars)
      var vector = recipe.poolings.flatMap { $0.vector(of: scalars, width: width) }
      if recipe.isNormalized {
        let length = vector.reduce(0) { $0 + $1 * $1 }.squareRoot()
        if length > 0 { vector = vector.map { $0 / length } }
      }
      return vector
    }.flatMap { $0 }
    guard values.allSatisfy(\.isFinite) else {
      throw PeatError.badData(
        "The model computes NaN or infinity: its weights are damaged, or the adapter diverged.")
    }
    return Tensor(values, shape: [rows.count, width * recipe.poolings.count])
  }
}
