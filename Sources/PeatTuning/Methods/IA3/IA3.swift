import PeatModels
import PeatNN
import PeatTensor

/// IA³: learned vectors scale what comes out of keys and values, and what goes into the feed-forward layer's last.
///
///     y = (x · Wᵀ + b) ⊙ l,  or  y = (x ⊙ l) · Wᵀ + b in a feed-forward layer
///
/// Tensors are named as PEFT names them: `base_model.model.` + the layer's name + `.ia3_l`, `[outputs, 1]` or `[1, inputs]`.
///
/// Source: Liu et al. 2022, <https://arxiv.org/abs/2205.05638>.
public struct IA3: TuningMethod {
  public static let name = "ia3"
  static let suffix = ".ia3_l"

  public let configuration: IA3Configuration

  public init(_ configuration: IA3Configuration) { self.configuration = configuration }

  /// Ones: the adapter starts as no change.
  public func initialState(
    for model: TransformerModel, blocks: [Int], using random: inout SeededRandom
  ) throws -> NamedTensors {
    let lookup = BlockLookup(model)
    try lookup.require(blocks)
    let targets = try configuration.targets(of: model.configuration.keys)
    let feedForward = try configuration.feedForward(of: model.configuration.keys)
    var state: NamedTensors = [:]
    let layers = lookup.linears(of: blocks)
    try targets.check(against: layers.map { ($0.path, $0.name) })
    let meant = layers.filter { targets.contain($0.path, $0.name) }
    try configuration.checkFeedForward(
      meant.map { ($0.path, $0.name) }, of: model.configuration.keys)
    for (name, path, linear) in meant {
      state[LoRA.prefix + name + IA3.suffix] = Tensor(
        repeating: 1,
        shape: feedForward.contain(path, name) ? [1, linear.inputs] : [linear.outputs, 1])
    }
    return state
  }

  /// Whether a vector scales what goes into its layer, `[1, inputs]`, not what comes out, `[outputs, 1]`.
  static func scalesInput(_ tensor: Tensor) -> Bool {
    tensor.shape.count == 2 && tensor.shape[0] == 1 && tensor.shape[1] > 1
  }

  public func inject(_ state: NamedTensors, into model: TransformerModel) throws -> InjectedAdapter
  {
    let lookup = BlockLookup(model)
    var found: [(name: String, layer: Linear, scalesInput: Bool, parameter: Parameter)] = []
    for (name, tensor) in state.sorted(by: { $0.key < $1.key }) {
      guard name.hasSuffix(IA3.suffix) else {
        throw PeatError.badData("The adapter has '\(name)', which is not part of an IA3 adapter.")
      }
      guard let layer = lookup.linear(String(name.dropLast(IA3.suffix.count))) else {
        throw PeatError.badData(
          "The adapter has '\(name)', for which this model has no layer. \(lookup.description)")
      }
      let scalesInput = Self.scalesInput(tensor)
      guard tensor.shape == (scalesInput ? [1, layer.inputs] : [layer.outputs, 1]) else {
        throw PeatError.badData(
          "The adapter's '\(name)' has shape \(tensor.shape); of this layer it is [\(layer.outputs), 1], or [1, \(layer.inputs)] "
            + "in one of the feed-forward modules. Was it tuned for another model?")
      }
      try lookup.requireFree(layer)
      found.append((name, layer, scalesInput, Parameter("\(layer.name).ia3_l", tensor.copied())))
    }
    guard !found.isEmpty else { throw PeatError.badData("The adapter is empty.") }
    for (_, layer, scalesInput, parameter) in found {
      if scalesInput { layer.inputScale = parameter } else { layer.outputScale = parameter }
    }
    let layers = found.map(\.layer)
    return InjectedAdapter(
      parameters: found.map { ($0.name, $0.parameter) },
      undo: {
        for layer in layers { (layer.inputScale, layer.outputScale) = (nil, nil) }
      })
  }
}
