import PeatModels
import PeatNN
import PeatTensor

/// Low-rank adaptation: beside a frozen linear layer W stands s · B · A, of which A and B train.
///
/// Tensors are named as PEFT names them: `base_model.model.` + the layer's name + `.lora_A.weight` (`[r, inputs]`)
/// and `.lora_B.weight` (`[outputs, r]`). A remainder, which exact aggregation makes, is a second pair, `.remainder_A.weight` (`[q, inputs]`) and
/// `.remainder_B.weight`: it does not train, and stands in the layer's weight while the adapter is in.
///
/// DoRA also has `.lora_magnitude_vector` (`[outputs]`), the norms of the rows of W + s · B · A.
///
/// Source: Hu et al. 2021, <https://arxiv.org/abs/2106.09685>; DoRA: Liu et al. 2024, <https://arxiv.org/abs/2402.09353>.
public struct LoRA: TuningMethod {
  public static let name = "lora"
  /// LoRA with magnitudes.
  public static let magnitudeName = "dora"
  static let magnitudeSuffix = ".lora_magnitude_vector"
  static let prefix = LowRankNames.prefix
  static let downSuffix = LowRankNames.down

  public let configuration: LoRAConfiguration

  public init(_ configuration: LoRAConfiguration) { self.configuration = configuration }

