import PeatModels
import PeatNN
import PeatTensor

/// Bottleneck adapters: behind attention and behind the feed-forward layer of a block, two small layers whose result is added.
///
///     h ← h + W₂ · f(W₁ · h + b₁) + b₂, before h is added to the block's states
///
/// Tensors are `BLOCK.attention_adapter.` and `BLOCK.feed_forward_adapter.` with `down.weight` `[m, d]`, `down.bias` `[m]`,
/// `up.weight` `[d, m]` and `up.bias` `[d]`. PEFT has no such method. Norms stay frozen; Houlsby et al. tune them too.
///
/// Source: Houlsby et al. 2019, <https://arxiv.org/abs/1902.00751>.
public struct Bottleneck: TuningMethod {
  public static let name = "bottleneck"
  /// Behind which sublayer, as tensors say it.
  static let places = ["attention_adapter", "feed_forward_adapter"]
  static let parts = ["down.weight", "down.bias", "up.weight", "up.bias"]

  public let configuration: BottleneckConfiguration

  public init(_ configuration: BottleneckConfiguration) { self.configuration = configuration }

  private func shape(_ part: String, hidden: Int) -> [Int] {
    switch part {
    case "down.weight": [configuration.size, hidden]
    case "down.bias": [configuration.size]
    case "up.weight": [hidden, configuration.size]
    default: [hidden]
    }
  }

  /// W₁ uniform in ±1/√d, all else zero: the adapter starts as no change.
  public func initialState(
    for model: TransformerModel, blocks: [Int], using random: inout SeededRandom
  ) throws -> NamedTensors {
    let lookup = BlockLookup(model)
    try lookup.require(blocks)
    let hidden = model.configuration.hiddenSize
    // Values, their copies in training, gradient and two moments.
    try MemoryDemand.check(
      bytes: 24 * 4 * Double(configuration.size) * Double(hidden) * Double(blocks.count),
      for: "Bottleneck adapters of \(configuration.size)", advice: "Make the bottleneck smaller.")
    var state: NamedTensors = [:]
    for block in blocks {
      for place in Self.places {
        for part in Self.parts {
          let shape = shape(part, hidden: hidden)
          state["\(model.configuration.keys.inFullModel.block(block)).\(place).\(part)"] =
            part == "down.weight"
            ? .uniform(shape, bound: 1 / Float(hidden).squareRoot(), using: &random)
            : Tensor(zeros: shape)
        }
      }
    }
    return state
  }

  public func inject(_ state: NamedTensors, into model: TransformerModel) throws -> InjectedAdapter
  {
    let found = try adapters(in: state, for: model)
    for (block, place, adapter, _) in found { Self.set(adapter, place, block) }
    return InjectedAdapter(
      parameters: found.flatMap { $0.parameters },
      undo: { for (block, place, _, _) in found { Self.set(nil, place, block) } })
  }

  private static func set(
    _ adapter: BottleneckAdapter?, _ place: String, _ block: TransformerBlock
  ) {
    if place == places[0] {
      block.attentionAdapter = adapter
    } else {
      block.feedForwardAdapter = adapter
    }
  }

  private typealias Found = (
    block: TransformerBlock, place: String, adapter: BottleneckAdapter,
    parameters: [(name: String, parameter: Parameter)]
  )

  /// The places that a state belongs to, each with its adapter.
  private func adapters(
    in state: NamedTensors, for model: TransformerModel
  ) throws -> [Found] {
    let hidden = model.configuration.hiddenSize
    var result: [Found] = []
    for block in model.blocks {
      let blockName = block.nameInFullModel
      for place in Self.places {
        let name = "\(blockName).\(place)"
        var parameters: [(name: String, parameter: Parameter)] = []
        for part in Self.parts {
          guard let tensor = state["\(name).\(part)"] else { continue }
          let expected = shape(part, hidden: hidden)
          guard tensor.shape == expected else {
            throw PeatError.badData(
              "The adapter's '\(name).\(part)' has shape \(tensor.shape); a bottleneck of \(configuration.size) in this "
                + "model has \(expected). Was it tuned for another model?")
          }
          parameters.append(("\(name).\(part)", Parameter("\(name).\(part)", tensor.copied())))
        }
        if parameters.isEmpty { continue }
        guard parameters.count == Self.parts.count else {
          let missing = Self.parts.first { state["\(name).\($0)"] == nil } ?? ""
          throw PeatError.badData(
            "The adapter has '\(parameters[0].name)' but no '\(name).\(missing)'.")
        }
        guard (place == Self.places[0] ? block.attentionAdapter : block.feedForwardAdapter) == nil
        else {
          throw PeatError.badData(
            "The block '\(blockName)' already carries an adapter; remove it first.")
        }
        func layer(_ name: String, _ first: Int) -> Linear {
          Linear(
            name, weight: parameters[first].parameter, bias: parameters[first + 1].parameter,
            layout: .outputsByInputs)
        }
        result.append(
          (
            block, place,
            BottleneckAdapter(
              down: layer("\(name).down", 0), up: layer("\(name).up", 2),
              activation: configuration.activation), parameters
          ))
      }
    }
    let known = Set(result.flatMap { $0.parameters.map(\.name) })
    if let stranger = state.keys.filter({ !known.contains($0) }).min() {
      throw PeatError.badData(
        "The adapter has '\(stranger)', which is not part of bottleneck adapters in this model. It has the blocks "
          + model.blocks.map { String($0.numberInFullModel) }.joined(separator: ", ") + ".")
    }
    guard !result.isEmpty else { throw PeatError.badData("The adapter is empty.") }
    return result
  }
}
