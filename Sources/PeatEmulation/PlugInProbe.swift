import PeatData
import PeatModels
import PeatNN
import PeatTensor
import PeatTuning

/// Tunes a new adapter for a few steps through an emulator and plugs it into the full model: what an emulator is there for, in small.
///
/// The adapter is `Adapter(probing:)`. A quarter of the text is held back and measured on.
public struct PlugInProbe: Sendable {
  public static let steps = 20
  static let learningRate: Float = 1e-3

  private let training: TokenDataset
  private let heldBack: TokenDataset
  private let seed: UInt64
  private let threads: Int

  /// What a probe found: mean nats per held back token.
  public struct Result: Sendable, Codable, Equatable {
    /// Steps of tuning.
    public var steps: Int
    /// Of the full model before any tuning.
    public var fullLoss: Double
    /// Of the emulator with the adapter.
    public var emulatorLoss: Double
    /// Of the full model with the adapter.
    public var plugInLoss: Double
  }

  /// - Parameter data: a text of the owner's, of four windows at least.
  /// - Throws: `badData` where it is too short to hold a quarter back.
  public init(_ data: TokenDataset, seed: UInt64, threads: Int) throws {
    (training, heldBack) = try data.split(validationShare: 0.25, seed: seed)
    self.seed = seed
    self.threads = threads
  }

  /// Says with what it tunes and on which text: others may prefer another moment.
  var name: String { "\(training.fingerprint) \(heldBack.fingerprint) \(seed)" }

  /// - Parameters:
  ///   - emulator: it is not changed; it may be under training.
  ///   - sourceDigest: of the full model.
  ///   - shouldStop: asked on the way.
  /// - Throws: `interrupted` where it is to stop.
  public func run(
    _ emulator: Emulator, full: TransformerModel, sourceDigest: Digest,
    shouldStop: () -> Bool = { false }
  ) throws -> Result {
    func checkStop() throws {
      if shouldStop() { throw PeatError(.interrupted, "Interrupted.") }
    }
    var adapter = try Adapter(
      probing: full, ends: emulator.split.ends, seed: seed, sourceDigest: sourceDigest)
    let own = try emulator.model.sharingWeights()
    let injected = try adapter.inject(into: own)
    let configuration = TrainingConfiguration(
      steps: Self.steps, batch: min(8, training.windowCount),
      context: training.arrangement.context, learningRate: Self.learningRate,
      accumulation: DistillationSettings.parts(
        batch: min(8, training.windowCount), context: training.arrangement.context,
        threads: threads),
      logitRows: MemoryDemands.fewLogitRows(
        vocabulary: own.configuration.vocabularySize, threads: threads),
      seed: seed, threads: threads)
    let trainer = try Trainer(
      own, parameters: injected.parameters.map(\.parameter), data: training,
      configuration: configuration)
    defer { trainer.finish() }
    while !trainer.isFinished {
      try checkStop()
      _ = try trainer.advance()
    }
    trainer.finish()
    let measure = CompressionCalibration(heldBack, threads: threads)
    adapter.state = injected.state
    let emulatorLoss = measure.loss(of: own)
    injected.remove()
    try checkStop()
    let whole = try full.sharingWeights()
    let fullLoss = measure.loss(of: whole)
    try checkStop()
    let plugged = try adapter.inject(into: whole)
    defer { plugged.remove() }
    return Result(
      steps: Self.steps, fullLoss: fullLoss, emulatorLoss: emulatorLoss,
      plugInLoss: measure.loss(of: whole))
  }
}

extension Adapter {
  /// The new adapter that emulators and steps are measured with: LoRA of rank 8, α 16, on all linear layers of some blocks, such as both ends.
  public init(
    probing model: TransformerModel, ends: [Int], seed: UInt64 = 0, sourceDigest: Digest? = nil
  ) throws {
    try self.init(
      new: .lora(try LoRAConfiguration(rank: 8, alpha: 16)), for: model, blocks: ends, seed: seed,
      sourceDigest: sourceDigest)
  }
}
