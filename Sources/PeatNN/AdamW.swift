import PeatTensor

/// Adam with decoupled weight decay.
///
///     p ← p − η·λ·p
///     m ← β₁·m + (1 − β₁)·g        v ← β₂·v + (1 − β₂)·g²
///     p ← p − η · (m / (1 − β₁ᵗ)) / (√(v / (1 − β₂ᵗ)) + ε)
///
/// Weight decay λ applies to matrices only: norms and biases are left alone, as transformers' Trainer does.
///
/// Source: Loshchilov and Hutter 2017, <https://arxiv.org/abs/1711.05101>; defaults are PyTorch's.
public struct AdamW: Sendable {
  public struct Settings: Sendable, Codable, Equatable {
    public var beta1: Float = 0.9
    public var beta2: Float = 0.999
    public var epsilon: Float = 1e-8
    public var weightDecay: Float = 0

    public init(
      beta1: Float = 0.9, beta2: Float = 0.999, epsilon: Float = 1e-8, weightDecay: Float = 0
    ) {
      self.beta1 = beta1
      self.beta2 = beta2
      self.epsilon = epsilon
      self.weightDecay = weightDecay
    }
  }

  public let settings: Settings
  /// How many updates were made.
  public private(set) var steps = 0
  /// m and v, as long as the parameter vector.
  package private(set) var firstMoment: Tensor
  package private(set) var secondMoment: Tensor

  public init(count: Int, settings: Settings = Settings()) {
    self.settings = settings
    firstMoment = Tensor(zeros: [count])
    secondMoment = Tensor(zeros: [count])
  }

  /// Continues where a saved optimizer stopped.
  package init(resuming settings: Settings, steps: Int, firstMoment: Tensor, secondMoment: Tensor) {
    self.settings = settings
    self.steps = steps
    self.firstMoment = firstMoment.copied()
    self.secondMoment = secondMoment.copied()
  }

  /// One update of all parameters from their gradient, at the given learning rate.
  package mutating func update(
    _ parameters: TrainableParameters, gradient: UnsafeMutablePointer<Float>, learningRate: Float
  ) {
    steps += 1
    let correction1 = 1 - power(Double(settings.beta1), Double(steps))
    let correction2 = 1 - power(Double(settings.beta2), Double(steps))
    let rate = Float(Double(learningRate) / correction1)
    let inverseRoot = Float(1 / correction2.squareRoot())
    for (parameter, range) in zip(parameters.parameters, parameters.ranges) {
      adamWUpdate(
        count: range.count, values: parameters.values.pointer + range.lowerBound,
        gradient: gradient + range.lowerBound, first: firstMoment.pointer + range.lowerBound,
        second: secondMoment.pointer + range.lowerBound,
        decay: parameter.shape.count > 1 ? 1 - learningRate * settings.weightDecay : 1,
        beta1: settings.beta1, beta2: settings.beta2, rate: rate, inverseRoot: inverseRoot,
        epsilon: settings.epsilon)
    }
  }

  /// One step of plain gradient descent in its place: moments stay as they are.
  package mutating func descend(
    _ parameters: TrainableParameters, gradient: UnsafeMutablePointer<Float>, learningRate: Float
  ) {
    steps += 1
    for (parameter, range) in zip(parameters.parameters, parameters.ranges) {
      descentUpdate(
        count: range.count, values: parameters.values.pointer + range.lowerBound,
        gradient: gradient + range.lowerBound,
        decay: parameter.shape.count > 1 ? 1 - learningRate * settings.weightDecay : 1,
        rate: learningRate)
    }
  }
}
