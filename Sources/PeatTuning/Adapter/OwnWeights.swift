import PeatModels
import PeatNN
import PeatTensor

/// Some of the blocks' own weights that train: what several methods are.
struct OwnWeights {
  /// Which of a block's.
  let choice: (TransformerBlock) -> [Parameter]
  /// The adapter's name for a weight, whose block number is the full model's already; and back, `nil` for what is none.
  var adapterName: (String) -> String = { $0 }
  var weightName: (String) -> String? = { $0 }

  /// Those outside of blocks that an adapter may have, too; a new one has none of them.
  var besideBlocks: (TransformerModel) -> [Parameter] = { _ in [] }

  /// Copies of the weights of some blocks.
  func initialState(for model: TransformerModel, blocks: [Int]) throws -> NamedTensors {
    let lookup = BlockLookup(model)
    try lookup.require(blocks)
    var state: NamedTensors = [:]
    for number in blocks {
      guard let (block, local) = lookup.block(number) else { continue }
      for parameter in choice(block) {
        state[adapterName(lookup.fullName(parameter.name, of: block, local: local))] =
          parameter.tensor.copied()
      }
    }
    return state
  }

  /// Lets a state stand in for the weights.
  func inject(_ state: NamedTensors, into model: TransformerModel) throws -> InjectedAdapter {
    let lookup = BlockLookup(model)
    var found: [(name: String, parameter: Parameter)] = []
    for (name, tensor) in state.sorted(by: { $0.key < $1.key }) {
      guard let weight = weightName(name), let parameter = parameter(weight, lookup) else {
        throw PeatError.badData(
          "The adapter has '\(name)', which this model does not have. It has the blocks "
            + model.blocks.map { String($0.numberInFullModel) }.joined(separator: ", ") + ".")
      }
      guard tensor.shape == parameter.shape else {
        throw PeatError.badData(
          "The adapter's '\(name)' has shape \(tensor.shape), the model's has \(parameter.shape). "
            + "Was it tuned for another model?")
      }
      guard !parameter.isReplaced else {
        throw PeatError.badData(
          "The block of '\(parameter.name)' already carries an adapter; remove it first.")
      }
      found.append((name, parameter))
    }
    guard !found.isEmpty else { throw PeatError.badData("The adapter is empty.") }
    return InjectedAdapter(replacing: found, by: state)
  }

  private func parameter(_ name: String, _ lookup: BlockLookup) -> Parameter? {
    guard let (block, localName) = lookup.resolve(name[...]) else {
      return besideBlocks(lookup.model).first { $0.name == name }
    }
    return choice(block).first { $0.name == localName }
  }
}
