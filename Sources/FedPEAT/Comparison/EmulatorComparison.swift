import Foundation

/// Many emulators of one model tried on one task: how large each is, what it shows, and what an adapter that was tuned through it is worth.
///
/// Rows are kept in a folder as they come, so that an interrupted comparison goes on where it was.
public struct EmulatorComparison: Sendable {
  /// An emulator to try.
  public struct Candidate: Sendable, Codable, Equatable {
    public var recipe: EmulatorRecipe
    /// Whether its middle is distilled.
    public var isDistilled: Bool

    public init(_ recipe: EmulatorRecipe, isDistilled: Bool = false) {
      self.recipe = recipe
      self.isDistilled = isDistilled
    }

    /// Reads a recipe, with `+distilled` behind it where its middle is to be distilled.
    public init(_ text: String) throws {
      let mark = "+distilled"
      isDistilled = text.hasSuffix(mark)
      recipe = try EmulatorRecipe(isDistilled ? String(text.dropLast(mark.count)) : text)
    }

    public var name: String { recipe.description + (isDistilled ? " + distilled" : "") }
  }

  /// One candidate with one seed.
  public struct Row: Sendable, Codable, Equatable {
    public var candidate: Candidate
    public var seed: UInt64
    /// Of the emulator's weights' file.
    public var bytes: Int
    public var exposure: Double
    /// To make it, distillation included.
    public var seconds: Double
    /// Perplexities on the held out texts, margin and attacks among them.
    public var result: MarginReport
  }

  /// What all candidates are compared with, for one seed: perplexities on the held out texts.
  public struct Reference: Sendable, Codable, Equatable {
    public var seed: UInt64
    public var fullZeroShot: Double
    /// The same adapter tuned through the uncompressed middle: the ceiling of plug-in.
    public var ceiling: Double
    public var fullFineTuning: Double
  }

  public enum Record: Sendable, Codable, Equatable {
    case reference(Reference)
    case row(Row)
  }

  /// What all rows have in common; a folder's rows are of one of these.
  public struct Settings: Sendable, Codable, Equatable {
    public var sourceDigest: Digest
    public var bottom: Int
    public var top: Int
    public var trial: TuningTrial.Settings
    public var attack: MarginReport.Attack
    public var distillation: DistillationSettings?
    /// Digests of the files that texts come from, by what they are for.
    public var texts: [String: Digest]

    public init(
      sourceDigest: Digest, bottom: Int, top: Int, trial: TuningTrial.Settings,
      attack: MarginReport.Attack, distillation: DistillationSettings?, texts: [String: Digest]
    ) {
      self.sourceDigest = sourceDigest
      self.bottom = bottom
      self.top = top
      self.trial = trial
      self.attack = attack
      self.distillation = distillation
      self.texts = texts
    }
  }

  /// The texts of a comparison.
  public struct Texts: Sendable {
    public var task: [Document]
    public var heldOut: [Document]
    public var own: [Document] = []
    public var ownHeldOut: [Document] = []
    public var publicTexts: [Document] = []
    public var calibration: [Document]?
    public var distillation: [Document]?

    public init(task: [Document], heldOut: [Document]) {
      self.task = task
      self.heldOut = heldOut
    }
  }

  private let source: Checkpoint
  private let full: TransformerModel
  private let split: ModelSplit
  private let settings: Settings
  private let texts: Texts
  private let tokenizer: Tokenizer
  private let shouldStop: @Sendable () -> Bool
  private let onStep: @Sendable (String, Trainer.Progress) -> Void

  public init(
    _ source: Checkpoint, settings: Settings, texts: Texts,
    shouldStop: @escaping @Sendable () -> Bool = { false },
    onStep: @escaping @Sendable (String, Trainer.Progress) -> Void = { _, _ in }
  ) throws {
    self.source = source
    full = try source.model()
    try full.checkWeights(source: source.folder.relativePath)
    split = try ModelSplit(
      bottom: settings.bottom, top: settings.top, of: full.blocks.count)
    if settings.distillation != nil { full.keepMiddleOnDisk(of: split) }
    tokenizer = try Tokenizer(folder: source.folder)
    self.settings = settings
    self.texts = texts
    self.shouldStop = shouldStop
    self.onStep = onStep
  }

