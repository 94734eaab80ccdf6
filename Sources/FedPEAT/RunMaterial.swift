import Foundation

/// What a run is made of before anybody trains: the split, an emulator per level, the adapter that the first round begins with, and what the
/// emulators cost.
struct RunMaterial: Sendable {
  let split: ModelSplit
  let emulators: [Emulator]
  let adapter: Adapter
  let costs: EmulatorCosts
  /// What is sent each way: shapes of the adapter and of what the strategy sends beside it, and of that what clients send back.
  private let sent: (down: [String: [Int]], up: [String: [Int]])

  init(_ configuration: RunConfiguration, _ owner: ModelOwner) throws {
    let split = try ModelSplit(
      bottom: configuration.bottom, top: configuration.top, of: owner.model.blocks.count)
    self.split = split
    var digests: [String?] = []
    let sources = try configuration.emulators.map(EmulatorSource.init)
    var recipes = try EmulatorRecipe.nested(
      sources.compactMap { source in
        if case .recipe(let recipe) = source { recipe } else { nil }
      })[...]
    emulators = try sources.compactMap { source in
      switch source {
      case .recipe:
        digests.append(nil)
        return try recipes.popFirst()?.makeEmulator(from: owner.model, split: split)
      case .folder(let folder):
        let emulator = try Self.emulator(in: folder, split, owner)
        let isPlain = emulator.distillation == nil && !emulator.recipe.needsCalibration
        digests.append(isPlain ? nil : try Checkpoint(folder: folder).digest().hex)
        return emulator
      }
    }
    let method = try configuration.adapterMethod(tokenizer: owner.reader.optionalTokenizer)
    try method.checkTargets(of: owner.model.configuration.keys)
    adapter = try Adapter(
      new: method, for: owner.model, blocks: split.ends, seed: configuration.seed,
      sourceDigest: owner.digest)
    costs = EmulatorCosts(configuration, owner, split, digests: digests)
    let rule = try configuration.aggregation
    let broadcast = rule.broadcast(adapter.state, StrategyState())
    sent = (broadcast.mapValues(\.shape), rule.trained(of: broadcast).mapValues(\.shape))
  }

  /// An emulator that `compress` wrote, if it is one of this model and this split.
  private static func emulator(
    in folder: URL, _ split: ModelSplit, _ owner: ModelOwner
  ) throws -> Emulator {
    let emulator = try Emulator(folder: folder)
    let source = try EmulatorFacts.read(in: folder)?.sourceDigest
    guard source == owner.digest else {
      throw PeatError.badData(
        "The emulator '\(folder.path)' was made from the model \(source?.short ?? "?")…; '\(owner.checkpoint.folder.path)' is \(owner.digest.short)…. Make it again from this model."
      )
    }
    guard emulator.split == split else {
      throw PeatError.badData(
        "The emulator '\(folder.path)' has \(emulator.split.bottom) bottom and \(emulator.split.top) top blocks; the run has \(split.bottom) and \(split.top). Set bottom and top as they are there."
      )
    }
    return emulator
  }

  /// Bytes of a whole update in 32 bits.
  var adapterBytes: Int {
    get throws { try UpdateEncoding(rank: nil, bits: nil).byteCount(sent.up) }
  }

  /// Bytes of the adapter as clients are sent it.
  func downloadBytes(_ configuration: RunConfiguration) throws -> Int {
    try BroadcastAdapter.byteCount(sent.down, as: configuration.downloadEncoding)
  }

  /// What updates take that a planner can ask for, beside those of the whole adapter.
  ///
  /// - Parameter own: how the run writes updates where planners can't choose; `nil`: in as many bits as the choice says.
  func uploads(
    _ choices: WorkChoices, _ settings: WorkSettings, own: UpdateEncoding?
  ) throws -> [UploadSize] {
    try choices.ranks.flatMap { share in
      try choices.uploadBits.compactMap { bits in
        var work = EdgeWork()
        work.rank = share
        let whole = choices.uploadBits.count == 1 ? own : nil
        let encoding = try (whole ?? UpdateEncoding(bits: bits)).limited(
          to: share == 1 ? nil : settings.rank(of: work))
        if encoding.isPlain { return nil }
        return UploadSize(rank: share, bits: bits, bytes: Double(encoding.byteCount(sent.up)))
      }
    }
  }

