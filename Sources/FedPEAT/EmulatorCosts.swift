import Foundation

/// What the emulators of a run cost a device and are worth, in the numbers that planners use.
struct EmulatorCosts {
  private let configuration: RunConfiguration
  private let owner: ModelOwner
  private let split: ModelSplit
  private let digests: [String?]
  /// Of a model with an encoder, how the tokens of what is measured on divide; nothing where that is not known.
  private let pairs: [PairSize]
  private let sourceShare: Double

  /// - Parameter digests: of the emulators that are more than their recipes say; see `EdgeCalibration`.
  init(
    _ configuration: RunConfiguration, _ owner: ModelOwner, _ split: ModelSplit,
    digests: [String?]
  ) {
    self.configuration = configuration
    self.owner = owner
    self.split = split
    self.digests = digests
    let texts = owner.model.configuration.hasEncoder ? owner.evaluation ?? [] : []
    let data = try? owner.dataset(texts)
    pairs = data?.largestPairs ?? []
    sourceShare = data?.sourceShare ?? 0.5
  }

  /// The blocks of the middle that an emulator shows, from 0, each with the share of the middle's weights that it shows of it.
  func contents(of emulator: Emulator) -> [Int: Double] { emulator.shownBlocks(of: owner.model) }

  /// A level as it follows from the emulator's shape: bytes as they are sent, operations of a round's training, memory by the plan that
  /// tuning makes, and the share of the middle that is kept for a fidelity.
  func level(
    of emulator: Emulator, packageBytes: Int, method: Adapter.Method
  ) throws -> EmulatorLevel {
    let model = emulator.model.configuration
    let ends = emulator.keptBlocks.indices.filter {
      !split.middle.contains(emulator.keptBlocks[$0])
    }
    var demands = MemoryDemands(
      model: model, packed: emulator.model.packedStorages, method: method, blocks: ends,
      batch: configuration.batch, context: configuration.context,
      threads: configuration.threads ?? 1)
    demands.pairs = pairs
    let contents = contents(of: emulator).sorted { $0.key < $1.key }
    let whole = 1 / Double(split.middle.count)
    return EmulatorLevel(
      emulator.recipe.description, bytes: Double(packageBytes),
      work: Double(configuration.roundTokens)
        * model.stepOperations(
          firstTrained: model.order.firstIndex(where: ends.contains) ?? 0,
          sourceShare: sourceShare),
      memory: Double(
        demands.bytes(
          storage: .float32, checkpointing: false, accumulation: 1,
          logitRows: MemoryDemands.usualLogitRows(checkpointing: false),
          base: MemoryDemands.bareProcess)),
      fidelity: Double(emulator.middleCount) / Double(split.middle.count),
      blocks: contents.map(\.key),
      shown: contents.allSatisfy { abs($0.value - whole) < 1e-9 } ? nil : contents.map(\.value))
  }

  /// The run's levels: as an edge file measured them, where its levels are this run's; else as they follow from their shapes.
  func levels(
    of emulators: [Emulator], packageBytes: [Int], method: Adapter.Method,
    in edge: EdgeConfiguration?
  ) throws -> [EmulatorLevel] {
    let computed = try zip(emulators, packageBytes).map {
      try level(of: $0, packageBytes: $1, method: method)
    }
    guard let edge, mismatch(of: emulators, method: method, with: edge) == nil else {
      return computed
    }
    let own = calibration(method: method)
    return zip(edge.levels, computed).map { measured, computed in
      var level = measured
      // What is shown is known, also where an older file says less.
      (level.blocks, level.shown) = (computed.blocks, computed.shown)
      // Time and energy are a token's, times tokens; memory is that of a step as large.
      level.work *= own.roundTokens / edge.calibration.roundTokens
      if own.stepTokens != edge.calibration.stepTokens || own.context != edge.calibration.context
        || own.method != edge.calibration.method
      {
        level.memory = computed.memory
      }
      return level
    }
  }

  /// Why an edge's levels were not measured for these emulators of this run's model, split as it is here; `nil` where they were.
  func mismatch(
    of emulators: [Emulator], method: Adapter.Method, with edge: EdgeConfiguration
  ) -> String? {
    if let reason = edge.calibration.mismatch(with: calibration(method: method)) { return reason }
    let (own, runs) = (edge.levels.map(\.name), emulators.map(\.recipe.description))
    return own == runs
      ? nil
      : "it was measured for \(own.joined(separator: " and ")), the run's emulators are \(runs.joined(separator: " and "))"
  }

  /// What says for which run levels are measured.
  func calibration(method: Adapter.Method) -> EdgeCalibration {
    var result = EdgeCalibration()
    result.model = owner.digest.hex
    (result.bottom, result.top) = (split.bottom, split.top)
    result.emulators = digests
    result.method = method.name
    if case .lora(let lora) = method {
      result.method += " of rank \(lora.rank)"
      result.alpha = lora.alpha
    }
    // As it is written, not as 32 bits hold it.
    result.learningRate = Double("\(configuration.learningRate)")
    result.context = Double(configuration.context)
    result.stepTokens = Double(configuration.stepTokens)
    result.roundTokens = Double(configuration.roundTokens)
    return result
  }
}

extension ModelOwner {
  /// How well updates made through emulators point the way of those made through the full model: for each the cosine of the adapter's
  /// gradients, below 0 as 0, on the first windows of the evaluation text.
  ///
  /// To first order it is the share of a step's progress that is left where an emulator stands for the middle.
  func fidelities(of emulators: [Emulator], with adapter: Adapter) throws -> [Double] {
    let dataset = try dataset(evaluation ?? [])
    let settings = configuration.training(steps: 1, rate: configuration.learningRate, seed: 0)
    func gradient(_ model: TransformerModel) throws -> AdapterGradient {
      try AdapterGradient(of: adapter, through: model, on: dataset, settings: settings)
    }
    let full = try gradient(model)
    return try emulators.map { max(try gradient($0.model).compared(with: full).cosine, 0) }
  }
}
