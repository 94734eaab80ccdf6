import ArgumentParser
import FedPEAT
import Foundation

struct Compress: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Make an emulator: the model with its middle compressed.",
    discussion: """
      Example: fedpeat compress models/stories260K --bottom 1 --top 1 --recipe layer-drop=2 --out emulator

      A recipe's words are applied from left to right, in this order:
      layer-drop=N keeps N blocks of the middle, evenly; layers=0:2 those, counted in the middle from 0.
      importance=N, loss-importance=N and cluster=N keep N that matter, on the text of --calibration.
      share runs the nearest kept block in the place of each that is missing.
      prune-heads=F and prune-channels=F keep a share F of heads and feed-forward channels, gradient-channels=F those that \
      adapters' gradients hang on.
      low-rank=F keeps a share F of each matrix's singular values, weighted-low-rank=F of what comes out of it on the text, \
      gradient-ranks=F, in attention, those that adapters' gradients hang on.
      magnitude=F keeps a share F of each matrix's weights, the largest; the others become zero.
      int8, int4, bf16, f16 keep the middle's matrices in fewer bits, on disk, on the wire and in memory; int8=gptq and int4=gptq \
      make good on the text what rounding changes.

      An emulator of chosen blocks alone is a checkpoint folder that transformers loads too; one with fewer heads or channels \
      with --transformers; any other is written for it by export. --distill tunes the middle on \
      a text of the owner's, before it is stored in fewer bits, so that it computes what the full model's does.
      """)

  @Argument(help: "The full model: its folder, or its name on the Hub.")
  var model: String

  @Option(help: "Blocks at the bottom that stay as they are, where an adapter sits.")
  var bottom = 1

  @Option(help: "Blocks at the top that stay as they are, where an adapter sits.")
  var top = 1

  @Option(
    help:
      "How the middle is compressed; with --ladder what is done beside; needed without it (not given)."
  )
  var recipe: String?

  @Option(
    help: ArgumentHelp(
      "Make several levels, level-0, level-1, … in the output folder, that keep so many blocks of the middle each: 8,4,2. Each keeps some of the blocks of the one before, which are made once, so that two together show no more than the larger; where each is distilled, for itself, they show more, and what all show together is told. They replace all levels that were there. One is made if not given.",
      valueName: "counts"))
  var ladder: String?

  @Option(help: "The folder to write.")
  var out: String

  @Option(
    help:
      "A text on which emulator and full model are compared, and that importance, cluster, weighted and gradient words and gptq look at; fidelity is null if not given."
  )
  var calibration: String?

  @Option(
    help: ArgumentHelp(
      "Write a page with all that is reported to this file; to none if not given.",
      valueName: "file"))
  var html: String?

  @Flag(
    help:
      "Write narrower blocks as wide as the model's, filled up with zeros, so that transformers loads the folder; more bytes, the same emulator."
  )
  var transformers = false

  @OptionGroup var distillation: DistillationOptions

  @OptionGroup var common: CommonOptions

  func run() async throws {
    let levels = try recipes()
    let target = URL(path: out)
    let steps = ladder.map { _ in LadderFolder(target, count: levels.count) }
    let targets = steps?.workshops ?? [target]
    if let steps {
      try steps.prepare(inputs: [URL(model: model)], resumes: distillation.resume)
    } else {
      try CheckpointWriter.checkOutput(target, inputs: [URL(model: model)])
      if distillation.distill == nil { _ = try Trainer.State.read(in: target, resume: false) }
    }
    if let html {
      try AtomicOutput.checkFile(URL(path: html), "page", isOurs: HTMLReport.isOne)
    }
    let source = try Checkpoint(folder: URL(model: model))
    guard try EmulatorFacts.read(in: source.folder) == nil else {
      throw PeatError.badData("'\(model)' is an emulator already; compress the full model.")
    }
    guard target.standardizedFileURL != source.folder.standardizedFileURL
    else { throw PeatError.usage("--out is the model's own folder; name another.") }
    let split = try ModelSplit(bottom: bottom, top: top, of: source.configuration.blockCount)
    for recipe in levels {
      try recipe.check(source.configuration, split)
      if transformers { try recipe.checkPadded() }
      if recipe.needsCalibration, calibration == nil {
        throw PeatError.usage(
          "The recipe '\(recipe)' looks at what the middle computes: give it a text with --calibration."
        )
      }
    }
    let lesson = try distillation.lesson(source, common)
    let full = try source.model()
    try full.checkWeights(source: model)
    if distillation.distill != nil { full.keepMiddleOnDisk(of: split) }
    if let calibration { DataCautions.tell(URL(path: calibration), for: full.configuration) }
    let sample = try calibration.map { text in
      CompressionCalibration(
        try TokenDataset.make(
          try full.configuration.documents(in: URL(path: text)),
          reader: try InputReader(folder: source.folder, for: full.configuration),
          for: full.configuration,
          layout: .stream,
          context: min(256, full.configuration.contextLength), addBegin: nil,
          seed: common.seedValue),
        threads: common.threadCount)
    }
    var fidelity = try calibration.flatMap { text in
      try sample.map {
        try FidelityMeasure(
          full, source, URL(path: text), $0.data, threads: common.threadCount)
      }
    }
    var blocks = LevelBlocks()
    var reports: [Report] = []
    var contents: [[Int: Double]] = []
    for (number, (recipe, target)) in zip(levels, targets).enumerated() {
      if ladder != nil { Terminal.note("level        \(recipe)") }
      let emulator =
        try finished(recipe, split, source, lesson, in: target)
        ?? make(
          recipe, from: full, source, split, sample, lesson, &blocks, &fidelity, to: target)
      contents.append(emulator.shownBlocks(of: full))
      reports.append(
        Report(
          recipe: recipe.description, bytes: try Checkpoint(folder: target).byteCount,
          fullBytes: source.byteCount, blocks: emulator.model.blocks.count,
          keptBlocks: emulator.keptBlocks, parameters: emulator.model.parameterCount,
          exposure: emulator.exposure(of: full), fidelity: emulator.fidelity,
          cost: try EmulatorCost(
            emulator, in: target, full: full, data: sample?.data, threads: common.threadCount,
            shouldStop: { Interruption.isRequested }),
          folder: (steps?.places[number] ?? target).relativePath))
    }
    try steps?.finish()
    let exposure = try ExposureLedger(
      contents: contents, wholeBlock: 1 / Double(split.middle.count)
    ).exposure(ofLevels: Set(contents.indices))
    if let html { try Self.page(reports, exposure: exposure).write(to: URL(path: html)) }
    if ladder == nil {
      try common.report(reports[0], text: Self.text(reports[0]))
    } else {
      try common.report(
        LadderReport(levels: reports, fullBytes: source.byteCount, exposure: exposure),
        text: Self.text(reports, exposure))
    }
  }

  /// The recipe of each level.
  private func recipes() throws -> [EmulatorRecipe] {
    guard let ladder else {
      guard let recipe else {
        throw PeatError.usage(
          "compress needs a recipe, such as --recipe layer-drop=2, or --ladder 3,2,1.")
      }
      return [try EmulatorRecipe(recipe)]
    }
    let parts = ladder.split(separator: ",", omittingEmptySubsequences: false)
    let counts = parts.compactMap { Int($0.filter { $0 != " " }) }
    guard counts.count == parts.count, counts.allSatisfy({ $0 > 0 }),
      zip(counts, counts.dropFirst()).allSatisfy({ $0 > $1 }), counts.count <= 64
    else {
      throw PeatError.usage(
        "--ladder needs falling numbers of blocks, at least 1 each: 8,4,2; found '\(ladder)'.")
    }
    if let word = try recipe.map({ try EmulatorRecipe($0) })?.choices.first {
      throw PeatError.usage(
        "--ladder chooses the blocks of each level; '\(word)' in --recipe would choose them again, for all levels the same. Leave it out."
      )
    }
    return try counts.indices.map { level in
      let drops = counts[...level].map { "layer-drop=\($0)" }
      return try EmulatorRecipe((drops + (recipe.map { [$0] } ?? [])).joined(separator: ","))
    }
  }

  /// A level that an interrupted command had finished, where this one goes on.
  private func finished(
    _ recipe: EmulatorRecipe, _ split: ModelSplit, _ source: Checkpoint,
    _ lesson: DistillationOptions.Lesson?, in target: URL
  ) throws -> Emulator? {
    guard ladder != nil, distillation.resume, !Trainer.State.exists(in: target),
      let facts = try EmulatorFacts.read(in: target), facts.recipe == recipe,
      facts.sourceDigest == source.digest(), facts.distillation?.settings == lesson?.settings,
      facts.distillation?.text == lesson?.digest
    else { return nil }
    let emulator = try Emulator(folder: target)
    return emulator.split == split ? emulator : nil
  }

  private func make(
    _ recipe: EmulatorRecipe, from full: TransformerModel, _ source: Checkpoint,
    _ split: ModelSplit, _ sample: CompressionCalibration?,
    _ lesson: DistillationOptions.Lesson?, _ blocks: inout LevelBlocks,
    _ fidelity: inout FidelityMeasure?, to target: URL
  ) throws -> Emulator {
    let start = ContinuousClock.now
    let onProgress: CompressionProgress.Listener = { progress in
      try checkInterruption()
      Terminal.status(
        "\(progress.word): block \(progress.done + 1) of \(progress.total)  \(Format.time(ContinuousClock.now - start)) so far"
      )
    }
    var emulator = try recipe.makeUnpacked(
      from: full, split: split, calibration: sample, sharing: &blocks, onProgress: onProgress)
    if let lesson {
      try distillation.run(
        &emulator, lesson, full: full, source: source, target: target, probeText: sample?.data,
        isOneOfSeveral: ladder != nil)
    }
    try emulator.pack(sample, onProgress: onProgress)
    if let sample {
      emulator.fidelity = try fidelity?.report(
        emulator, beside: full, on: sample, seed: common.seedValue, source)
    }
    let facts = try emulator.facts(source: source, full: full, padded: transformers)
    try checkInterruption()
    try FileManager.default.createDirectory(
      at: target.deletingLastPathComponent(), withIntermediateDirectories: true)
    try emulator.write(to: target, source: source, facts: facts)
    return emulator
  }
}

