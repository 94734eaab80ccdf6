import PeatData
import PeatModels
import PeatNN
import PeatTensor

extension MemoryDemands {
  /// What a trainer asks for beside the weights of a model that is there, by its blocks as they are: narrower, factored, packed or run more than once.
  ///
  /// - Parameters:
  ///   - parameters: all that trains, the model's own weights or low-rank updates beside them.
  ///   - isRagged: whether batches differ in shape.
  ///   - sequencesPerWindow: the most that a window has.
  ///   - pairs: the data's largest pairs.
  ///   - sharesGradient: whether threads add to one gradient.
  package init(
    of model: TransformerModel, tuning parameters: [Parameter],
    _ configuration: TrainingConfiguration, isRagged: Bool, sequencesPerWindow: Int = 1,
    pairs: [PairSize] = [],
    sharesGradient: Bool
  ) {
    let chosen = Set(parameters.map(ObjectIdentifier.init))
    func trains(_ parameter: Parameter) -> Bool { chosen.contains(ObjectIdentifier(parameter)) }
    func updates(_ block: TransformerBlock) -> [LowRankPair] {
      block.linears.compactMap(\.lowRank).filter { trains($0.down) || trains($0.up) }
    }
    let blocks = model.blocks.indices.filter {
      model.blocks[$0].parameters.contains(where: trains) || !updates(model.blocks[$0]).isEmpty
        || model.blocks[$0].added.contains(where: trains)
    }
    self.init(
      model: model.configuration, packed: model.packedStorages, method: .endBlocks, blocks: blocks,
      batch: configuration.batch, context: configuration.context, threads: configuration.threads)
    if trains(model.embedding) || model.positions.map(trains) == true || model.prompt != nil {
      frozenPrefix = 0
    }
    added = AddedMemory(of: model)
    rank =
      model.blocks.flatMap(updates).map { $0.down.shape.first ?? 0 }.max() ?? 0
    trainable = parameters.reduce(0) { $0 + $1.count }
    trainableWeights = model.parameters.filter(trains).reduce(0) { $0 + $1.count }
    adapterCopies = 0
    self.isRagged = isRagged
    self.sequencesPerWindow = sequencesPerWindow
    self.pairs = pairs
    self.sharesGradient = sharesGradient
  }

  /// Throws `usage` where a step, computed as a configuration says, and the model's weights do not fit into the machine's memory together.
  ///
  /// - Parameters:
  ///   - weightBytes: of the model.
  ///   - machine: bytes that the machine has.
  package func check(
    _ configuration: TrainingConfiguration, weightBytes: Int,
    machine: Double = MemoryDemand.machineBytes
  ) throws {
    try MemoryDemand.check(
      bytes: Double(weightBytes)
        + stepBytes(
          checkpointing: configuration.checkpointing, accumulation: configuration.accumulation,
          logitRows: configuration.logitRows),
      for: "A step of \(batch) windows of \(context) tokens", machine: machine,
      advice: "Make batch or context smaller, raise accumulation, or turn on checkpointing.")
  }
}
