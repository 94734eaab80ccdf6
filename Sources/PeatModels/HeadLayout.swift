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
  /// Classes; `nil`: the vocabulary.
  public var classes: Int?

  public init(
    place: Place = .each, dense: String? = nil, function: ActivationFunction? = nil,
    norm: String? = nil, weight: String, isTied: Bool = false, bias: String? = nil,
    classes: Int? = nil
  ) {
    self.place = place
    self.dense = dense
    self.function = function
    self.norm = norm
    self.weight = weight
    self.isTied = isTied
    self.bias = bias
    self.classes = classes
  }

  /// Of a model that predicts each next token.
  static func nextToken(_ weight: String, isTied: Bool) -> HeadLayout {
    HeadLayout(weight: weight, isTied: isTied)
  }
}

extension TransformerConfiguration {
  /// Whether the last layer is the embedding table.
  public var tiesEmbeddings: Bool { head?.isTied ?? false }

  /// How many outputs a state has.
  public var outputCount: Int { head?.classes ?? vocabularySize }

  /// Values of the head's own that are no table: of its first layer, its norm and its biases.
  var headWeights: Int {
    guard let head else { return 0 }
    var count = head.bias == nil ? 0 : outputCount
    if head.dense != nil { count += hiddenSize * hiddenSize + hiddenSize }
    if head.norm != nil { count += normWeights(width: hiddenSize) }
    return count
  }
}
