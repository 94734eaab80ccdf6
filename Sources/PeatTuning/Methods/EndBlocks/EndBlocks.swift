import PeatModels
import PeatNN
import PeatTensor

/// The end blocks' own weights train: the plain emulator-assisted tuning, without a smaller adapter.
///
/// Tensors keep their names in the checkpoint.
///
/// Source: Xiao, Lin and Han 2023, <https://arxiv.org/abs/2302.04870>.
public struct EndBlocks: TuningMethod {
  public static let name = "end-blocks"

  public init() {}

  public func initialState(
    for model: TransformerModel, blocks: [Int], using random: inout SeededRandom
  ) throws -> NamedTensors {
    let lookup = BlockLookup(model)
    try lookup.require(blocks)
    var state: NamedTensors = [:]
    for number in blocks {
      guard let (block, local) = lookup.block(number) else { continue }
      for parameter in block.parameters {
        state[lookup.fullName(parameter.name, of: block, local: local)] = parameter.tensor.copied()
      }
    }
    return state
  }

  public func inject(_ state: NamedTensors, into model: TransformerModel) throws -> InjectedAdapter
  {
    let lookup = BlockLookup(model)
    var found: [(name: String, parameter: Parameter)] = []
    for (name, tensor) in state.sorted(by: { $0.key < $1.key }) {
      guard let (block, localName) = lookup.resolve(name[...]),
        let parameter = block.parameters.first(where: { $0.name == localName })
      else {
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
    for (name, parameter) in found {
      if let tensor = state[name] { parameter.replace(with: tensor.copied()) }
    }
    let entries = found
    return InjectedAdapter(
      parameters: entries, undo: { for (_, parameter) in entries { parameter.restore() } })
  }
}
