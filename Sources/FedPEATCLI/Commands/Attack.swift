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
      good model of its own: tune the emulator's middle, too, on its own texts, on public text, or on both; on public text at several \
      learning rates, and also after the middle was filled up to the model's depth. The margin is \
      ln(perplexity of the best emulator) − ln(perplexity of the plug-in), on --held-out: who has the better model for \
      everybody. With --own-held-out, texts like the attacker's own, it is measured there, too: who has the better model for the \
      attacker. It is written into emulator.json: inspect shows it, and serve refuses an emulator whose margin is gone. What an earlier \
      attack on the same emulator found stays where it was less. Tune as the run will (--learning-rate, --state-noise, --rank, --alpha): \
      another way of tuning has another margin.
      """)

  @Argument(help: "The full model: its folder, or its name on the Hub.")
  var model: String

  @Argument(help: "The emulator's folder.")
  var emulator: String

  @OptionGroup var trial: TrialOptions

  @Flag(help: "Leave emulator.json as it is.")
  var dryRun = false

  @Flag(help: "Write the margin also where an earlier attack on the emulator found less.")
  var replace = false

  @OptionGroup var common: CommonOptions

  struct Report: Encodable {
    var margin: Double
    var marginAfterAttack: Double
    var leastMarginAfterAttack: Double
    /// The least on texts like the attacker's own; null: it was not measured.
    var leastMarginForAttacker: Double?
    /// What the best attack takes from the margin.
    var regained: Double
    /// Null: the attack was too feeble to tell.
    var hasModelPrivacy: Bool?
    /// Why the margin says little; null: an attacker did what it could.
    var caution: String?
    var runs: [MarginReport]

    private enum CodingKeys: String, CodingKey {
      case margin, marginAfterAttack, leastMarginAfterAttack, leastMarginForAttacker, regained
      case hasModelPrivacy, caution, runs
    }

    func encode(to encoder: any Encoder) throws {
      var table = encoder.container(keyedBy: CodingKeys.self)
      try table.encode(margin, forKey: .margin)
      try table.encode(marginAfterAttack, forKey: .marginAfterAttack)
      try table.encode(leastMarginAfterAttack, forKey: .leastMarginAfterAttack)
      try table.encode(leastMarginForAttacker, forKey: .leastMarginForAttacker)
      try table.encode(regained, forKey: .regained)
      try table.encode(hasModelPrivacy, forKey: .hasModelPrivacy)
      try table.encode(caution, forKey: .caution)
      try table.encode(runs, forKey: .runs)
    }
  }

  func run() async throws {
    let attack = try trial.attack()
    let source = try Checkpoint(folder: URL(model: model))
    let folder = URL(path: emulator)
    guard let facts = try EmulatorFacts.read(in: folder) else {
      throw PeatError.badData(
        "'\(emulator)' is no emulator: it has no emulator.json. 'fedpeat compress' makes one.")
    }
    guard facts.sourceDigest == source.digest() else {
      throw PeatError.badData(
        "'\(emulator)' was made of the model with digest \(facts.sourceDigest.short); '\(model)' has \(source.digest().short). Give the model that it was made of."
      )
    }
    if !dryRun {
      try AtomicOutput.checkFile(
        folder.appendingPathComponent("emulator.json"), "emulator", isOurs: { _ in true })
    }
    var (texts, digests) = try trial.texts()
    if trial.own == nil { texts.own = texts.task }
    let full = try source.model()
    let compressed = try Emulator(folder: folder)
    var reports: [MarginReport] = []
    for number in 0..<trial.runs {
      let settings = try trial.settings(
        common, documents: texts.task, longest: source.configuration.contextLength,
        seed: common.seedValue &+ UInt64(number))
      let place = trial.runs > 1 ? "run \(number + 1) of \(trial.runs): " : ""
      let measured = try TuningTrial(
        source, full: full, task: texts.task, heldOut: texts.heldOut, settings: settings,
        shouldStop: { Interruption.isRequested },
        onStep: { TrialOptions.tell(place + $0, $1) })
      reports.append(
        try measured.margin(
          of: compressed, own: texts.own, ownHeldOut: texts.ownHeldOut,
          publicTexts: texts.publicTexts, attack: attack))
    }
    var result = MarginFacts(reports)
    if let heldOut = digests["heldOut"], [digests["task"], digests["own"]].contains(heldOut) {
      result.isOnTunedText = true
    }
    try common.report(
      Report(
        margin: result.margin, marginAfterAttack: result.afterAttack,
        leastMarginAfterAttack: result.leastAfterAttack,
        leastMarginForAttacker: result.leastForAttacker,
        regained: result.margin - result.afterAttack, hasModelPrivacy: result.hasModelPrivacy,
        caution: result.doubt, runs: reports), text: text(result, reports))
    if !dryRun { try write(result, to: folder, facts) }
  }

  /// Adds the margin to emulator.json, if that is what it was.
  private func write(_ margin: MarginFacts, to folder: URL, _ facts: EmulatorFacts) throws {
    guard try EmulatorFacts.read(in: folder) == facts else {
      throw PeatError.badData(
        "'\(emulator)' was changed while it was attacked: emulator.json is left as it is. Attack it again."
      )
    }
    if let earlier = facts.margin, earlier.least < margin.least, !replace {
      Terminal.caution(
        "an earlier attack on '\(emulator)' left a margin of \(Format.number(earlier.least, digits: 3)), less than this one's \(Format.number(margin.least, digits: 3)): emulator.json keeps that. Where it was of another task, or a mistake, say --replace."
      )
      return
    }
    var facts = facts
    facts.margin = margin
    try JSONFile.write(facts, to: folder.appendingPathComponent("emulator.json"))
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
    for (name, title) in MarginReport.titles {
      // Each run tries the same, in the same order.
      let tried = reports.map { $0.tried.filter { $0.name == name } }
      for place in (tried.first ?? []).indices where tried.allSatisfy({ $0.count > place }) {
        let rate = tried[0].count > 1 ? ", rate \(tried[0][place].learningRate)" : ""
        let sum = tried.reduce(0) { $0 + $1[place].perplexity }
        rows.append([
          "attack: \(title)\(rate)", Format.number(sum / Double(tried.count)),
        ])
      }
    }
    if reports.allSatisfy({ $0.forAttacker != nil }) {
      rows.append([
        "on texts like the attacker's own: emulator, tuned",
        mean { $0.forAttacker?.emulatorTuned ?? 0 },
      ])
      rows.append(["adapter plugged in", mean { $0.forAttacker?.plugIn ?? 0 }])
      for (name, title) in MarginReport.titles {
        if reports.allSatisfy({ $0.forAttacker?.attacked[name] != nil }) {
          rows.append(["attack: \(title)", mean { $0.forAttacker?.attacked[name] ?? 0 }])
        }
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
    if let least = result.leastForAttacker {
      rows.append([
        "on texts like the attacker's own\(result.runs > 1 ? ", least of \(result.runs) runs" : "")",
        Format.number(least, digits: 3),
      ])
    }
    return Format.table(rows)
      + (result.hasModelPrivacy == false
        ? "\n\nNo model privacy: a device can make a model of this emulator that is as good as the owner's."
        : result.doubt.map { "\n\nSays little of model privacy: \($0)." } ?? "")
  }
}
