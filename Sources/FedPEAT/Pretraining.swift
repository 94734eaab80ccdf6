import Foundation

/// The shape and the training of a small foundation model of one's own.
public struct PretrainingConfiguration: PretrainingSettings, Sendable, Codable, Equatable {
  public var vocabularySize: Int
  public var blocks: Int
  public var hiddenSize: Int
  public var heads: Int
  public var keyValueHeads: Int
  public var feedForwardSize: Int
  public var context: Int
  public var batch: Int
  public var learningRate: Float
  public var warmUpSteps: Int
  /// Steps at most, the final decay included.
  public var maximumSteps: Int
  /// The held-out loss is measured every so many steps.
  public var measureEvery: Int
  /// The loss has levelled off when it fell by less than this share…
  public var levelShare: Double
  /// …over so many measurements.
  public var patience: Int
  /// The share of the text that is held out.
  public var heldOutShare: Double
  public var seed: UInt64
  public var threads: Int

  public init(
    vocabularySize: Int = 1024, blocks: Int = 8, hiddenSize: Int = 128, heads: Int = 4,
    keyValueHeads: Int = 2, feedForwardSize: Int = 344, context: Int = 256, batch: Int = 16,
    learningRate: Float = 3e-3, warmUpSteps: Int = 50, maximumSteps: Int = 2000,
    measureEvery: Int = 50, levelShare: Double = 0.02, patience: Int = 3,
    heldOutShare: Double = 0.05, seed: UInt64 = 0, threads: Int = 1
  ) {
    self.vocabularySize = vocabularySize
    self.blocks = blocks
    self.hiddenSize = hiddenSize
    self.heads = heads
    self.keyValueHeads = keyValueHeads
    self.feedForwardSize = feedForwardSize
    self.context = context
    self.batch = batch
    self.learningRate = learningRate
    self.warmUpSteps = warmUpSteps
    self.maximumSteps = maximumSteps
    self.measureEvery = measureEvery
    self.levelShare = levelShare
    self.patience = patience
    self.heldOutShare = heldOutShare
    self.seed = seed
    self.threads = threads
  }

  public func validate() throws {
    func check(_ holds: Bool, _ message: String) throws {
      if !holds { throw PeatError.usage(message) }
    }
    try checkSizes([
      ("blocks", blocks), ("The hidden size", hiddenSize), ("heads", heads),
      ("keyValueHeads", keyValueHeads), ("The feed-forward size", feedForwardSize),
      ("context", context),
    ])
    try check(
      hiddenSize % heads == 0 && (hiddenSize / heads) % 2 == 0,
      "The hidden size \(hiddenSize) must be an even multiple of the \(heads) heads.")
    try check(
      heads % keyValueHeads == 0,
      "\(heads) heads can't share \(keyValueHeads) key/value heads evenly.")
    try check(
      vocabularySize >= 257,
      "A vocabulary of \(vocabularySize) is too small for the 256 bytes and an end token.")
    try checkRates()
    // Weights, gradients and two moments.
    try MemoryDemand.check(
      bytes: 16 * parameterEstimate, for: "Pretraining a model of this size",
      advice: "Make the model smaller: --blocks, --hidden-size, --vocabulary.")
  }

  private var parameterEstimate: Double {
    let width = Double(hiddenSize)
    return Double(vocabularySize) * width
      + Double(blocks) * (2 * width * width + 3 * width * Double(feedForwardSize))
  }

  /// config.json of the model, as transformers reads it.
  func modelConfiguration(vocabularySize: Int, endToken: Int32?) -> JSONValue {
    .object([
      "architectures": .array([.string("LlamaForCausalLM")]),
      "model_type": .string("llama"),
      "hidden_act": .string("silu"),
      "hidden_size": .integer(hiddenSize),
      "intermediate_size": .integer(feedForwardSize),
      "num_hidden_layers": .integer(blocks),
      "num_attention_heads": .integer(heads),
      "num_key_value_heads": .integer(keyValueHeads),
      "head_dim": .integer(hiddenSize / heads),
      "max_position_embeddings": .integer(context),
      "rms_norm_eps": .number(1e-5),
      "rope_theta": .number(10000),
      "vocab_size": .integer(vocabularySize),
      "tie_word_embeddings": .bool(true),
      "attention_bias": .bool(false),
      "mlp_bias": .bool(false),
      "torch_dtype": .string("float32"),
      "bos_token_id": endToken.map { .integer(Int($0)) } ?? .null,
      "eos_token_id": endToken.map { .integer(Int($0)) } ?? .null,
    ])
  }
}

/// Trains a small Llama-type model from scratch, until its held-out loss levels off.
public struct Pretraining {
  /// What a finished model is.
  public struct Report: Sendable, Codable, Equatable {
    public var parameters: Int
    /// Mean nats per token on the held-out text.
    public var loss: Double
    public var perplexity: Double
    public var steps: Int
    public var tokens: Int
    public var seconds: Double
    public var tokensPerSecond: Double
    /// Whether the held-out loss levelled off before the steps ran out.
    public var levelledOff: Bool
    public var vocabularySize: Int
  }

  public enum Event: Sendable {
    case tokenizer(vocabularySize: Int, tokens: Int)
    /// What is learned from, where these are pictures.
    case pictures(classes: Int, training: Int, heldOut: Int)
    /// `tokensPerSecond`: or pictures.
    case step(Int, of: Int, loss: Double, tokensPerSecond: Double, timeLeft: Duration)
    case heldOut(step: Int, loss: Double)
    case levelledOff(step: Int, share: Double, over: Int)
    /// The held-out loss had risen: the text is too small for the model. The weights are those of the best step again.
    case wentBack(toStep: Int, loss: Double)
  }

