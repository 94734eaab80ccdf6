import ArgumentParser
import FedPEAT
import Foundation

struct Attack: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract:
      "Measure what an emulator gives away: the owner's margin, before and after attacks on it.",
    discussion: """
      Example: fedpeat attack model emulator --task devices.jsonl --held-out held-out.jsonl --own one.jsonl --public public.txt

      Tunes an adapter through the emulator on --task and plugs it into the model; then does what a device could do to have a \
      good model of its own: tune the emulator's middle, too, on its own texts, on public text, or on both. The margin is \
      ln(perplexity of the best emulator) − ln(perplexity of the plug-in), on --held-out. It is written into emulator.json: \
      inspect shows it, and serve refuses an emulator whose margin is gone.
      """)

  @Argument(help: "The full model's folder.")
  var model: String

  @Argument(help: "The emulator's folder.")
  var emulator: String

  @Option(help: "Texts like those of devices, to tune on.")
  var task: String

  @Option(help: "Texts of the same kind, to measure on.")
  var heldOut: String

  @Option(
    help: "The attacker's own texts, such as those of one device; those of --task if not given.")
  var own: String?

  @Option(
    name: .customLong("public"),
    help: "Public text that an attacker has; the attacks use their own texts alone if not given.")
  var publicText: String?

  @Option(help: "Tokens of public text that an attacker uses, at most.")
  var publicTokens = MarginReport.Attack().tokens

  @Option(help: "How often an attacker goes over them.")
  var publicEpochs = MarginReport.Attack().epochs

  @Option(help: "An attacker's learning rate on them.")
  var publicRate = MarginReport.Attack().learningRate

  @Option(help: "How often all is done, each time with another seed.")
  var runs = 1

  @Option(help: "Steps of tuning on the task.")
  var steps = TuningTrial.Settings().steps

  @OptionGroup var tuning: TrialOptions

  @Flag(help: "Leave emulator.json as it is.")
  var dryRun = false

  @OptionGroup var common: CommonOptions

  struct Report: Encodable {
    var margin: Double
    var marginAfterAttack: Double
    var leastMarginAfterAttack: Double
    var hasModelPrivacy: Bool
    var runs: [MarginReport]
  }

  func run() async throws {
    guard (1...100).contains(runs) else {
      throw PeatError.usage("--runs is \(runs); it must be between 1 and 100.")
    }
    var attack = MarginReport.Attack()
    attack.tokens = publicTokens
    attack.epochs = publicEpochs
    attack.learningRate = publicRate
    try attack.validate()
    let source = try Checkpoint(folder: URL(path: model))
    let folder = URL(path: emulator)
    guard var facts = try EmulatorFacts.read(in: folder) else {
      throw PeatError.badData(
        "'\(emulator)' is no emulator: it has no emulator.json. 'fedpeat compress' makes one.")
    }
    guard facts.sourceDigest == source.digest() else {
      throw PeatError.badData(
        "'\(emulator)' was made of the model with digest \(facts.sourceDigest.short); '\(model)' has \(source.digest().short). Give the model that it was made of."
      )
    }
    let task = try DocumentReader.read(URL(path: task))
    let heldOut = try DocumentReader.read(URL(path: heldOut))
    let ownTexts = try own.map { try DocumentReader.read(URL(path: $0)) } ?? task
    let publicTexts = try publicText.map { try DocumentReader.read(URL(path: $0)) } ?? []
    let full = try source.model()
    let compressed = try Emulator(folder: folder)
    var reports: [MarginReport] = []
    for number in 0..<runs {
      let settings = try tuning.settings(
        common, steps: steps, documents: task, longest: source.configuration.contextLength,
        seed: common.seedValue &+ UInt64(number))
      let place = runs > 1 ? "run \(number + 1) of \(runs): " : ""
      let trial = try TuningTrial(
        source, full: full, task: task, heldOut: heldOut, settings: settings,
        shouldStop: { Interruption.isRequested },
        onStep: { TrialOptions.tell(place + $0, $1) })
      reports.append(
        try trial.margin(
          of: compressed, own: ownTexts, publicTexts: publicTexts, attack: attack))
    }
    let result = MarginFacts(reports)
    if !dryRun {
      facts.margin = result
      try JSONFile.write(facts, to: folder.appendingPathComponent("emulator.json"))
    }
    try common.report(
      Report(
        margin: result.margin, marginAfterAttack: result.afterAttack,
        leastMarginAfterAttack: result.leastAfterAttack, hasModelPrivacy: result.hasModelPrivacy,
        runs: reports), text: text(result, reports))
  }

  private func text(_ result: MarginFacts, _ reports: [MarginReport]) -> String {
    func mean(_ value: (MarginReport) -> Double) -> String {
      Format.number(reports.map(value).reduce(0, +) / Double(max(reports.count, 1)))
    }
    var rows = [
      ["full model, zero-shot", mean(\.fullZeroShot)],
      ["emulator, zero-shot", mean(\.emulatorZeroShot)],
      ["emulator, tuned", mean(\.emulatorTuned)],
      ["adapter plugged in", mean(\.plugIn)],
    ]
    for (name, title) in MarginReport.attackTitles {
      if reports.allSatisfy({ $0.attacked[name] != nil }) {
        rows.append(["attack: \(title)", mean { $0.attacked[name] ?? 0 }])
      }
    }
    rows.append(["margin", Format.number(result.margin, digits: 3)])
    rows.append([
      "after the attacks",
      Format.number(result.afterAttack, digits: 3)
        + (result.runs > 1
          ? " (least of \(result.runs) runs \(Format.number(result.leastAfterAttack, digits: 3)))"
          : ""),
    ])
    return Format.table(rows)
      + (result.hasModelPrivacy
        ? ""
        : "\n\nNo model privacy: a device can make a model of this emulator that is as good as the owner's.")
  }
}

extension MarginReport {
  /// The attacks, with what they do.
  static let attackTitles = [
    ("middleOnOwn", "the middle tuned on its own texts"),
    ("middleOnPublic", "the middle tuned on public text"),
    ("middleOnBoth", "the middle tuned on both"),
  ]
}
