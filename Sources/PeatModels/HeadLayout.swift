import PeatTensor

/// What stands on a model's last states, and the names of its tensors: a row of the vocabulary per state, or of classes per sequence.
public struct HeadLayout: Sendable, Equatable {
  /// Which states have an output.
  public enum Place: String, Sendable, Codable {
    /// All of them.
    case each
    /// The first of a sequence.
    case first
    /// The last of a sequence that is no filling: see `padToken`.
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
  /// Whether it is another one after all where the files have one that differs, whatever config.json says.
  public var isTiedUnlessStored = false
  /// What states are multiplied with on their way into the last layer.
  public var scale: Float = 1
  public var bias: String?
  /// Another name of the bias, for files that have none by the first.
  var otherBias: String?
  /// The token that a head on the last state looks past, whoever wrote it; `nil`: it looks at the very last.
  public var padToken: Int32?
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

  /// Of a model that says what stands at masked places, as BERT's head is made: the last layer has a bias of its own, and in its place one beside it where the layer is
  /// the embedding.
  static func maskedTokens(
    dense: String, function: ActivationFunction, norm: String, last: String, isTied: Bool,
    tiedBias: String
  ) -> HeadLayout {
    var head = HeadLayout(
      dense: dense, function: function, norm: norm, weight: "\(last).weight", isTied: isTied,
      bias: isTied ? tiedBias : "\(last).bias")
    head.otherBias = isTied ? "\(last).bias" : tiedBias
    return head
  }

  /// Where in a sequence the state stands that has the output of a class: the first, or the rightmost whose token is not `padToken`. If all are, the first.
  ///
  /// Mirrors transformers `GenericForSequenceClassification`.
  public static func place(
    ofClassIn tokens: some BidirectionalCollection<Int32>, atFirst: Bool, padToken: Int32?
  ) -> Int {
    guard !atFirst, !tokens.isEmpty else { return 0 }
    guard let padToken else { return tokens.count - 1 }
    guard let place = tokens.lastIndex(where: { $0 != padToken }) else { return 0 }
    return tokens.distance(from: tokens.startIndex, to: place)
  }

  /// Of a model that predicts each next token.
  static func nextToken(_ weight: String, isTied: Bool) -> HeadLayout {
    HeadLayout(weight: weight, isTied: isTied)
  }
}

extension TransformerConfiguration {
  /// Whether the last layer is the embedding table.
  public var tiesEmbeddings: Bool { head?.isTied ?? false }

  /// Throws where the model has no head, so that there is nothing to learn from a text.
  public func requireLearnableHead() throws {
    guard head != nil else {
      throw PeatError.usage(
        "This model of the type \(modelType) has no head: it gives states and predicts nothing. Have it tell classes apart, with task: classification or --task classification."
      )
    }
  }

  /// Whether the head says what stands at masked places, as queries see both ways.
  public var predictsMaskedTokens: Bool {
    head.map { $0.place == .each && $0.labels == nil && !attention.isCausal } ?? false
  }

  /// Throws where a model does not predict each next token.
  public func requireNextTokenHead(for what: String) throws {
    guard let head, head.labels == nil, !predictsMaskedTokens else {
      throw PeatError.usage(
        "\(what) needs a model that predicts each next token; this one of the type \(modelType) \(head == nil ? "has no head" : predictsMaskedTokens ? "predicts masked tokens" : "tells classes apart")."
      )
    }
  }

  /// How many outputs a state has.
  public var outputCount: Int { head?.labels?.count ?? vocabularySize }

  /// Values of the head's own that are no table: of its first layer, its norm and its biases.
  public var headWeights: Int {
    guard let head else { return 0 }
    var count = head.bias == nil ? 0 : outputCount
    if head.dense != nil { count += embeddingWidth * embeddingWidth + embeddingWidth }
    if head.norm != nil { count += normWeights(width: embeddingWidth) }
    return count
  }
}
