import PeatNN
import PeatTensor

extension Learner {
  /// What is needed, beside the environment and chance, to go on to the same bits; copied.
  struct State {
    var values: Tensor
    var first: Tensor
    var second: Tensor
    var steps: Int
  }

  var state: State {
    State(
      values: weights.values.copied(), first: optimizer.firstMoment.copied(),
      second: optimizer.secondMoment.copied(), steps: optimizer.steps)
  }

  /// - Throws: `badData` where the state is of another network.
  func resume(_ state: State) throws {
    for tensor in [state.values, state.first, state.second] where tensor.count != weights.count {
      throw PeatError.badData(
        "The saved training holds \(tensor.count) values, the network has \(weights.count).")
    }
    weights.values.pointer.update(from: state.values.pointer, count: weights.count)
    optimizer = AdamW(
      resuming: optimizer.settings, steps: state.steps, firstMoment: state.first,
      secondMoment: state.second)
  }
}
