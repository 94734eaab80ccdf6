import Foundation

/// The shape and the training of a small model of pictures of one's own.
public struct PicturePretrainingConfiguration: PretrainingSettings, Sendable, Codable, Equatable {
  /// What the model is of.
  public enum Family: String, Sendable, Codable, CaseIterable {
    case vit
    case mixer
  }

  public var family: Family
  /// Side of the model's pictures, in pixels; `nil`: as the first picture's longer side.
  public var imageSize: Int?
  /// Side of a patch, in pixels.
  public var patchSize: Int
  public var blocks: Int
  public var hiddenSize: Int
  /// Of ViT.
  public var heads: Int
  /// `nil`: four times the hidden size.
  public var feedForwardSize: Int?
  /// Values between the layers that mix a mixer's tokens; `nil`: half the hidden size.
  public var tokenMixingSize: Int?
  /// Pictures per step.
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
  /// The share of the pictures that is held out.
  public var heldOutShare: Double
  public var seed: UInt64
  public var threads: Int

  public init(
    family: Family = .vit, imageSize: Int? = nil, patchSize: Int = 4, blocks: Int = 8,
    hiddenSize: Int = 128, heads: Int = 4, feedForwardSize: Int? = nil,
    tokenMixingSize: Int? = nil, batch: Int = 64, learningRate: Float = 1e-3,
    warmUpSteps: Int = 50, maximumSteps: Int = 2000, measureEvery: Int = 50,
    levelShare: Double = 0.02, patience: Int = 3, heldOutShare: Double = 0.05, seed: UInt64 = 0,
    threads: Int = 1
  ) {
    self.family = family
    self.imageSize = imageSize
    self.patchSize = patchSize
    self.blocks = blocks
    self.hiddenSize = hiddenSize
    self.heads = heads
    self.feedForwardSize = feedForwardSize
    self.tokenMixingSize = tokenMixingSize
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
    try checkSizes([
      ("The image size", imageSize ?? 1), ("The patch size", patchSize), ("blocks", blocks),
      ("The hidden size", hiddenSize), ("heads", heads),
      ("The feed-forward size", feedForwardSize ?? 1),
      ("The token mixing size", tokenMixingSize ?? 1),
    ])
    guard family == .mixer || hiddenSize % heads == 0 else {
      throw PeatError.usage(
        "The hidden size \(hiddenSize) must be a multiple of the \(heads) heads.")
    }
    try checkRates()
  }

  /// config.json of the model, as transformers reads it, or timm's `MlpMixer`.
  func modelConfiguration(side: Int, channels: Int, classes: [String]) -> JSONValue {
    let inner = feedForwardSize ?? 4 * hiddenSize
    let half = JSONValue.array(Array(repeating: .number(0.5), count: channels))
    switch family {
    case .vit:
      return .object(
        ViT.classifying(
          [
            "model_type": .string(ViT.modelType), "image_size": .integer(side),
            "patch_size": .integer(patchSize), "num_channels": .integer(channels),
            "hidden_size": .integer(hiddenSize), "num_hidden_layers": .integer(blocks),
            "num_attention_heads": .integer(heads), "intermediate_size": .integer(inner),
            "hidden_act": .string("gelu"), "layer_norm_eps": .number(1e-12),
            "qkv_bias": .bool(true), "torch_dtype": .string("float32"),
          ], classes))
    case .mixer:
      /// A ratio of the hidden size that makes so many, when it is cut to a whole number.
      func ratio(_ size: Int) -> JSONValue {
        let ratio = Double(size) / Double(hiddenSize)
        return .number(
          Int(ratio * Double(hiddenSize)) == size ? ratio : ratio.nextUp.nextUp)
      }
      let tokens = tokenMixingSize ?? max(hiddenSize / 2, 1)
      return .object(
        MLPMixer.classifying(
          [
            "model_type": .string(MLPMixer.modelType), "num_features": .integer(hiddenSize),
            "global_pool": .string("avg"),
            "model_args": .object([
              "img_size": .integer(side), "patch_size": .integer(patchSize),
              "in_chans": .integer(channels), "num_blocks": .integer(blocks),
              "embed_dim": .integer(hiddenSize),
              "mlp_ratio": .array([ratio(tokens), ratio(inner)]),
            ]),
            "pretrained_cfg": .object([
              "input_size": .array([.integer(channels), .integer(side), .integer(side)]),
              "interpolation": .string("bilinear"), "crop_pct": .number(1),
              "crop_mode": .string("center"), "mean": half, "std": half,
              "num_classes": .integer(classes.count), "first_conv": .string("stem.proj"),
              "classifier": .string("head"),
            ]),
          ], classes))
    }
  }
}

/// Trains a small model of pictures from scratch to tell classes apart, until its held-out loss levels off.
public struct PicturePretraining {
  /// What a finished model is.
  public struct Report: Sendable, Codable, Equatable {
    public var parameters: Int
    /// Mean nats per held-out picture.
    public var loss: Double
    /// The share of held-out pictures whose class it tells.
    public var accuracy: Double
    public var steps: Int
    public var pictures: Int
    public var seconds: Double
    public var picturesPerSecond: Double
    /// Whether the held-out loss levelled off before the steps ran out.
    public var levelledOff: Bool
    public var classes: [String]
  }

  public let configuration: PicturePretrainingConfiguration
  public let model: TransformerModel
  public let classes: [String]
  private let modelJSON: JSONValue
  private let preprocessor: JSONValue?
  private let training: TokenDataset
  private let heldOut: TokenDataset

