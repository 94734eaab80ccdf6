import PeatNN
import PeatTensor

/// A network and what training it takes: a tape, a gradient and an optimizer. Both ways to learn use it.
final class NetworkTraining {
  let network: any ActorCritic
  let trainable: TrainableParameters
  /// Of all parameters, one after the other.
  let gradient: Tensor
  let tape: Tape
  /// Computes and records nothing.
  let acting = Tape()
  private var optimizer: AdamW

  /// - Throws: `usage` where the network is for another environment.
  init(_ network: any ActorCritic, in shape: ControlShape) throws {
    guard network.shape == shape else {
      throw PeatError.usage("The network was built for another environment than it is to learn in.")
    }
    self.network = network
    trainable = TrainableParameters(network.parameters)
    optimizer = AdamW(count: trainable.count, settings: .init(epsilon: 1e-5))
    gradient = Tensor(zeros: [trainable.count])
    tape = Tape(pool: BufferPool(), weightGradients: gradient.pointer)
  }

  /// What is needed, beside the environment and chance, to go on to the same bits.
  var state: (values: Tensor, first: Tensor, second: Tensor, steps: Int) {
    (
      trainable.values.copied(), optimizer.firstMoment.copied(),
      optimizer.secondMoment.copied(), optimizer.steps
    )
  }

  /// - Throws: `badData` where the state is of another network.
  func resume(values: Tensor, first: Tensor, second: Tensor, steps: Int) throws {
    for tensor in [values, first, second] where tensor.count != trainable.count {
      throw PeatError.badData(
        "The saved training holds \(tensor.count) values, the network has \(trainable.count).")
    }
    trainable.values.pointer.update(from: values.pointer, count: trainable.count)
    optimizer = AdamW(
      resuming: optimizer.settings, steps: steps, firstMoment: first, secondMoment: second)
  }

  func zeroGradient() { gradient.pointer.update(repeating: 0, count: gradient.count) }

  func update(rate: Float) {
    optimizer.update(trainable, gradient: gradient.pointer, learningRate: rate)
  }
}
