import PeatModels
import PeatNN
import PeatTensor

/// The head of a model of classes, which trains beside every method: before tuning it knows nothing of the task.
///
/// Its tensors keep their names in the checkpoint, and stand in an adapter's state beside the method's own.
enum TunedHead {
  /// The parameters that train; none where the head says which token comes next.
  private static func parameters(of model: TransformerModel) -> [Parameter] {
    guard let head = model.head, head.layout.place != .each else { return [] }
    return head.parameters
  }

  static func names(of model: TransformerModel) -> [String] {
    parameters(of: model).map(\.name)
  }

  static func initialState(for model: TransformerModel) -> NamedTensors {
    Dictionary(
      uniqueKeysWithValues: parameters(of: model).map { ($0.name, $0.tensor.copied()) })
  }

  /// The head's part of an adapter's state, and the rest.
  static func split(
    _ state: NamedTensors, of model: TransformerModel
  ) -> (head: NamedTensors, rest: NamedTensors) {
    let names = Set(names(of: model))
    return (state.filter { names.contains($0.key) }, state.filter { !names.contains($0.key) })
  }

  /// Lets a state stand in for the head's weights.
  static func inject(_ state: NamedTensors, into model: TransformerModel) throws -> InjectedAdapter
  {
    let parameters = parameters(of: model).filter { state[$0.name] != nil }
    for parameter in parameters {
      guard let tensor = state[parameter.name], tensor.shape == parameter.shape else {
        throw PeatError.badData(
          "The adapter's '\(parameter.name)' has shape \(state[parameter.name]?.shape ?? []), the model's has \(parameter.shape). Was it tuned for other classes?"
        )
      }
      guard !parameter.isReplaced else {
        throw PeatError.badData("The head already carries an adapter; remove it first.")
      }
    }
    return InjectedAdapter(replacing: parameters.map { ($0.name, $0) }, by: state)
  }
}

extension InjectedAdapter {
  /// Two adapters in one model as one.
  func joined(by other: InjectedAdapter) -> InjectedAdapter {
    other.parameters.isEmpty
      ? self
      : InjectedAdapter(
        parameters: parameters + other.parameters,
        undo: {
          self.remove()
          other.remove()
        })
  }
}
