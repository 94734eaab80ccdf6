import PeatTensor

/// What stands on a model's last states, and the names of its tensors: a row of the vocabulary per state, or of classes per sequence.
public struct HeadLayout: Sendable, Equatable {
  /// Which states have an output.
  public enum Place: String, Sendable, Codable {
    /// All of them.
    case each
    /// The first of a sequence.
    case first
    /// The last of a sequence.
    case last
    /// The mean of a sequence's, a model's own tokens left out; it stands in the place of the first.
    case mean
  }

  public var place: Place
  /// A layer before the last, `[d, d]`, and what follows it.
  public var dense: String?
  public var function: ActivationFunction?
  public var norm: String?
  /// The last layer's weight, `[outputs, d]`.
  public var weight: String
  /// Whether that is the embedding table.
  public var isTied: Bool
  public var bias: String?
  /// The classes' names; `nil`: the outputs are the vocabulary.
  public var labels: [String]?

  public init(
    place: Place = .each, dense: String? = nil, function: ActivationFunction? = nil,
    norm: String? = nil, weight: String, isTied: Bool = false, bias: String? = nil,
    labels: [String]? = nil
  ) {
    self.place = place
    self.dense = dense
    self.function = function
    self.norm = norm
    self.weight = weight
    self.isTied = isTied
    self.bias = bias
    self.labels = labels
  }

  /// Of a model that predicts each next token.
  static func nextToken(_ weight: String, isTied: Bool) -> HeadLayout {
    HeadLayout(weight: weight, isTied: isTied)
  }
}

extension TransformerConfiguration {
  /// Whether the last layer is the embedding table.
  public var tiesEmbeddings: Bool { head?.isTied ?? false }

  /// Throws where the model has no head that tuning could make better at what it says: none, or one of masked tokens.
  public func requireLearnableHead() throws {
    guard let head else {
      throw PeatError.usage(
        "This model of the type \(modelType) has no head: it gives states and predicts nothing. Have it tell classes apart, with task: classification or --task classification."
      )
    }
    guard attention.isCausal || head.labels != nil else {
      throw PeatError.usage(
        "This model of the type \(modelType) sees the tokens behind each token, so that there is nothing to predict. Have it tell classes apart, with task: classification or --task classification."
      )
    }
  }

  /// How many outputs a state has.
  public var outputCount: Int { head?.labels?.count ?? vocabularySize }

  /// Values of the head's own that are no table: of its first layer, its norm and its biases.
  public var headWeights: Int {
    guard let head else { return 0 }
    var count = head.bias == nil ? 0 : outputCount
    if head.dense != nil { count += hiddenSize * hiddenSize + hiddenSize }
    if head.norm != nil { count += normWeights(width: hiddenSize) }
    return count
  }
}
