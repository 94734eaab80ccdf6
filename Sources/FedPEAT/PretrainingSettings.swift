/// How a new model is trained, whatever it reads.
protocol PretrainingSettings {
  var batch: Int { get }
  var learningRate: Float { get }
  var warmUpSteps: Int { get }
  var maximumSteps: Int { get }
  var measureEvery: Int { get }
  var levelShare: Double { get }
  var patience: Int { get }
  var heldOutShare: Double { get }
  var seed: UInt64 { get }
  var threads: Int { get }
}

extension PretrainingSettings {
  /// Throws `usage` where a size of the model's, or one of these, is none.
  func checkSizes(_ ofModel: [(String, Int)]) throws {
    for (name, value) in ofModel + [
      ("batch", batch), ("steps", maximumSteps), ("The measuring interval", measureEvery),
      ("patience", patience), ("threads", threads),
    ] {
      guard value > 0 && value < 1 << 20 else {
        throw PeatError.usage("\(name) is \(value); it must be between 1 and 1048575.")
      }
    }
  }

  /// Throws `usage` where the held-out share or the learning rate makes no sense.
  func checkRates() throws {
    guard heldOutShare > 0 && heldOutShare < 1 else {
      throw PeatError.usage("The held-out share is \(heldOutShare); it must be between 0 and 1.")
    }
    guard learningRate > 0 && learningRate.isFinite else {
      throw PeatError.usage("The learning rate is \(learningRate); it must be above 0.")
    }
  }

  /// - Parameters:
  ///   - context: inputs of a window.
  ///   - state: to go on from.
  func loop(
    _ model: TransformerModel, training: TokenDataset, heldOut: TokenDataset, context: Int,
    resuming state: PretrainingState?
  ) throws -> PretrainingLoop {
    try PretrainingLoop(
      model, data: training,
      TrainingConfiguration(
        steps: maximumSteps, batch: batch, context: context, learningRate: learningRate,
        schedule: .init(.constant, warmUpSteps: warmUpSteps),
        optimizer: .init(beta1: 0.9, beta2: 0.95, weightDecay: 0.1), clipNorm: 1, seed: seed,
        threads: threads),
      PretrainingCourse(
        maximumSteps: maximumSteps, measureEvery: measureEvery, levelShare: levelShare,
        patience: patience),
      resuming: state
    ) { [batch, threads] in try heldOut.meanLoss(model, rows: batch, threads: threads) }
  }
}