/// How well emulators stand for a model on a text: what is the model's own is measured once for all levels.
private struct FidelityMeasure {
  /// The text's tokens, of a model that predicts each next one.
  private let rows: [[Int32]]
  private let measure: PerplexityMeasure?
  /// The text as another head learns from it.
  private let data: TokenDataset
  private let threads: Int
  private var fullLoss: TokenLoss?

  init(
    _ full: TransformerModel, _ source: Checkpoint, _ file: URL, _ data: TokenDataset, threads: Int
  ) throws {
    self.data = data
    self.threads = threads
    let configuration = full.configuration
    guard full.head?.layout.labels == nil, !configuration.predictsMaskedTokens,
      !configuration.hasEncoder
    else {
      (rows, measure) = ([], nil)
      return
    }
    let tokenizer = try Tokenizer(folder: source.folder)
    rows = try DocumentReader.read(file).map {
      try tokenizer.encode($0.text, addSpecialTokens: true)
    }
    measure = try PerplexityMeasure(
      context: min(configuration.contextLength, 512), threads: threads, model: full)
  }

  mutating func report(
    _ emulator: Emulator, beside full: TransformerModel, on sample: CompressionCalibration,
    seed: UInt64, _ source: Checkpoint
  ) throws -> FidelityReport {
    let whole = try fullLoss ?? loss(full, "the full model's loss")
    fullLoss = whole
    var report = FidelityReport(
      full: whole, emulator: try loss(emulator.model, "the emulator's loss"))
    Terminal.status("measuring: states, gradients and a probe's tuning …")
    try emulator.measure(
      &report, beside: full, on: sample, seed: seed, sourceDigest: source.digest(),
      shouldStop: { Interruption.isRequested })
    return report
  }

  private func loss(_ model: TransformerModel, _ what: String) throws -> TokenLoss {
    let start = ContinuousClock.now
    let tell = { @Sendable (done: Int, all: Int) in
      let left = (ContinuousClock.now - start) / max(done, 1) * (all - done)
      Terminal.status("measuring: \(what), window \(done) of \(all)  \(Format.time(left)) left")
    }
    guard let measure else {
      return try data.loss(
        model, rows: 1, threads: threads, shouldStop: { Interruption.isRequested },
        onProgress: tell)
    }
    return try measure.loss(
      model, rows: rows, shouldStop: { Interruption.isRequested }, onProgress: tell)
  }
}
