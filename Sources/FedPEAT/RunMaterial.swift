import Foundation

/// What a run is made of before anybody trains: the split, an emulator per level, the adapter that the first round begins with, and what the
/// emulators cost.
struct RunMaterial: Sendable {
  let split: ModelSplit
  let emulators: [Emulator]
  let adapter: Adapter
  let costs: EmulatorCosts

  init(_ configuration: RunConfiguration, _ owner: ModelOwner) throws {
    let split = try ModelSplit(
      bottom: configuration.bottom, top: configuration.top, of: owner.model.blocks.count)
    self.split = split
    emulators = try configuration.emulators.map {
      try EmulatorRecipe($0).makeEmulator(from: owner.model, split: split)
    }
    adapter = try Adapter(
      new: configuration.adapterMethod(), for: owner.model, blocks: split.ends,
      seed: configuration.seed, sourceDigest: owner.digest)
    costs = EmulatorCosts(configuration, owner, split)
  }

  /// Bytes of the adapter each way.
  var adapterBytes: Int { 4 * adapter.parameterCount }

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
  ) -> EdgeConfiguration {
    var edge = self
    edge.levels = levels
    edge.adapterBytes = Double(material.adapterBytes)
    edge.middleBlocks = material.split.middle.count
    edge.maxExposure = min(maxExposure, configuration.maxExposure)
    // What is learned is of use after the run too.
    edge.rounds = configuration.rounds + LivePlanner.roundsAfter
    edge.target = edge.target(of: configuration)
    edge.server.weight = configuration.participate ? configuration.serverWeight : 0
    return edge
  }

  /// The gap at which a run has what it is for.
  func target(of configuration: RunConfiguration) -> Double {
    configuration.targetPerplexity.flatMap(learning.gap) ?? target
  }
}
