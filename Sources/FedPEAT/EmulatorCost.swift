import Foundation

/// What an emulator takes, on this machine.
public struct EmulatorCost: Sendable, Codable, Equatable {
  /// All files of its folder; on the wire it is as much.
  public var diskBytes: Int
  public var wireBytes: Int
  /// Of its weights in memory, and of the full model's.
  public var memoryBytes: Int
  public var fullMemoryBytes: Int
  /// A step of tuning LoRA of rank 8 in both ends on up to 8 windows of the calibration text, median of five: through the emulator and through the full
  /// model; `nil`: there was no text.
  public var secondsPerStep: Double?
  public var fullSecondsPerStep: Double?

  /// - Parameters:
  ///   - folder: the emulator's, as it was written.
  ///   - data: a text to measure steps on.
  ///   - shouldStop: asked between steps.
  /// - Throws: `interrupted` where it is to stop.
  public init(
    _ emulator: Emulator, in folder: URL, full: TransformerModel, data: TokenDataset?,
    threads: Int, shouldStop: () -> Bool = { false }
  ) throws {
    let files = FileManager.default
    diskBytes = try files.contentsOfDirectory(atPath: folder.path).reduce(0) { sum, name in
      let size =
        try files.attributesOfItem(atPath: folder.appendingPathComponent(name).path)[.size] as? Int
      return sum + (size ?? 0)
    }
    wireBytes = diskBytes
    memoryBytes = emulator.model.byteCount
    fullMemoryBytes = full.byteCount
    if let data {
      // In turn, so that both see the same machine.
      let own = try Steps(emulator.model, ends: emulator.split.ends, data, threads)
      let whole = try Steps(full, ends: emulator.split.ends, data, threads)
      defer {
        own.finish()
        whole.finish()
      }
      var seconds: (own: [Double], whole: [Double]) = ([], [])
      for _ in 0..<6 {
        if shouldStop() { throw PeatError(.interrupted, "Interrupted.") }
        seconds.own.append(try own.next())
        seconds.whole.append(try whole.next())
      }
      // The first step prepares.
      secondsPerStep = seconds.own.dropFirst().sorted()[2]
      fullSecondsPerStep = seconds.whole.dropFirst().sorted()[2]
    }
  }

  /// Steps of tuning a new adapter through a model, which is not changed.
  private final class Steps {
    private let trainer: Trainer
    private let injected: InjectedAdapter

    init(_ model: TransformerModel, ends: [Int], _ data: TokenDataset, _ threads: Int) throws {
      let model = try model.sharingWeights()
      let adapter = try Adapter(probing: model, ends: ends)
      injected = try adapter.inject(into: model)
      trainer = try Trainer(
        model, parameters: injected.parameters.map(\.parameter), data: data,
        configuration: TrainingConfiguration(
          steps: 1000, batch: min(8, data.windowCount), context: data.arrangement.context,
          learningRate: 1e-4, order: .uniformWindows, threads: threads))
    }

    func next() throws -> Double {
      let start = ContinuousClock.now
      _ = try trainer.advance()
      return (ContinuousClock.now - start).seconds
    }

    func finish() {
      trainer.finish()
      injected.remove()
    }
  }
}
