import PeatModels
import PeatTensor
import PeatTuning

/// Makes an emulator's middle compute what the full model's does.
///
///     lossWeight · (−ln p(next token)) + stateWeight · ‖t − s‖² / (d · σ²)
///
/// Each is a mean over tokens. t, s: what comes out of the full model's and of the emulator's middle where the same goes in; σ²: the mean square of t, measured
/// once on the first windows; d: the hidden size.
///
/// Source: Xiao, Lin and Han 2023, *Offsite-Tuning*, <https://arxiv.org/abs/2302.04870>: weights 1 and 30.
public struct DistillationObjective: TrainingObjective {
  private let full: TransformerModel
  private let emulator: Emulator
  private let settings: DistillationSettings
  /// σ².
  private let meanSquare: Double

  /// - Parameter meanSquare: of what comes out of the full model's middle.
  init(
    _ emulator: Emulator, full: TransformerModel, settings: DistillationSettings,
    meanSquare: Double
  ) {
    self.full = full
    self.emulator = emulator
    self.settings = settings
    self.meanSquare = meanSquare
  }

  public var name: String {
    "distillation \(settings.lossWeight) \(settings.stateWeight) \(meanSquare)"
  }

  public func loss(
    _ tokens: UnsafeBufferPointer<Int32>, targets: UnsafeBufferPointer<Int32>,
    layout: SequenceLayout, scale: Float, on tape: Tape
  ) -> TokenLoss {
    let split = emulator.split
    let student = emulator.model
    let below = student.hiddenStates(below: split.bottom, tokens, layout: layout, on: tape)
    let target = full.hiddenStates(
      through: split.middle, below.detached, layout: layout, on: tape)
    let top = student.configuration.depth - split.top
    let states = student.hiddenStates(
      through: split.bottom..<top, below, layout: layout, on: tape)
    let width = Double(states.columns)
    let weight = settings.stateWeight / (width * meanSquare)
    var loss = 0.0
    if settings.lossWeight > 0 {
      let hidden = student.hiddenStates(from: top, states, layout: layout, on: tape)
      loss =
        settings.lossWeight
        * student.loss(
          of: hidden, targets: targets, scale: scale * Float(settings.lossWeight), on: tape,
          logitRows: 256
        ).sum
    }
    loss += weight * tape.squaredError(states, to: target, scale: scale * Float(weight))
    return TokenLoss(sum: loss, count: targets.count { $0 >= 0 })
  }
}

/// How an emulator is distilled.
public struct DistillationSettings: Sendable, Codable, Equatable {
  public var steps = 600
  public var batch = 8
  public var context = 256
  public var learningRate: Float = 1e-3
  /// Of the loss of predicting each next token, and of how far what comes out of the middle is off.
  public var lossWeight = 1.0
  public var stateWeight = 30.0
  public var seed: UInt64 = 0
  public var threads = 1

  public init() {}

  public func validate() throws {
    for (name, value) in [("lossWeight", lossWeight), ("stateWeight", stateWeight)]
    where !(0...1e6).contains(value) {
      throw PeatError.usage("distillation: \(name) is \(value); it must be between 0 and 1e6.")
    }
  }

  var training: TrainingConfiguration {
    TrainingConfiguration(
      steps: steps, batch: batch, context: context, learningRate: learningRate,
      schedule: .init(.cosine), optimizer: .init(weightDecay: 0), clipNorm: 1, seed: seed,
      threads: threads)
  }
}