  public let configuration: PretrainingConfiguration
  public let tokenizer: Tokenizer
  public let model: TransformerModel
  private let modelJSON: JSONValue
  private let training: TokenDataset
  private let heldOut: TokenDataset

  /// Learns the vocabulary and draws the first weights.
  public init(_ documents: [Document], _ configuration: PretrainingConfiguration) throws {
    try self.init(configuration, vocabularyOf: documents) { tokenizer, model in
      try TokenDataset.make(
        documents, reader: .texts(tokenizer), for: model, layout: .packed,
        context: configuration.context, addBegin: true)
    }
  }

  /// From a text or JSON lines that may be larger than memory, as one stream; the vocabulary is learned from its first 32 MiB, and the end is held out.
  public init(streaming text: URL, _ configuration: PretrainingConfiguration) throws {
    try self.init(
      configuration, vocabularyOf: StreamedText.sample(of: text, bytes: 32 << 20)
    ) { tokenizer, model in
      try .streaming(
        text, reader: .texts(tokenizer), for: model, context: configuration.context,
        addBegin: true)
    }
  }

  private init(
    _ configuration: PretrainingConfiguration, vocabularyOf sample: [Document],
    _ data: (Tokenizer, TransformerConfiguration) throws -> TokenDataset
  ) throws {
    try configuration.validate()
    self.configuration = configuration
    tokenizer = try ByteLevelBPETrainer(vocabularySize: configuration.vocabularySize)
      .train(on: sample.map(\.text))
    modelJSON = configuration.modelConfiguration(
      vocabularySize: tokenizer.vocabularySize, endToken: tokenizer.endToken)
    model = try Pretraining.newModel(modelJSON, seed: configuration.seed)
    let all = try data(tokenizer, model.configuration)
    let parts = try all.split(validationShare: configuration.heldOutShare, seed: configuration.seed)
    training = parts.training
    heldOut = parts.validation
  }

  /// Weights drawn as transformers draws them: normal with deviation 0.02; products into the residual stream smaller by
  /// √(2 · blocks), after GPT-2; norms 1.
  private static func newModel(_ json: JSONValue, seed: UInt64) throws -> TransformerModel {
    let configuration = try Architectures.configuration(
      from: ConfigurationFile(name: "the new model's configuration", json: json))
    var random = SeededRandom(seed: seed, "first weights")
    let keys = configuration.keys
    let hidden = configuration.hiddenSize
    let inner = configuration.feedForwardSize
    let keyWidth = configuration.keyValueHeads * configuration.headWidth
    let residual = 0.02 / Float(2 * configuration.blockCount).squareRoot()
    func ones() -> Tensor { Tensor(repeating: 1, shape: [hidden]) }
    var tensors: NamedTensors = [
      keys.embedding: .normal(
        [configuration.vocabularySize, hidden], deviation: 0.02, using: &random)
    ]
    if let norm = keys.finalNorm { tensors["\(norm).weight"] = ones() }
    guard case .separate(let query, let key, let value) = keys.projections, let gate = keys.gate
    else {
      preconditionFailure("a new model is of the Llama type")
    }
    for block in 0..<configuration.blockCount {
      let prefix = keys.block(block)
      tensors["\(prefix).\(keys.attentionNorm).weight"] = ones()
      tensors["\(prefix).\(keys.feedForwardNorm).weight"] = ones()
      let shapes: [(String, [Int], Float)] = [
        (query, [hidden, hidden], 0.02), (key, [keyWidth, hidden], 0.02),
        (value, [keyWidth, hidden], 0.02), (keys.attentionOutput, [hidden, hidden], residual),
        (gate, [inner, hidden], 0.02), (keys.up, [inner, hidden], 0.02),
        (keys.down, [hidden, inner], residual),
      ]
      for (path, shape, deviation) in shapes {
        tensors["\(prefix).\(path).weight"] = .normal(shape, deviation: deviation, using: &random)
      }
    }
    return try TransformerModel(configuration: configuration, tensors: tensors, source: "new model")
  }

  /// Trains until the held-out loss levels off or the steps run out.
  ///
  /// - Parameters:
  ///   - state: to go on from.
  ///   - saving: where the state is saved when it is interrupted.
  public func run(
    resuming state: PretrainingState? = nil, saving: PretrainingSaving? = nil,
    shouldStop: () -> Bool = { false }, onEvent: (Event) -> Void = { _ in }
  ) throws -> Report {
    onEvent(.tokenizer(vocabularySize: tokenizer.vocabularySize, tokens: training.tokenCount))
    let loop = try configuration.loop(
      model, training: training, heldOut: heldOut, context: configuration.context, resuming: state)
    let outcome = try loop.run(saving: saving, shouldStop: shouldStop, onEvent: onEvent)
    return Report(
      parameters: model.parameterCount, loss: outcome.loss,
      perplexity: Foundation.exp(outcome.loss),
      steps: outcome.steps, tokens: outcome.targets, seconds: outcome.seconds,
      tokensPerSecond: Double(outcome.targets) / max(outcome.seconds, 1e-9),
      levelledOff: outcome.levelledOff, vocabularySize: tokenizer.vocabularySize)
  }

  /// Writes the model as a checkpoint folder.
  public func write(to folder: URL) throws {
    try CheckpointWriter.write(
      to: folder, tensors: model.tensors, configuration: modelJSON,
      otherFiles: tokenizer.sourceFiles.merging(CheckpointWriter.mark("pretrained")) { $1 })
  }
}