  /// Cuts the pictures and draws the first weights.
  ///
  /// - Parameters:
  ///   - pictures: each with its class in the field `label`.
  ///   - shape: config.json of the model, of any family of pictures, in the place of the configuration's own shape; its classes become the pictures'.
  /// - Throws: `badData` where pictures have one class; `usage` where the model sees no pictures.
  public init(
    _ pictures: [Document], _ configuration: PicturePretrainingConfiguration,
    shape: JSONValue? = nil
  ) throws {
    try configuration.validate()
    self.configuration = configuration
    let classes = try ClassificationTask.labels(of: pictures)
    guard let first = pictures.first?.picture else {
      throw PeatError.badData("There are no pictures to learn from.")
    }
    let side = configuration.imageSize ?? max(first.width, first.height)
    let json =
      try shape.map { try Architectures.classifying($0, classes) }
      ?? configuration.modelConfiguration(
        side: side, channels: first.channels == 1 ? 1 : 3, classes: classes)
    let description = try Architectures.configuration(
      from: ConfigurationFile(name: "the new model's configuration", json: json))
    guard let image = description.image, description.head?.labels == classes else {
      throw PeatError.usage(
        "A model of the type \(description.modelType) sees no pictures; give config.json of one that does, such as \(ViT.modelType) or \(MLPMixer.modelType)."
      )
    }
    // Weights, gradients and two moments.
    let count = description.tensors.reduce(0.0) { sum, tensor in
      sum + tensor.shape.reduce(1.0) { $0 * Double($1) }
    }
    try MemoryDemand.check(
      bytes: 16 * count, for: "Pretraining a model of this size",
      advice: "Make the model smaller: --blocks, --hidden-size.")
    let processing = Self.preprocessing(image, json)
    let model = try Self.newModel(description, seed: configuration.seed)
    let reader = InputReader.pictures(
      try processing.map { try ImagePreprocessing($0, name: "preprocessor_config.json") }
        ?? ImagePreprocessing(
          timm: json["pretrained_cfg"] ?? .null, width: image.width, height: image.height,
          name: "config.json"))
    let all = try TokenDataset.make(
      pictures, reader: reader, for: description, layout: .stream,
      context: description.contextLength, addBegin: nil)
    let parts = try all.split(validationShare: configuration.heldOutShare, seed: configuration.seed)
    (self.model, self.classes, modelJSON, preprocessor) = (model, classes, json, processing)
    (training, heldOut) = (parts.training, parts.validation)
  }

  /// preprocessor_config.json: resized to the model's size, −1 … 1; `nil` where config.json says it, as timm's does.
  private static func preprocessing(_ image: ImageInput, _ json: JSONValue) -> JSONValue? {
    if json["pretrained_cfg"]?.object != nil { return nil }
    let half = JSONValue.array(Array(repeating: .number(0.5), count: image.channels == 1 ? 1 : 3))
    return .object([
      "image_processor_type": .string("ViTImageProcessor"), "do_resize": .bool(true),
      "size": .object(["height": .integer(image.height), "width": .integer(image.width)]),
      "resample": .integer(ResizeFilter.bilinear.rawValue), "do_rescale": .bool(true),
      "rescale_factor": .number(1.0 / 255), "do_normalize": .bool(true), "image_mean": half,
      "image_std": half,
    ])
  }

  /// Matrices of linear layers normal with variance 2 / (inputs + outputs) (Glorot and Bengio 2010), those into the states smaller by √(2 · blocks), after
  /// GPT-2; tables normal with deviation 0.02; norms that change nothing, biases 0.
  private static func newModel(
    _ configuration: TransformerConfiguration, seed: UInt64
  ) throws -> TransformerModel {
    var random = SeededRandom(seed: seed, "first weights")
    let residual = 1 / Float(2 * configuration.blockCount).squareRoot()
    var tensors: NamedTensors = [:]
    for (name, shape, role) in configuration.tensors {
      switch role {
      case .table: tensors[name] = .normal(shape, deviation: 0.02, using: &random)
      case .matrix(let inputs, let outputs, let intoStates):
        let deviation = (2 / Float(inputs + outputs)).squareRoot()
        tensors[name] = .normal(
          shape, deviation: intoStates ? deviation * residual : deviation, using: &random)
      case .scale(let neutral): tensors[name] = Tensor(repeating: neutral, shape: shape)
      case .shift: tensors[name] = Tensor(zeros: shape)
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
    shouldStop: () -> Bool = { false }, onEvent: (Pretraining.Event) -> Void = { _ in }
  ) throws -> Report {
    onEvent(
      .pictures(
        classes: classes.count, training: training.windowCount, heldOut: heldOut.windowCount))
    let loop = try configuration.loop(
      model, training: training, heldOut: heldOut, context: training.context, resuming: state)
    let outcome = try loop.run(saving: saving, shouldStop: shouldStop, onEvent: onEvent)
    let told = try ClassificationMeasure(threads: configuration.threads).report(model, heldOut)
    return Report(
      parameters: model.parameterCount, loss: outcome.loss, accuracy: told.accuracy,
      steps: outcome.steps, pictures: outcome.targets, seconds: outcome.seconds,
      picturesPerSecond: Double(outcome.targets) / max(outcome.seconds, 1e-9),
      levelledOff: outcome.levelledOff, classes: classes)
  }

  /// Writes the model as a checkpoint folder.
  public func write(to folder: URL) throws {
    var others = try CheckpointWriter.mark("pretrained")
    others["preprocessor_config.json"] = try preprocessor.map { try JSONFile.encode($0) }
    try CheckpointWriter.write(
      to: folder, tensors: model.tensors, configuration: modelJSON, otherFiles: others)
  }
}
