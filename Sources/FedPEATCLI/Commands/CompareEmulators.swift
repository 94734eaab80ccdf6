import ArgumentParser
import FedPEAT
import Foundation

struct CompareEmulators: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "compare-emulators",
    abstract:
      "Try every way to compress a model on a task: one table of size, exposure, quality and margin.",
    discussion: """
      Example: fedpeat compare-emulators model --task devices.jsonl --held-out held-out.jsonl --public public.txt --out compared

      Each compression, at three sizes, is made, an adapter is tuned through it and plugged in, and all that is measured: the \
      emulator before and after, the full model before and with the adapter, beside the adapter tuned without an emulator (the \
      ceiling) and full fine-tuning. With --own or --public, what an attacker makes of the emulator, too. Writes \
      table.md, report.html and the records into --out; the same command goes on where an interrupted one was.
      """)

  @Argument(help: "The full model: its folder, or its name on the Hub.")
  var model: String

  @Option(help: "Blocks at the bottom that stay as they are, where an adapter sits.")
  var bottom = 1

  @Option(help: "Blocks at the top that stay as they are, where an adapter sits.")
  var top = 1

  @Option(
    help: "A text that compressions look at; those that need one are left out if not given.")
  var calibration: String?

  @Option(help: "A text of the owner's to distil on; nothing is distilled if not given.")
  var distill: String?

  @Option(help: "Steps of distillation.")
  var distillSteps = DistillationSettings().steps

  @Option(help: "Learning rate of distillation; it falls along a cosine.")
  var distillRate = DistillationSettings().learningRate

  @Option(
    help:
      "Noise on the states before the middle in distillation, as a share of their root mean square, at most."
  )
  var distillNoise = DistillationSettings().noise

  @Option(help: "Weight of the loss of predicting each next token in distillation.")
  var lossWeight = DistillationSettings().lossWeight

  @Option(
    help: ArgumentHelp(
      "A recipe to try, +distilled behind it to have it distilled; may be given again; all that there are, at three sizes each, if not given.",
      valueName: "recipe"))
  var recipe: [String] = []

  @OptionGroup var trial: TrialOptions

  @Option(help: "The folder for table, report and records.")
  var out: String

  @OptionGroup var common: CommonOptions

  func run() async throws {
    let source = try Checkpoint(folder: URL(model: model))
    guard try EmulatorFacts.read(in: source.folder) == nil else {
      throw PeatError.badData("'\(model)' is an emulator; give the full model.")
    }
    let split = try ModelSplit(bottom: bottom, top: top, of: source.configuration.blockCount)
    let candidates = try candidates(source.configuration, split)
    let (texts, digests) = try readTexts()
    let settings = EmulatorComparison.Settings(
      sourceDigest: source.digest(), bottom: bottom, top: top,
      trial: try trial.settings(
        common, documents: texts.task, longest: source.configuration.contextLength, seed: 0),
      attack: try trial.attack(), distillation: try distillation(source), texts: digests)
    let comparison = try EmulatorComparison(
      source, settings: settings, texts: texts, shouldStop: { Interruption.isRequested },
      onStep: TrialOptions.tell)
    var folder = try ComparisonFolder(URL(path: out), settings: settings)
    let start = ContinuousClock.now
    var (done, made) = (0, 0)
    let all = candidates.count * trial.runs
    for number in 0..<trial.runs {
      let seed = common.seedValue &+ UInt64(number)
      if !folder.hasReference(seed: seed) {
        let reference = try telling(done, of: all) { try comparison.reference(seed: seed) }
        try folder.append(.reference(reference))
      }
      for candidate in candidates {
        done += 1
        if folder.hasRow(candidate, seed: seed) { continue }
        let row = try telling(done - 1, of: all) { try comparison.row(candidate, seed: seed) }
        try folder.append(.row(row))
        made += 1
        let left = (ContinuousClock.now - start) / made * (all - done)
        Terminal.note(
          "\(done) of \(all)  \(candidate.name), seed \(seed): plugged in \(Format.number(row.result.plugIn, digits: 3)), margin \(Format.number(row.result.margin, digits: 3))  about \(Format.time(left)) left"
        )
      }
    }
    let table = ComparisonTable(
      folder.records, candidates: candidates, fullBytes: source.byteCount)
    try write(table, settings, to: folder.url)
    try common.report(table, text: Format.table(table.rows) + "\n\n" + table.references)
  }

  /// Says how far it came where it is interrupted.
  private func telling<Result>(
    _ done: Int, of all: Int, _ work: () throws -> Result
  ) throws -> Result {
    do { return try work() } catch  where error.isInterruption {
      throw PeatError(
        .interrupted,
        "Interrupted with \(done) of \(all) rows measured. They are kept in '\(out)'; the same command goes on."
      )
    }
  }

  private func candidates(
    _ model: TransformerConfiguration, _ split: ModelSplit
  ) throws -> [EmulatorComparison.Candidate] {
    guard !recipe.isEmpty else {
      guard split.middle.count > 1 else {
        throw PeatError.usage(
          "The middle has a single block: there is no choice of blocks. Name recipes with --recipe."
        )
      }
      return try EmulatorComparison.candidates(
        model, split, hasText: calibration != nil, distills: distill != nil)
    }
    return try recipe.map { text in
      let candidate = try EmulatorComparison.Candidate(text.filter { $0 != " " })
      let recipe = candidate.recipe
      try recipe.check(model, split)
      if recipe.needsCalibration, calibration == nil {
        throw PeatError.usage(
          "The recipe '\(recipe)' looks at what the middle computes: give it a text with --calibration."
        )
      }
      if candidate.isDistilled, distill == nil {
        throw PeatError.usage("'\(text)' is to be distilled: give a text with --distill.")
      }
      return candidate
    }
  }

  private func readTexts() throws -> (EmulatorComparison.Texts, [String: Digest]) {
    var (texts, digests) = try trial.texts()
    func read(_ file: String, _ name: String) throws -> [Document] {
      let url = URL(path: file)
      digests[name] = try Digest(ofDataAt: url)
      return try DocumentReader.read(url)
    }
    texts.calibration = try calibration.map { try read($0, "calibration") }
    texts.distillation = try distill.map { try read($0, "distillation") }
    return (texts, digests)
  }

  private func distillation(_ source: Checkpoint) throws -> DistillationSettings? {
    guard distill != nil else { return nil }
    var settings = DistillationSettings()
    settings.steps = distillSteps
    settings.learningRate = distillRate
    settings.noise = distillNoise
    settings.lossWeight = lossWeight
    settings.context = min(
      trial.context ?? settings.context, source.configuration.contextLength)
    settings.threads = common.threadCount
    try settings.validate(contextLength: source.configuration.contextLength)
    return settings
  }

  private func write(
    _ table: ComparisonTable, _ settings: EmulatorComparison.Settings, to folder: URL
  ) throws {
    let rows = table.rows
    let rule = "|" + rows[0].indices.map { $0 == 0 ? " --- |" : " ---: |" }.joined()
    let lines = rows.map { "| " + $0.joined(separator: " | ") + " |" }
    let markdown = ([lines[0], rule] + lines.dropFirst()).joined(separator: "\n")
    try AtomicOutput.write(
      Data((markdown + "\n\n" + table.references + "\n").utf8),
      to: folder.appendingPathComponent("table.md"))
    var page = HTMLReport("Emulators compared")
    page.add(paragraph: table.references)
    page.add(
      rows,
      caption:
        "\(bottom)-n-\(top), \(settings.trial.steps) steps, rate \(settings.trial.learningRate), noise \(settings.trial.stateNoise), \(trial.runs) seed\(trial.runs == 1 ? "" : "s")"
    )
    try page.write(to: folder.appendingPathComponent("report.html"))
  }
}

