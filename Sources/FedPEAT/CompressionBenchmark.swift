import Foundation

/// One compression of a model with random weights: how long it takes, and how much memory.
public enum CompressionBenchmark {
  public struct Report: Sendable, Codable, Equatable {
    public var recipe: String
    public var seconds: Double
    /// Peak memory of the process, model and text included, over the bytes of the model's weights.
    public var peakOverModel: Double
    public var peakMemoryBytes: Int
    public var modelBytes: Int
  }

  /// The recipes that are measured, for a middle of so many blocks; the last two are distilled.
  public static func recipes(middle: Int) -> [String] {
    let half = max(1, middle / 2)
    return [
      "layer-drop=\(half)", "importance=\(half)", "loss-importance=\(half)", "cluster=\(half)",
      "layer-drop=\(half),share", "prune-heads=0.5", "prune-channels=0.5", "gradient-channels=0.5",
      "low-rank=0.25", "weighted-low-rank=0.25", "gradient-ranks=0.25", "magnitude=0.5", "int8",
      "int8=gptq", "int4", "int4=gptq", "bf16", "f16", "layer-drop=\(half)+distilled",
      "layer-drop=\(half),magnitude=0.1+distilled",
    ]
  }

  /// Measures in this process, which does nothing else.
  ///
  /// - Parameters:
  ///   - recipe: with `+distilled` behind it ten steps of distillation are measured, on 8 windows of 128 tokens each, with a probe behind them.
  ///   - folder: the model's.
  ///   - windows: of the text, 256 random tokens each.
  public static func run(
    _ recipe: String, model folder: URL, windows: Int, seed: UInt64, threads: Int
  ) throws -> Report {
    let candidate = try EmulatorComparison.Candidate(recipe)
    let words = candidate.recipe
    let source = try Checkpoint(folder: folder)
    let split = try ModelSplit(bottom: 1, top: 1, of: source.configuration.blockCount)
    try words.check(source.configuration, split)
    let full = try source.model()
    if candidate.isDistilled { full.keepMiddleOnDisk(of: split) }
    let longest = full.configuration.contextLength
    var random = SeededRandom(seed: seed, "benchmark text")
    let tokens = (0...256 * windows).map { _ in
      Int32(random.integer(below: full.configuration.vocabularySize))
    }
    func text(_ context: Int) throws -> TokenDataset {
      try TokenDataset(
        [TokenSequence(tokens: tokens, isTarget: tokens.map { _ in true })],
        .stream(context: context))
    }
    let sample =
      words.needsCalibration
      ? CompressionCalibration(try text(min(256, longest)), windows: windows, threads: threads)
      : nil
    let start = ContinuousClock.now
    let emulator = try words.makeUnpacked(from: full, split: split, calibration: sample)
    if candidate.isDistilled {
      var settings = DistillationSettings()
      (settings.steps, settings.context, settings.checks) = (10, min(128, longest), 1)
      settings.threads = threads
      let data = try text(settings.context)
      let distillation = try Distillation(
        emulator, full: full, data: data, settings: settings,
        probe: try PlugInProbe(data, seed: seed, threads: threads),
        sourceDigest: source.digest())
      _ = try distillation.run()
    }
    try emulator.pack(sample)
    let seconds = (ContinuousClock.now - start).seconds
    let peak = ProcessMeasurement.peakMemoryBytes
    return Report(
      recipe: recipe, seconds: seconds,
      peakOverModel: Double(peak) / Double(max(full.byteCount, 1)), peakMemoryBytes: peak,
      modelBytes: full.byteCount)
  }
}
