import PeatModels
import PeatNN
import PeatTensor

/// Low-rank adaptation: beside a frozen linear layer W stands s · B · A, of which A and B train.
///
/// Tensors are named as PEFT names them: `base_model.model.` + the layer's name + `.lora_A.weight` (`[r, inputs]`)
/// and `.lora_B.weight` (`[outputs, r]`). A remainder, which exact aggregation makes, is a second pair, `.remainder_A.weight` (`[q, inputs]`) and
/// `.remainder_B.weight`: it does not train, and stands in the layer's weight while the adapter is in.
///
/// Source: Hu et al. 2021, <https://arxiv.org/abs/2106.09685>.
public struct LoRA: TuningMethod {
  public static let name = "lora"
  static let prefix = "base_model.model."
  static let downSuffix = LowRankNames.down

  public let configuration: LoRAConfiguration

  public init(_ configuration: LoRAConfiguration) { self.configuration = configuration }

  /// A uniform in ±1/√inputs (Kaiming with a = √5, PEFT's default), B zero: the adapter starts as no change.
  public func initialState(
    for model: TransformerModel, blocks: [Int], using random: inout SeededRandom
  ) throws -> NamedTensors {
    let lookup = BlockLookup(model)
    try lookup.require(blocks)
    let known = model.configuration.keys.linearNames
    for target in configuration.targetModules ?? [] where !known.contains(target) {
      throw PeatError.usage(
        "Unknown target module '\(target)'. " + suggestion(for: target, among: known))
    }
    let rank = configuration.rank
    let chosen = blocks.compactMap { lookup.block($0)?.0 }.flatMap(\.linears).filter {
      targets($0.name)
    }
    // Values, their copies in training, gradient and two moments.
    try MemoryDemand.check(
      bytes: 24 * Double(rank) * chosen.reduce(0.0) { $0 + Double($1.inputs + $1.outputs) },
      for: "An adapter of rank \(rank)", advice: "Lower the rank.")
    var state: NamedTensors = [:]
    for number in blocks {
      guard let (block, local) = lookup.block(number) else { continue }
      for linear in block.linears where targets(linear.name) {
        let name = LoRA.prefix + lookup.fullName(linear.name, of: block, local: local)
        let bound = 1 / Float(linear.inputs).squareRoot()
        state["\(name).lora_A.weight"] = .uniform(
          [rank, linear.inputs], bound: bound, using: &random)
        state["\(name).lora_B.weight"] = Tensor(zeros: [linear.outputs, rank])
      }
    }
    return state
  }

  private func targets(_ layer: String) -> Bool {
    guard let targets = configuration.targetModules else { return true }
    return targets.contains(String(layer.split(separator: ".").last ?? ""))
  }

  public func inject(_ state: NamedTensors, into model: TransformerModel) throws -> InjectedAdapter
  {
    try inject(state, into: model, trainedRank: nil)
  }

  /// Puts a state into a model of which only the first components train.
  ///
  /// - Parameter trainedRank: how many rows of A and columns of B become parameters; the others stand in the layer's weight. `nil`: all.
  public func inject(
    _ state: NamedTensors, into model: TransformerModel, trainedRank: Int?
  ) throws -> InjectedAdapter {
    let layers = try pairs(in: state, for: model, trainedRank)
    for entry in layers {
      entry.layer.lowRank = entry.pair
      if let weight = entry.weight { entry.layer.weight.replace(with: weight) }
    }
    return InjectedAdapter(
      parameters: layers.flatMap { entry in
        [
          (entry.name + LowRankNames.down, entry.pair.down),
          (entry.name + LowRankNames.up, entry.pair.up),
        ]
      },
      undo: {
        for entry in layers {
          entry.layer.lowRank = nil
          if entry.weight != nil { entry.layer.weight.restore() }
        }
      })
  }

  /// A layer and what is put into it.
  private struct Entry {
    /// Its name in the adapter.
    var name: String
    var layer: Linear
    var pair: LowRankPair
    /// W with what does not train of the adapter; `nil` where all does.
    var weight: Tensor?
  }