extension ComparisonTable {
  /// A line of text per candidate, under a header.
  fileprivate var rows: [[String]] {
    let isAttacked = lines.contains { $0.marginAfterAttack != nil }
    let asksForAttacker = lines.contains { $0.marginForAttacker != nil }
    let header =
      ["emulator", "bytes", "exposure", "zero-shot", "tuned", "plug-in", "margin"]
      + (isAttacked ? ["after attack"] : []) + (asksForAttacker ? ["for the attacker"] : [])
      + ["seconds"]
    return [header]
      + lines.map { line in
        func text(_ value: Value, _ digits: Int) -> String {
          Format.number(value.mean, digits: digits)
            + (line.runs > 1 ? " ± \(Format.number(value.deviation, digits: digits))" : "")
        }
        return [
          line.name, Format.percent(Double(line.bytes) / Double(max(fullBytes, 1))),
          Format.percent(line.exposure), text(line.emulatorZeroShot, 2),
          text(line.emulatorTuned, 3), text(line.plugIn, 3), text(line.margin, 3),
        ] + (isAttacked ? [line.marginAfterAttack.map { text($0, 3) } ?? "–"] : [])
          + (asksForAttacker ? [line.marginForAttacker.map { text($0, 3) } ?? "–"] : [])
          + [Format.number(line.seconds, digits: 1)]
      }
  }

  /// What all are compared with.
  fileprivate var references: String {
    "Perplexity: full model, zero-shot \(Format.number(fullZeroShot.mean, digits: 3)); ceiling (the adapter tuned without an emulator) \(Format.number(ceiling.mean, digits: 3)); full fine-tuning \(Format.number(fullFineTuning.mean, digits: 3)). Bytes: of weights' files, of the full model's \(Format.count(fullBytes))."
  }
}
