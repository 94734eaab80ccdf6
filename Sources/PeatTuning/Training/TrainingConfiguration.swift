import PeatData
import PeatModels
import PeatNN
import PeatTensor

/// How an adapter, or a whole model, is tuned.
public struct TrainingConfiguration: Sendable, Codable, Equatable {
  /// Optimizer steps.
  public var steps: Int
  /// Windows per step.
  public var batch: Int
  /// Input tokens per window.
  public var context: Int
  public var learningRate: Float
  public var schedule: LearningRateSchedule
  public var optimizer: AdamW.Settings
  /// How steps follow from gradients; `nil`: as AdamW does.
  public var rule: OptimizerRule?
  /// Gradients with a larger norm are scaled down to it; `nil`: never.
  public var clipNorm: Float?
  /// Each step's batch is computed in so many parts, one after the other, to need less memory.
  public var accumulation: Int
  /// Keep only each block's input and compute the block again in the backward pass.
  public var checkpointing: Bool
  /// How many rows of logits each thread holds at a time.
  public var logitRows: Int
  /// Bytes in which states of the frozen blocks at the bottom are kept between epochs; 0: none.
  public var prefixCacheBytes: Int
  /// Noise on the states behind the last block in which nothing trains, as a share of their root mean square; 0: none. See `StateNoise`.
  public var stateNoise: Double
  public var order: BatchSampler.Order
  public var seed: UInt64
  public var threads: Int

  public init(
    steps: Int = 100, batch: Int = 8, context: Int = 256, learningRate: Float = 1e-3,
    schedule: LearningRateSchedule = LearningRateSchedule(),
    optimizer: AdamW.Settings = AdamW.Settings(), clipNorm: Float? = nil, accumulation: Int = 1,
    checkpointing: Bool = false, logitRows: Int? = nil,
    prefixCacheBytes: Int = 0, stateNoise: Double = 0,
    order: BatchSampler.Order = .shuffledEpochs, seed: UInt64 = 0, threads: Int = 1
  ) {
    self.steps = steps
    self.batch = batch
    self.context = context
    self.learningRate = learningRate
    self.schedule = schedule
    self.optimizer = optimizer
    self.clipNorm = clipNorm
    self.accumulation = accumulation
    self.checkpointing = checkpointing
    self.logitRows = logitRows ?? MemoryDemands.usualLogitRows(checkpointing: checkpointing)
    self.prefixCacheBytes = prefixCacheBytes
    self.stateNoise = stateNoise
    self.order = order
    self.seed = seed
    self.threads = threads
  }

  /// Throws where a value makes no sense, or the context is longer than the model's.
  ///
  /// - Parameters:
  ///   - virtualTokens: positions of the model's context that a method takes from tokens.
  ///   - allowsNoSteps: whether there may be no step, which leaves an adapter as it begins.
  public func validate(
    contextLength: Int, virtualTokens: Int = 0, allowsNoSteps: Bool = false
  ) throws {
    let longest = contextLength - virtualTokens
    func check(_ holds: Bool, _ message: String) throws {
      if !holds { throw PeatError.usage(message) }
    }
    let fewest = allowsNoSteps ? 0 : 1
    try check(steps >= fewest, "steps is \(steps); it must be at least \(fewest).")
    try check(batch > 0, "batch is \(batch); it must be at least 1.")
    try check(
      longest > 0 || virtualTokens == 0,
      "\(virtualTokens) virtual tokens leave no room in the model's context of \(contextLength)."
    )
    try check(
      context > 0 && context <= longest,
      "context is \(context); it must be between 1 and \(longest), the longest the model reads"
        + (virtualTokens > 0 ? " beside \(virtualTokens) virtual tokens." : ".")
    )
    try check(
      Double(batch) * Double(context) <= 1e8,
      "A batch of \(batch) windows of \(context) tokens would need terabytes of memory; a step takes at most 100 million tokens."
    )
    try check(
      learningRate > 0 && learningRate <= 1000,
      "learningRate is \(learningRate); it must be above 0, and at most 1000.")
    try check(
      schedule.warmUpSteps >= 0, "warmUpSteps is \(schedule.warmUpSteps); it can't be negative.")
    try check(
      accumulation > 0 && accumulation <= batch,
      "accumulation is \(accumulation); it must be between 1 and the batch, \(batch).")
    try check(
      logitRows > 0 && logitRows <= 65536,
      "logitRows is \(logitRows); it must be between 1 and 65536.")
    try check(
      prefixCacheBytes >= 0, "prefixCacheBytes is \(prefixCacheBytes); it can't be negative.")
    try check(
      (0...10).contains(stateNoise), "stateNoise is \(stateNoise); it must be between 0 and 10.")
    try check(clipNorm.map { $0 > 0 } ?? true, "clipNorm must be above 0; leave it out for none.")
    try check(
      optimizer.weightDecay >= 0 && learningRate * optimizer.weightDecay <= 1,
      "weightDecay is \(optimizer.weightDecay); it must be at least 0 and, times the learning rate, at most 1."
    )
    try check(
      [optimizer.beta1, optimizer.beta2].allSatisfy { $0 >= 0 && $0 < 1 } && optimizer.epsilon > 0
        && optimizer.epsilon.isFinite,
      "beta1 and beta2 must be at least 0 and below 1, epsilon above 0.")
    try check(
      threads > 0 && threads <= 1024, "threads is \(threads); it must be between 1 and 1024.")
  }
  /// The same step, computed as a plan says.
  public func following(_ plan: MemoryPlan) -> TrainingConfiguration {
    var result = self
    result.checkpointing = plan.checkpointing
    result.accumulation = plan.accumulation
    result.logitRows = plan.logitRows
    return result
  }
}
