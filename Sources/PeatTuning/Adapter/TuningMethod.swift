import PeatModels
import PeatNN
import PeatTensor

/// The rule that makes an adapter: what is added to a model's blocks, or which of their weights train.
///
/// A method is a small value; what it puts into one model is an `InjectedAdapter`.
public protocol TuningMethod: Sendable {
  /// Its name on the command line, in adapter folders and in updates: `lora`, `end-blocks`.
  static var name: String { get }

  /// The state a new adapter starts from, for some blocks of a model, in the full model's numbers.
  ///
  /// - Parameter blocks: numbers in the full model; the model has them all.
  func initialState(
    for model: TransformerModel, blocks: [Int], using random: inout SeededRandom
  ) throws -> NamedTensors

  /// Puts a state into a model. Throws, and leaves the model as it was, where a name or shape does not fit.
  func inject(_ state: NamedTensors, into model: TransformerModel) throws -> InjectedAdapter
}

/// An adapter at its place in a model. The model is as it was before once `remove()` has been called.
public final class InjectedAdapter {
  /// The adapter's parameters, each with its name in the full model's numbers.
  public let parameters: [(name: String, parameter: Parameter)]
  private let undo: () -> Void

  init(parameters: [(name: String, parameter: Parameter)], undo: @escaping () -> Void) {
    self.parameters = parameters.sorted { $0.name < $1.name }
    self.undo = undo
  }

  /// Values that stand in for those of the model's own parameters, until the adapter is removed.
  convenience init(
    replacing parameters: [(name: String, parameter: Parameter)], by state: NamedTensors
  ) {
    for (name, parameter) in parameters {
      if let tensor = state[name] { parameter.replace(with: tensor.copied()) }
    }
    self.init(
      parameters: parameters, undo: { for (_, parameter) in parameters { parameter.restore() } })
  }

  /// The values, copied; or new values for all parameters, of the same names and shapes.
  public var state: NamedTensors {
    get {
      Dictionary(uniqueKeysWithValues: parameters.map { ($0.name, $0.parameter.tensor.copied()) })
    }
    set {
      precondition(
        newValue.count == parameters.count,
        "an adapter of \(parameters.count) tensors was given \(newValue.count)")
      for (name, parameter) in parameters {
        guard let tensor = newValue[name], tensor.shape == parameter.shape else {
          preconditionFailure("the adapter's '\(name)' \(parameter.shape) was not given")
        }
        parameter.assign(tensor)
      }
    }
  }

  public var parameterCount: Int { parameters.reduce(0) { $0 + $1.parameter.count } }

  /// Takes the adapter out: the model computes again what it did before, bit for bit.
  public func remove() { undo() }
}

/// A block's tensors and layers by their number in the full model.
struct BlockLookup {
  let model: TransformerModel
  private let positions: [Int: Int]

  init(_ model: TransformerModel) {
    self.model = model
    positions = Dictionary(
      uniqueKeysWithValues: model.blocks.enumerated().map { ($1.numberInFullModel, $0) })
  }

  /// The block with this number in the full model, and its number in this model.
  func block(_ number: Int) -> (block: TransformerBlock, local: Int)? {
    positions[number].map { (model.blocks[$0], $0) }
  }

  /// The block and the rest of the name of `model.layers.3.mlp.up_proj`, whose number is the full model's.
  func resolve(_ name: Substring) -> (block: TransformerBlock, localName: String)? {
    let keys = model.configuration.keys
    guard let (number, path) = keys.inFullModel.place(of: name),
      let (block, local) = block(number)
    else { return nil }
    return (block, "\(keys.block(local)).\(path)")
  }

  /// The linear layer of a name in PEFT's files, whose block number is the full model's: `base_model.model.` and its name.
  func linear(_ adapterName: String) -> Linear? {
    guard adapterName.hasPrefix(LoRA.prefix),
      let (block, localName) = resolve(adapterName.dropFirst(LoRA.prefix.count))
    else { return nil }
    return block.linears.first { $0.name == localName }
  }

  /// Throws where a layer is no place for an adapter, or has one.
  func requireFree(_ layer: Linear) throws {
    guard layer.reduction == nil else {
      throw PeatError.badData(
        "The layer '\(layer.name)' is kept as two factors; adapters sit in the bottom and top blocks, which are whole."
      )
    }
    guard !layer.isTuned else {
      throw PeatError.badData(
        "The layer '\(layer.name)' already carries an adapter; remove it first.")
    }
  }

  /// What the model has, for errors.
  var description: String {
    "It has the blocks " + model.blocks.map { String($0.numberInFullModel) }.joined(separator: ", ")
      + " with " + model.configuration.keys.linearNames.joined(separator: ", ") + "."
  }

  /// Turns the checkpoint name of a tensor of this model into the full model's.
  func fullName(_ localName: String, of block: TransformerBlock, local: Int) -> String {
    block.nameInFullModel + localName.dropFirst(model.configuration.keys.block(local).count)
  }

  /// The linear layers of blocks: name in the full model, and in its block.
  func linears(of blocks: [Int]) -> [(name: String, path: String, layer: Linear)] {
    blocks.sorted().flatMap { number in
      guard let (block, local) = block(number) else {
        return [(name: String, path: String, layer: Linear)]()
      }
      let own = model.configuration.keys.block(local).count + 1
      return block.linears.map {
        (fullName($0.name, of: block, local: local), String($0.name.dropFirst(own)), $0)
      }
    }
  }

  /// Throws unless the model has every one of these blocks.
  func require(_ blocks: [Int]) throws {
    if let missing = blocks.first(where: { positions[$0] == nil }) {
      throw PeatError.badData(
        "The adapter sits in block \(missing), which this model does not have. It has: "
          + positions.keys.sorted().map(String.init).joined(separator: ", ") + ".")
    }
  }
}
