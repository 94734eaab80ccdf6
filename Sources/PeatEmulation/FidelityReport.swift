import PeatData
import PeatModels
import PeatTensor
import PeatTuning

/// How well an emulator stands for the full model on a text.
public struct FidelityReport: Sendable, Codable, Equatable {
  /// Predicted tokens of the text.
  public var tokens: Int
  /// Mean nats per token of the full model, and of the emulator.
  public var fullLoss: Double
  public var emulatorLoss: Double
  /// `emulatorLoss − fullLoss`.
  public var crossEntropyGap: Double
  /// Of a new adapter's gradients through the emulator and through the full model: the cosine, and the norm of the first over that of the second. To first
  /// order the cosine is the share of a step's progress that is left; absent where it was not measured.
  public var gradientCosine: Double?
  public var gradientNormRatio: Double?
  /// ‖t − s‖² / ‖t‖² of the states behind the middle, full model's t and emulator's s.
  public var stateError: Double?
  /// The same behind each block that is run in the middle, beside the states that the next one of those kept gets in the full model.
  public var blockErrors: [Double]?
  /// Σ p ln(p / q) per predicted token, in nats: p what the full model says comes next, q what the emulator says.
  public var divergence: Double?
  /// What a short tuning through the emulator is worth in the full model.
  public var probe: PlugInProbe.Result?

  public init(full: TokenLoss, emulator: TokenLoss) {
    tokens = full.count
    fullLoss = full.mean
    emulatorLoss = emulator.mean
    crossEntropyGap = emulator.mean - full.mean
  }
}

/// An adapter's gradient on a batch through a model.
public struct AdapterGradient: Sendable {
  private let values: [Float]

  /// - Parameters:
  ///   - model: it is not changed; a copy that shares its weights takes the adapter.
  ///   - data: of which the first windows are used.
  ///   - settings: batch, context and threads.
  public init(
    of adapter: Adapter, through model: TransformerModel, on data: TokenDataset,
    settings: TrainingConfiguration
  ) throws {
    let model = try model.sharingWeights()
    let injected = try adapter.inject(into: model)
    defer { injected.remove() }
    var settings = settings
    settings.order = .sequential
    let trainer = try Trainer(
      model, parameters: injected.parameters.map(\.parameter), data: data, configuration: settings)
    defer { trainer.finish() }
    values = trainer.gradient()
  }

  /// The cosine with another, and this one's norm over the other's; 0 where one of them is 0.
  public func compared(with other: AdapterGradient) -> (cosine: Double, normRatio: Double) {
    var (ab, aa, bb) = (0.0, 0.0, 0.0)
    for (x, y) in zip(values, other.values) {
      ab += Double(x) * Double(y)
      aa += Double(x) * Double(x)
      bb += Double(y) * Double(y)
    }
    guard aa > 0, bb > 0 else { return (0, 0) }
    return (ab / (aa * bb).squareRoot(), (aa / bb).squareRoot())
  }
}

extension Emulator {
  /// ‖t − s‖² / ‖t‖² of the states behind the middle on a text's first windows, full model's t and emulator's s.
  public func stateError(
    beside full: TransformerModel, on calibration: CompressionCalibration
  ) -> Double { blockErrors(beside: full, on: calibration).last ?? 0 }

  /// Adds what is measured on a text's first windows.
  ///
  /// - Parameters:
  ///   - seed: of the new adapter whose gradients are compared, and that is tuned for a probe.
  ///   - shouldStop: asked on the way.
  /// - Throws: `interrupted` where it is to stop.
  public func measure(
    _ report: inout FidelityReport, beside full: TransformerModel,
    on calibration: CompressionCalibration, seed: UInt64, sourceDigest: Digest,
    shouldStop: () -> Bool = { false }
  ) throws {
    let adapter = try Adapter(
      probing: full, ends: split.ends, seed: seed, sourceDigest: sourceDigest)
    let data = calibration.data
    let settings = TrainingConfiguration(
      steps: 1, batch: min(16, data.windowCount), context: data.arrangement.context,
      learningRate: 1e-3, threads: calibration.threads)
    let compared = try AdapterGradient(of: adapter, through: model, on: data, settings: settings)
      .compared(with: AdapterGradient(of: adapter, through: full, on: data, settings: settings))
    report.gradientCosine = compared.cosine
    report.gradientNormRatio = compared.normRatio
    let errors = blockErrors(beside: full, on: calibration)
    report.blockErrors = errors
    report.stateError = errors.last
    report.divergence = calibration.divergence(of: full, from: model)
    // Of a text of a few windows nothing can be held back.
    if data.windowCount >= 4 {
      report.probe = try PlugInProbe(data, seed: seed, threads: calibration.threads).run(
        self, full: full, sourceDigest: sourceDigest, shouldStop: shouldStop)
    }
  }
}