  /// The run's own settings of a device's work.
  func workSettings(_ configuration: RunConfiguration) -> WorkSettings {
    var work = WorkSettings(localSteps: configuration.localSteps, rank: nil)
    if case .lora(let lora) = adapter.method { work.rank = lora.rank }
    return work
  }

  /// Whether an edge's levels were measured for this run's emulators.
  func isMeasured(in edge: EdgeConfiguration) -> Bool {
    costs.mismatch(of: emulators, method: adapter.method, with: edge) == nil
  }

  /// Why what an edge says should not be trusted far in this run, in words.
  ///
  /// - Parameter name: of the edge, a file or a scenario.
  func cautions(in edge: EdgeConfiguration, named name: String) -> [String] {
    if let reason = costs.mismatch(of: emulators, method: adapter.method, with: edge) {
      return [
        "The edge '\(name)' is not of this run's emulators: \(reason). What they cost follows from their shapes, what they are worth from how much of the middle they keep, and how the loss falls is what the edge says; 'fedpeat calibrate' measures all that."
      ] + edge.calibration.cautions
    }
    let power = (1000 * edge.learning.work.steps).rounded() / 1000
    return edge.calibration.differences(
      from: costs.calibration(method: adapter.method), name: name,
      steps: edge.work.steps.count > 1
        ? "the measured power of steps, \(power)" : "the usual power of steps, \(power)")
      + edge.cautions(named: name)
  }

  /// The run's levels, as an edge file measured them or as they follow from their shapes.
  func levels(packageBytes: [Int], in edge: EdgeConfiguration?) throws -> [EmulatorLevel] {
    try costs.levels(
      of: emulators, packageBytes: packageBytes, method: adapter.method, in: edge)
  }
}

extension EdgeConfiguration {
  /// The edge as a run's: its emulators, its adapter, its rounds and its server.
  func with(
    _ levels: [EmulatorLevel], of material: RunMaterial, _ configuration: RunConfiguration
  ) throws -> EdgeConfiguration {
    var edge = scaled(to: configuration)
    edge.levels = levels
    edge.adapterBytes = Double(try material.adapterBytes)
    edge.downloadBytes = Double(try material.downloadBytes(configuration))
    edge.uploads = try material.uploads(
      edge.work, material.workSettings(configuration), own: configuration.uploadEncoding)
    edge.middleBlocks = material.split.middle.count
    edge.maxExposure = min(maxExposure, configuration.maxExposure)
    // What is learned is of use after the run too.
    edge.rounds = configuration.rounds + LivePlanner.roundsAfter
    edge.target = edge.target(of: configuration)
    edge.server = configuration.server(in: self)
    return edge
  }

  /// The edge for a run's emulators, which are what they are until they are made anew, and for rounds of another length than those that it was
  /// measured with: time, and what a round does to the loss.
  func scaled(to configuration: RunConfiguration) -> EdgeConfiguration {
    var edge = self
    // How copies age of levels that are made anew for each round says nothing of others.
    if levelsAge == .sinceSent { edge.learning.ageing = 0 }
    edge.levelsAge = .sinceMade
    edge.work = configuration.workChoices(in: self)
    guard calibration.roundTokens > 0 else { return edge }
    let factor = Double(configuration.roundTokens) / calibration.roundTokens
    edge.objective.referenceTime *= factor
    edge.deadline *= factor
    // A round that does more takes the adapter farther from what levels were made for.
    let pace = exponential(learning.work.steps * naturalLogarithm(factor))
    edge.learning.rate = min(learning.rate * pace, 0.99)
    edge.learning.ageing = min(edge.learning.ageing * pace, 100)
    return edge
  }

  /// The gap at which a run has what it is for.
  func target(of configuration: RunConfiguration) -> Double {
    configuration.targetPerplexity.flatMap(learning.gap) ?? target
  }
}

extension RunConfiguration {
  /// What planners may choose: as an edge says, with the run's own bits where there is no choice.
  func workChoices(in edge: EdgeConfiguration?) -> WorkChoices {
    var choices = edge?.work ?? WorkChoices()
    if choices.uploadBits.count == 1 {
      choices.uploadBits = [(try? uploadEncoding)?.bits ?? uploadBits]
    }
    return choices
  }

  /// The coordinator's own part, as fast as an edge says.
  func server(in edge: EdgeConfiguration?) -> EdgeServer {
    var server = edge?.server ?? EdgeServer()
    server.weight = participate ? serverWeight : 0
    if edge == nil { server.work = 0 }
    return server
  }
}
