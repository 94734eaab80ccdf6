import PeatData
import PeatModels
import PeatTensor
import PeatTokenizers

/// Makes a vector of a text: the mean of a model's last states over the text's tokens, those that the tokenizer puts around it among them.
///
/// Source: Reimers and Gurevych 2019, <https://arxiv.org/abs/1908.10084>, section 3 (MEAN).
public struct TextEmbedder: Sendable {
  public let model: TransformerModel
  /// Tokens of a text that are read, at most.
  public var context: Int
  /// Whether vectors are brought to length 1.
  public var isNormalized: Bool
  public var threads: Int

  public init(
    _ model: TransformerModel, context: Int? = nil, isNormalized: Bool = false, threads: Int = 1
  ) throws {
    guard model.configuration.image == nil else {
      throw PeatError.usage("This model sees pictures and reads no text.")
    }
    guard !model.configuration.hasEncoder else {
      throw PeatError.usage(
        "This model of the type \(model.configuration.modelType) has an encoder and a decoder; vectors are made of the last states of a model that reads a text and says none."
      )
    }
    let context = context ?? model.contextLength
    guard (1...max(model.contextLength, 1)).contains(context) else {
      throw PeatError.usage(
        "A context of \(context) does not fit: it must be between 1 and \(model.contextLength), the longest the model reads."
      )
    }
    self.model = model
    self.context = context
    self.isNormalized = isNormalized
    self.threads = threads
  }

  /// - Returns: `[texts, d]`.
  /// - Throws: `badData` where a text has no tokens, or the model computes something else than numbers.
  public func embeddings(
    of texts: [String], tokenizer: Tokenizer, shouldStop: @Sendable () -> Bool = { false },
    onProgress: (@Sendable (_ done: Int, _ of: Int) -> Void)? = nil
  ) throws -> Tensor {
    let encodings = try tokenizer.encodeBatch(
      texts, addSpecialTokens: true, truncation: Truncation(maximumLength: context), padding: nil)
    return try embeddings(
      of: encodings.map(\.numbers), shouldStop: shouldStop, onProgress: onProgress)
  }

  /// Of texts whose tokens are known.
  public func embeddings(
    of rows: [[Int32]], shouldStop: @Sendable () -> Bool = { false },
    onProgress: (@Sendable (_ done: Int, _ of: Int) -> Void)? = nil
  ) throws -> Tensor {
    let width = model.configuration.embeddingWidth
    for (number, row) in rows.enumerated() {
      guard !row.isEmpty else {
        throw PeatError.badData("Text \(number + 1) has no tokens, so it has no embedding.")
      }
      try model.checkTokens(row)
    }
    let values = try concurrently(
      count: rows.count, threads: threads, shouldStop: shouldStop, onProgress: onProgress
    ) { number, tape in
      let states = rows[number].withUnsafeBufferPointer {
        model.hiddenStates($0, layout: SequenceLayout(lengths: [$0.count]), on: tape)
      }
      var mean = Array(tape.pool(states, groups: 1).tensor().scalars.prefix(width))
      if isNormalized {
        let length = mean.reduce(0) { $0 + $1 * $1 }.squareRoot()
        if length > 0 { mean = mean.map { $0 / length } }
      }
      return mean
    }.flatMap { $0 }
    guard values.allSatisfy(\.isFinite) else {
      throw PeatError.badData(
        "The model computes NaN or infinity: its weights are damaged, or the adapter diverged.")
    }
    return Tensor(values, shape: [rows.count, width])
  }
}