  /// The compressions that there are, each at three sizes where it has as many.
  ///
  /// - Parameters:
  ///   - hasText: whether there is a text to calibrate on.
  ///   - distills: whether there is one to distil on.
  public static func candidates(
    _ model: TransformerConfiguration, _ split: ModelSplit, hasText: Bool, distills: Bool
  ) throws -> [Candidate] {
    let middle = split.middle.count
    let counts = [0.25, 0.5, 0.75].map {
      max(1, min(middle - 1, Int((Double(middle) * $0).rounded())))
    }
    let numbers = Array(Set(counts)).sorted().filter { $0 < middle }
    let shares = ["0.25", "0.5", "0.75"]
    var words: [String] = []
    for name in ["layer-drop", "importance", "loss-importance", "cluster"] {
      words += numbers.map { "\(name)=\($0)" }
    }
    words += numbers.map { "layer-drop=\($0),share" }
    for name in [
      "prune-heads", "prune-channels", "gradient-channels", "low-rank", "weighted-low-rank",
      "gradient-ranks", "magnitude",
    ] {
      words += shares.map { "\(name)=\($0)" }
    }
    words += shares.map { "gradient-channels=\($0),gradient-ranks=\($0)" }
    words += ["int4", "int4=gptq", "int8", "int8=gptq", "bf16", "f16"]
    var result = try words.map { Candidate(try EmulatorRecipe($0)) }
    if distills {
      result += try numbers.flatMap {
        [
          Candidate(try EmulatorRecipe("layer-drop=\($0)"), isDistilled: true),
          Candidate(try EmulatorRecipe("layer-drop=\($0),share"), isDistilled: true),
        ]
      }
    }
    return try result.filter { candidate in
      if candidate.recipe.needsCalibration, !hasText { return false }
      // Of an encoder and a decoder some words keep too little, or nothing that fits.
      if model.hasEncoder { return (try? candidate.recipe.check(model, split)) != nil }
      try candidate.recipe.check(model, split)
      return true
    }
  }

  private func trial(_ seed: UInt64, _ name: String) throws -> TuningTrial {
    var own = settings.trial
    own.seed = seed
    let onStep = onStep
    return try TuningTrial(
      source, full: full, task: texts.task, heldOut: texts.heldOut, settings: own,
      shouldStop: shouldStop, onStep: { onStep("\(name): \($0)", $1) })
  }

  /// What all are compared with.
  public func reference(seed: UInt64) throws -> Reference {
    let trial = try trial(seed, "references, seed \(seed)")
    let adapter = try trial.adapter(
      through: full, ends: split.ends, "the adapter without an emulator")
    return Reference(
      seed: seed, fullZeroShot: try trial.perplexity(full),
      ceiling: try trial.perplexity(full, with: adapter),
      fullFineTuning: try trial.fullFineTuning())
  }

  /// Makes an emulator and tries it.
  public func row(_ candidate: Candidate, seed: UInt64) throws -> Row {
    let name = "\(candidate.name), seed \(seed)"
    let clock = ContinuousClock()
    let start = clock.now
    let sample = try texts.calibration.map { documents in
      CompressionCalibration(
        try TokenDataset.make(
          documents, reader: .texts(tokenizer), for: full.configuration, layout: .stream,
          context: settings.trial.context, addBegin: nil), threads: settings.trial.threads)
    }
    let shouldStop = shouldStop
    let onProgress: CompressionProgress.Listener = { _ in
      if shouldStop() { throw PeatError(.interrupted, "Interrupted.") }
    }
    let emulator = try candidate.recipe.makeUnpacked(
      from: full, split: split, calibration: sample, onProgress: onProgress)
    if candidate.isDistilled, let documents = texts.distillation, var how = settings.distillation {
      how.seed = seed
      let distillation = try Distillation(
        emulator, full: full, source: source,
        data: try Distillation.data(documents, source: source, settings: how),
        probed: sample?.data, settings: how)
      defer { distillation.trainer.finish() }
      let outcome = try distillation.run(
        shouldStop: shouldStop, onStep: { onStep("\(name): distilling", $0) })
      guard outcome.isComplete else { throw PeatError(.interrupted, "Interrupted.") }
    }
    try emulator.pack(sample, onProgress: onProgress)
    let seconds = (clock.now - start).seconds
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent(
      "fedpeat-compare-\(UUID().uuidString)")
    defer { try? FileManager.default.removeItem(at: folder) }
    try emulator.write(
      to: folder, source: source, facts: try emulator.facts(source: source, full: full))
    return Row(
      candidate: candidate, seed: seed, bytes: try Checkpoint(folder: folder).byteCount,
      exposure: emulator.exposure(of: full), seconds: seconds,
      result: try trial(seed, name).margin(
        of: emulator, own: texts.own, ownHeldOut: texts.ownHeldOut,
        publicTexts: texts.publicTexts, attack: settings.attack))
  }
}