  /// A uniform in ±1/√inputs (Kaiming with a = √5, PEFT's default), B zero: the adapter starts as no change.
  public func initialState(
    for model: TransformerModel, blocks: [Int], using random: inout SeededRandom
  ) throws -> NamedTensors {
    let lookup = BlockLookup(model)
    try lookup.require(blocks)
    if let layers = configuration.layers,
      let stranger = layers.first(where: { !blocks.contains($0) })
    {
      throw PeatError.usage(
        "Layer \(stranger) is none that an adapter may sit in. There are: "
          + blocks.sorted().map(String.init).joined(separator: ", ") + ".")
    }
    let targets = try configuration.targets(of: model.configuration.keys)
    let all = lookup.linears(of: blocks)
    try targets.check(against: all.map { ($0.path, $0.name) })
    let chosen = configuration.layers.map { lookup.linears(of: $0) } ?? all
    let layers = chosen.filter { targets.contain($0.path, $0.name) }
    guard !layers.isEmpty else {
      throw PeatError.usage(
        "None of the blocks \(configuration.layers?.map(String.init).joined(separator: ", ") ?? "") has a layer that is meant. There are: \(Set(chosen.map(\.path)).sorted().joined(separator: ", "))."
      )
    }
    for pattern in configuration.rankPattern.keys.sorted()
      + configuration.alphaPattern.keys.sorted()
    where !layers.contains(where: { LayerPattern.matches(pattern, $0.name) }) {
      throw PeatError.usage(
        "No layer that gets LoRA is meant by the pattern '\(pattern)'. There are: "
          + Set(layers.map(\.path)).sorted().joined(separator: ", ") + ".")
    }
    let scales = configuration.scales
    if let widest = layers.map({ min($0.layer.inputs, $0.layer.outputs) }).max(),
      let least = layers.map({ scales.rank(forLayer: $0.name) }).min(), least > widest
    {
      throw PeatError.usage(
        "A LoRA rank of \(least) is more than any of its layers can use: their matrices have at most \(widest) rows or columns, so that "
          + "rank \(widest) can do all that there is. Lower the rank.")
    }
    // Values, their copies in training, gradient and two moments.
    try MemoryDemand.check(
      bytes: layers.reduce(0.0) { sum, entry in
        sum + 24 * Double(scales.rank(forLayer: entry.name))
          * Double(entry.layer.inputs + entry.layer.outputs)
      },
      for: "An adapter of rank \(configuration.rank)", advice: "Lower the rank.")
    var state: NamedTensors = [:]
    for (layer, _, linear) in layers {
      let name = LoRA.prefix + layer
      let rank = scales.rank(forLayer: layer)
      let bound = 1 / Float(linear.inputs).squareRoot()
      state["\(name).lora_A.weight"] = .uniform(
        [rank, linear.inputs], bound: bound, using: &random)
      state["\(name).lora_B.weight"] = Tensor(zeros: [linear.outputs, rank])
      if configuration.usesMagnitudes {
        let norms = squaredRowNorms(linear.weight.tensor, layout: linear.layout)
        for row in 0..<linear.outputs { norms.pointer[row] = norms.pointer[row].squareRoot() }
        state[name + LoRA.magnitudeSuffix] = norms
      }
    }
    return state
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
      entry.layer.magnitude = entry.magnitude.map { Magnitude($0, for: entry.layer) }
    }
    return InjectedAdapter(
      parameters: layers.flatMap { entry in
        [
          (entry.name + LowRankNames.down, entry.pair.down),
          (entry.name + LowRankNames.up, entry.pair.up),
        ] + (entry.magnitude.map { [(entry.name + LoRA.magnitudeSuffix, $0)] } ?? [])
      },
      undo: {
        for entry in layers {
          entry.layer.lowRank = nil
          entry.layer.magnitude = nil
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
    /// m, `[outputs]`.
    var magnitude: Parameter?
  }

  /// The layers a state belongs to.
  private func pairs(
    in state: NamedTensors, for model: TransformerModel, _ trainedRank: Int?
  ) throws -> [Entry] {
    let lookup = BlockLookup(model)
    let scales = configuration.scales
    var result: [Entry] = []
    var used = 0
    for (key, down) in state.sorted(by: { $0.key < $1.key }) where key.hasSuffix(LoRA.downSuffix) {
      let name = String(key.dropLast(LoRA.downSuffix.count))
      guard let layer = lookup.linear(name) else {
        throw PeatError.badData(
          "The adapter has '\(key)', for which this model has no layer. \(lookup.description)")
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
      try lookup.requireFree(layer)
      used += 2
      let scale = Float(scales.scale(forLayer: LowRankNames.inModel(name), rank: down.shape[0]))
      var frozen: [LowRankFactors] = []
      if let remainder = try remainder(of: name, in: state, for: layer) {
        used += 2
        frozen.append(remainder)
      }
      let magnitude = state[name + LoRA.magnitudeSuffix]
      if configuration.usesMagnitudes {
        guard let magnitude else {
          throw PeatError.badData(
            "The adapter has '\(key)' but no '\(name)\(LoRA.magnitudeSuffix)', which DoRA needs.")
        }
        guard magnitude.shape == [layer.outputs] else {
          throw PeatError.badData(
            "The adapter's '\(name)\(LoRA.magnitudeSuffix)' has shape \(magnitude.shape); the layer has \(layer.outputs) "
              + "outputs. Was it tuned for another model?")
        }
        used += 1
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
            up: Parameter("\(layer.name).lora_B", trained.up.copied()), scale: scale,
            dropout: Float(configuration.dropout), dropoutKey: SeededRandom.hash(of: name)),
          weight: frozen.isEmpty
            ? nil
            : frozen.reduce(layer.weight.tensor) {
              mergingLowRank($0, down: $1.down, up: $1.up, scale: scale, layout: layer.layout)
            },
          magnitude: configuration.usesMagnitudes
            ? magnitude.map { Parameter("\(layer.name).lora_magnitude_vector", $0.copied()) } : nil
        ))
    }
    guard used == state.count else {
      let strangers = state.keys.filter {
        name in
        !name.hasSuffix(LoRA.downSuffix)
          && !(configuration.usesMagnitudes && name.hasSuffix(LoRA.magnitudeSuffix)
            && state[name.dropLast(LoRA.magnitudeSuffix.count) + LowRankNames.down] != nil)
          && !((LowRankNames.layer(ofUp: name) ?? LowRankNames.layer(ofRemainder: name)).map {
            state[$0 + LowRankNames.down] != nil
          } ?? false)
      }
      throw PeatError.badData(
        "The adapter has '\(strangers.min() ?? "?")', which is not part of a \(configuration.usesMagnitudes ? "DoRA" : "LoRA") adapter."
      )
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

}
