import Foundation

/// How each side of a federation tunes in a round: the training instructions that the coordinator sends.
public struct LocalTuning: Sendable, Codable, Equatable {
  /// How documents are laid into windows.
  public enum Layout: String, ConfigurationWord {
    case stream, packed, documents
  }

  /// Steps, batch, context, rate, …; seed and threads are set by whoever tunes.
  public var training: TrainingConfiguration
  public var layout: Layout
  /// Whether documents begin with the begin token; `nil`: as the tokenizer does.
  public var addBegin: Bool?
  /// Whether A of each low-rank pair does not train (`true` where the strategy is `ffa`).
  public var freezesDown = false
  /// μ of the term that holds the adapter near where the round began; absent: none.
  public var proximal: Double?
  /// Whether a device's AdamW goes on with its moments from round to round; absent: it begins anew.
  public var keepsMoments: Bool?
  /// Whether gradients are corrected by control variates, which come with the adapter.
  public var usesControls: Bool?
  /// The method's configuration; all are absent for plain end blocks.
  public var lora: LoRAConfiguration?
  public var prefix: VirtualTokenConfiguration?
  public var prompt: VirtualTokenConfiguration?
  public var bottleneck: BottleneckConfiguration?
  public var ia3: IA3Configuration?
  /// A method that has nothing to say but its name, other than plain end blocks: `norm-tuning` or `bitfit`.
  public var named: String?

  public init(
    training: TrainingConfiguration, layout: Layout = .stream, addBegin: Bool? = nil,
    method: Adapter.Method
  ) {
    self.training = training
    self.layout = layout
    self.addBegin = addBegin
    switch method {
    case .lora(let configuration): lora = configuration
    case .prefixTuning(let configuration): prefix = configuration
    case .promptTuning(let configuration): prompt = configuration
    case .bottleneck(let configuration): bottleneck = configuration
    case .ia3(let configuration): ia3 = configuration
    case .normTuning, .bitFit: named = method.name
    case .endBlocks: break
    }
  }

  public var method: Adapter.Method {
    if let lora { return .lora(lora) }
    if let prefix { return .prefixTuning(prefix) }
    if let prompt { return .promptTuning(prompt) }
    if let bottleneck { return .bottleneck(bottleneck) }
    if let ia3 { return .ia3(ia3) }
    if named == NormTuning.name { return .normTuning }
    if named == BitFit.name { return .bitFit }
    return .endBlocks
  }

  /// How many further copies of all that trains the terms beside the loss take.
  var termCopies: Int {
    GradientTerms.copies(proximal: (proximal ?? 0) != 0, shift: usesControls ?? false)
      + (keepsMoments ?? false ? 2 : 0)
  }

  /// The documents' tokens, arranged for a model's head.
  public func dataset(
    _ documents: [Document], reader: InputReader, for model: TransformerConfiguration
  ) throws -> TokenDataset {
    try .make(
      documents, reader: reader, for: model, layout: layout, context: training.context,
      addBegin: addBegin, seed: training.seed)
  }
}

extension TokenDataset {
  /// Encodes documents and arranges their tokens: for predicting each next one or, as the model's head is, for saying hidden ones or telling classes apart; of a model
  /// with an encoder as pairs, whatever layout is asked for.
  ///
  /// - Parameters:
  ///   - addBegin: `nil` does what the tokenizer's own post-processor does; where tokens are hidden, false leaves all out that it would add.
  ///   - seed: of the tokens that are hidden where that has to repeat.
  /// - Throws: `usage` where the model has no head.
  public static func make(
    _ documents: [Document], reader: InputReader, for model: TransformerConfiguration,
    layout: LocalTuning.Layout, context: Int, addBegin: Bool?, seed: UInt64 = 0
  ) throws -> TokenDataset {
    try model.requireLearnableHead()
    if let head = model.head, let labels = head.labels {
      return try reader.dataset(
        documents, of: ClassificationTask(labels: labels, head: head),
        for: model, context: context)
    }
    let tokenizer = try reader.tokenizer
    if model.hasEncoder {
      return try .pairs(documents, tokenizer: tokenizer, for: model, context: context)
    }
    let documents = try tokenizer.rendered(documents)
    let arrangement: Arrangement =
      switch layout {
      case .stream: .stream(context: context)
      case .packed: .packed(context: context)
      case .documents: .documents(context: context)
      }
    if model.predictsMaskedTokens {
      return try MaskedTokenTask(tokenizer, addsSpecialTokens: addBegin ?? true).dataset(
        documents, arrangement, vocabularySize: model.vocabularySize, seed: seed)
    }
    let begin = try addBegin ?? tokenizer.addsBeginToken
    // In separate documents the model also learns where one ends.
    let end = layout != .stream && tokenizer.endToken != nil
    return try TokenDataset(
      documents.map {
        try TokenSequence($0, tokenizer: tokenizer, addBegin: begin, addEnd: end)
      }, arrangement)
  }
}