  /// The layers a state belongs to.
  private func pairs(
    in state: NamedTensors, for model: TransformerModel, _ trainedRank: Int?
  ) throws -> [Entry] {
    let lookup = BlockLookup(model)
    var result: [Entry] = []
    var used = 0
    for (key, down) in state.sorted(by: { $0.key < $1.key }) where key.hasSuffix(LoRA.downSuffix) {
      let name = String(key.dropLast(LoRA.downSuffix.count))
      guard let layer = linear(name, lookup) else {
        throw PeatError.badData(
          "The adapter has '\(key)', for which this model has no layer. It has the blocks "
            + model.blocks.map { String($0.numberInFullModel) }.joined(separator: ", ") + " with "
            + model.configuration.keys.linearNames.joined(separator: ", ") + ".")
      }
      guard let up = state["\(name).lora_B.weight"] else {
        throw PeatError.badData("The adapter has '\(key)' but no '\(name).lora_B.weight'.")
      }
      guard down.shape.count == 2, down.shape[1] == layer.inputs, down.shape[0] > 0,
        up.shape == [layer.outputs, down.shape[0]]
      else {
        throw PeatError.badData(
          "The adapter's '\(name)' has A \(down.shape) and B \(up.shape); the model's layer maps "
            + "\(layer.inputs) to \(layer.outputs), so A is [r, \(layer.inputs)] and B [\(layer.outputs), r]. "
            + "Was it tuned for another model?")
      }
      guard layer.reduction == nil else {
        throw PeatError.badData(
          "The layer '\(layer.name)' is kept as two factors; adapters sit in the bottom and top blocks, which are whole."
        )
      }
      guard layer.lowRank == nil, !layer.weight.isReplaced else {
        throw PeatError.badData(
          "The layer '\(layer.name)' already carries an adapter; remove it first.")
      }
      used += 2
      let scale = configuration.scale(
        forLayer: String(name.dropFirst(LoRA.prefix.count)), rank: down.shape[0])
      var frozen: [LowRankFactors] = []
      if let remainder = try remainder(of: name, in: state, for: layer) {
        used += 2
        frozen.append(remainder)
      }
      var trained = LowRankFactors(down: down, up: up)
      if let trainedRank, trainedRank < trained.rank {
        frozen.append(trained.components(trainedRank..<trained.rank))
        trained = trained.components(0..<trainedRank)
      }
      result.append(
        Entry(
          name: name, layer: layer,
          pair: LowRankPair(
            down: Parameter("\(layer.name).lora_A", trained.down.copied()),
            up: Parameter("\(layer.name).lora_B", trained.up.copied()), scale: scale),
          weight: frozen.isEmpty
            ? nil
            : frozen.reduce(layer.weight.tensor) {
              mergingLowRank($0, down: $1.down, up: $1.up, scale: scale, layout: layer.layout)
            }))
    }
    guard used == state.count else {
      let strangers = state.keys.filter {
        name in
        !name.hasSuffix(LoRA.downSuffix)
          && !((LowRankNames.layer(ofUp: name) ?? LowRankNames.layer(ofRemainder: name)).map {
            state[$0 + LowRankNames.down] != nil
          } ?? false)
      }
      throw PeatError.badData(
        "The adapter has '\(strangers.min() ?? "?")', which is not part of a LoRA adapter.")
    }
    guard !result.isEmpty else { throw PeatError.badData("The adapter is empty.") }
    return result
  }

  private func remainder(
    of name: String, in state: NamedTensors, for layer: Linear
  ) throws -> LowRankFactors? {
    let down = state[name + LowRankNames.remainderDown]
    let up = state[name + LowRankNames.remainderUp]
    if down == nil, up == nil { return nil }
    guard let down, let up, let rank = down.shape.first, rank > 0,
      down.shape == [rank, layer.inputs], up.shape == [layer.outputs, rank]
    else {
      throw PeatError.badData(
        "The adapter's remainder of '\(name)' has A \(down?.shape.description ?? "missing") and B "
          + "\(up?.shape.description ?? "missing"); the model's layer maps \(layer.inputs) to \(layer.outputs)."
      )
    }
    return LowRankFactors(down: down, up: up)
  }

  private func linear(_ adapterName: String, _ lookup: BlockLookup) -> Linear? {
    guard adapterName.hasPrefix(LoRA.prefix),
      let (block, localName) = lookup.resolve(adapterName.dropFirst(LoRA.prefix.count))
    else { return nil }
    return block.linears.first { $0.name == localName }
  }
}
