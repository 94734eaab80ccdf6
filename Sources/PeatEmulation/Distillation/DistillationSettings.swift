import PeatModels
import PeatTensor
import PeatTuning

/// How an emulator is distilled.
public struct DistillationSettings: Sendable, Codable, Equatable {
  public var steps = 600
  public var batch = 8
  public var context = 256
  public var learningRate: Float = 1e-3
  /// Of the loss of predicting each next token, and of how far what comes out of the middle is off.
  public var lossWeight = 1.0
  public var stateWeight = 30.0
  /// Of how far what comes out of each block but the last is off.
  public var blockWeight = 0.0
  /// Of how far the tokens that the emulator predicts are from those that the full model predicts, Σ p ln(p / q), each with what is in its ends.
  public var divergenceWeight = 0.0
  public var noise = 0.0
  /// How often on the way a probe says how good the emulator is; the best of these moments is kept. 0: the last one is.
  public var checks = 6
  public var seed: UInt64 = 0
  public var threads = 1

  public init() {}

  private enum CodingKeys: String, CodingKey {
    case steps, batch, context, learningRate, lossWeight, stateWeight, blockWeight, noise, checks
    case seed, threads, divergenceWeight
  }

  /// Files that were written before there were checks have none.
  public init(from decoder: any Decoder) throws {
    let table = try decoder.container(keyedBy: CodingKeys.self)
    steps = try table.decode(Int.self, forKey: .steps)
    batch = try table.decode(Int.self, forKey: .batch)
    context = try table.decode(Int.self, forKey: .context)
    learningRate = try table.decode(Float.self, forKey: .learningRate)
    lossWeight = try table.decode(Double.self, forKey: .lossWeight)
    stateWeight = try table.decode(Double.self, forKey: .stateWeight)
    blockWeight = try table.decode(Double.self, forKey: .blockWeight)
    divergenceWeight = try table.decodeIfPresent(Double.self, forKey: .divergenceWeight) ?? 0
    noise = try table.decode(Double.self, forKey: .noise)
    checks = try table.decodeIfPresent(Int.self, forKey: .checks) ?? 0
    seed = try table.decode(UInt64.self, forKey: .seed)
    threads = try table.decode(Int.self, forKey: .threads)
  }

  /// Throws `usage` where a value makes no sense, or the context is longer than the model's: before any work.
  ///
  /// - Parameter contextLength: the longest that the model reads, in tokens.
  public func validate(contextLength: Int) throws {
    do {
      try TrainingConfiguration(
        steps: steps, batch: batch, context: context, learningRate: learningRate, threads: threads
      ).validate(contextLength: contextLength)
    } catch let error as PeatError {
      throw PeatError(error.code, "distillation: \(error.message)")
    }
    for (name, value) in [
      ("lossWeight", lossWeight), ("stateWeight", stateWeight), ("blockWeight", blockWeight),
      ("divergenceWeight", divergenceWeight),
    ]
    where !(0...1e6).contains(value) {
      throw PeatError.usage("distillation: \(name) is \(value); it must be between 0 and 1e6.")
    }
    guard lossWeight + stateWeight + blockWeight + divergenceWeight > 0 else {
      throw PeatError.usage(
        "distillation: lossWeight, stateWeight and blockWeight are all 0: there is nothing to make small."
      )
    }
    guard (0...10).contains(noise) else {
      throw PeatError.usage("distillation: noise is \(noise); it must be between 0 and 10.")
    }
    guard (0...1000).contains(checks) else {
      throw PeatError.usage("distillation: checks is \(checks); it must be between 0 and 1000.")
    }
  }

  /// Steps of a student: in parts of few windows, and with blocks that are computed twice where what they would keep is much. Both save memory, and only the
  /// parts change bits.
  func training(_ student: TransformerConfiguration) -> TrainingConfiguration {
    var result = TrainingConfiguration(
      steps: steps, batch: batch, context: context, learningRate: learningRate,
      schedule: .init(.cosine), optimizer: .init(weightDecay: 0),
      accumulation: Self.parts(batch: batch, context: context, threads: threads),
      logitRows: MemoryDemands.fewLogitRows(vocabulary: student.vocabularySize, threads: threads),
      seed: seed,
      threads: threads)
    let windows = (batch + result.accumulation - 1) / result.accumulation
    // About what a block keeps of each token.
    let width = 8 * student.hiddenSize + 2 * student.feedForwardSize
    let kept = 4 * Double(windows) * Double(context) * Double(width) * Double(student.depth)
    result.checkpointing = kept > 64e6
    return result
  }

  /// The parts of a step: each of 512 tokens at least, or of 64 for each thread.
  package static func parts(batch: Int, context: Int, threads: Int) -> Int {
    max(1, batch / max(1, max(512, 64 * threads) / max(context, 1)))
  }

  /// After so many steps a probe is made; the last ones are among them.
  func isCheck(_ step: Int) -> Bool {
    checks > 0 && (1...checks).contains { steps * $0 / checks == step }
  }
}

/// What `emulator.json` says of a distillation.
public struct DistillationFacts: Sendable, Codable, Equatable {
  public var settings: DistillationSettings
  /// Mean objective of the last steps.
  public var finalLoss: Double
  /// Digest of the text's bytes.
  public var text: Digest
  /// The step whose weights were kept, and what the probe found there; `nil`: those of the last, without a probe.
  public var chosen: DistillationCheck?

  public init(
    settings: DistillationSettings, finalLoss: Double, text: Digest,
    chosen: DistillationCheck? = nil
  ) {
    self.settings = settings
    self.finalLoss = finalLoss
    self.text = text
    self.chosen = chosen
  }
}

/// A moment of a distillation, and what a probe found there.
public struct DistillationCheck: Sendable, Codable, Equatable {
  public var step: Int
  /// Of the full model with an adapter that was tuned through the emulator as it was: nats per token.
  public var plugInLoss: Double
}
