import FedPEAT
import Foundation

extension Simulate {
  /// Plays the run without tuning, once for each seed.
  func play(_ configuration: RunConfiguration) throws {
    if let out = configuration.out {
      try AtomicOutput.checkReplaceable(URL(path: out), replacing: PlayedReport.files.contains)
    }
    let forecast = try RunForecast(configuration)
    forecast.cautions.forEach(Terminal.caution)
    Terminal.status("playing \(seeds == 1 ? "a run" : "\(seeds) runs") …")
    let runs = try PlayedRuns(
      forecast, seeds: (0..<seeds).map { configuration.seed &+ UInt64($0) }
    ) { Interruption.isRequested }
    try checkInterruption()
    let report = PlayedReport(runs)
    if let out = configuration.out { try report.write(to: URL(path: out), of: configuration) }
    try common.report(report, text: report.text)
  }

  /// What runs came to that were played by the learning model.
  struct PlayedReport: Encodable {
    let runs: PlayedRuns

    /// What is written into a folder.
    static let files: Set<String> = ["run.yaml", "results.json"]

    init(_ runs: PlayedRuns) { self.runs = runs }

    private enum CodingKeys: String, CodingKey {
      case fiveNumbers, planner, isMeasured, cautions, rounds, bytesUp, bytesDown, simulatedSeconds
      case joules, exposure, violations, lostRounds, endsEarly, predictedLoss, gap, overSeeds,
        table, seeds
    }

    /// Means under the names that a tuned run has for its numbers; over seeds, deviations too.
    func encode(to encoder: any Encoder) throws {
      var numbers = FiveNumbers()
      for name in FiveNumberName.allCases {
        numbers.notMeasured[name.rawValue] = "nothing was tuned (--learning-model)"
      }
      var container = encoder.container(keyedBy: CodingKeys.self)
      try container.encode(numbers, forKey: .fiveNumbers)
      try container.encode(runs.planner, forKey: .planner)
      try container.encode(runs.isMeasured, forKey: .isMeasured)
      try container.encode(runs.cautions, forKey: .cautions)
      try container.encode(Int(rounding: runs.rounds.mean.rounded()), forKey: .rounds)
      try container.encode(Int(rounding: runs.bytesUp.mean), forKey: .bytesUp)
      try container.encode(Int(rounding: runs.bytesDown.mean), forKey: .bytesDown)
      try container.encode(runs.simulatedSeconds.mean, forKey: .simulatedSeconds)
      try container.encode(runs.joules.mean, forKey: .joules)
      try container.encode(runs.exposure.mean, forKey: .exposure)
      try container.encode(runs.violations, forKey: .violations)
      try container.encode(runs.lostRounds, forKey: .lostRounds)
      try container.encode(runs.endsEarly, forKey: .endsEarly)
      try container.encode(runs.predictedLoss?.mean, forKey: .predictedLoss)
      try container.encode(runs.gap.mean, forKey: .gap)
      var spreads = container.nestedContainer(keyedBy: CodingKeys.self, forKey: .overSeeds)
      try spreads.encode(runs.rounds, forKey: .rounds)
      try spreads.encode(runs.bytesUp, forKey: .bytesUp)
      try spreads.encode(runs.bytesDown, forKey: .bytesDown)
      try spreads.encode(runs.simulatedSeconds, forKey: .simulatedSeconds)
      try spreads.encode(runs.joules, forKey: .joules)
      try spreads.encode(runs.exposure, forKey: .exposure)
      try spreads.encode(runs.predictedLoss, forKey: .predictedLoss)
      try spreads.encode(runs.gap, forKey: .gap)
      try container.encode(runs.table, forKey: .table)
      try container.encode(runs.runs, forKey: .seeds)
    }

    func write(to folder: URL, of configuration: RunConfiguration) throws {
      try AtomicOutput.folder(at: folder, replacing: Self.files.contains) { folder in
        try JSONFile.encode(self).write(to: folder.appendingPathComponent("results.json"))
        try ConfigurationReader.yaml(configuration.withWholePaths())
          .write(to: folder.appendingPathComponent("run.yaml"))
      }
    }

    // MARK: For people

    /// As many rounds are shown at most: the first ones, and others at even distances.
    private static let mostRows = 40

    var text: String {
      let isOne = runs.runs.count == 1
      func shown(_ value: RunsMean, _ show: (Double) -> String) -> String {
        value.deviation == 0
          ? show(value.mean) : "\(show(value.mean)) ± \(show(value.deviation))"
      }
      func count(_ value: Double) -> String {
        Format.number(value, digits: value == value.rounded() ? 0 : 1)
      }
      func bytes(_ value: Double) -> String { Format.bytes(Int(rounding: value)) }
      func loss(_ value: Double) -> String { Format.number(value, digits: 3) }
      let start = runs.startGap
      var rows = [["round", "gap left", "takes", "J", "down", "up", "arrived"]]
      if runs.predictedLoss != nil { rows[0].insert("loss", at: 1) }
      for round in chosen {
        var row = [
          "\(round.round)",
          shown(round.predictedGap) { Format.share($0 / start) },
          shown(round.seconds, Format.seconds), shown(round.joules) { Format.figures($0) },
          shown(round.bytesDown, bytes), shown(round.bytesUp, bytes),
          "\(count(round.delivered.mean)) of \(count(round.participants.mean))",
        ]
        if let predicted = round.predictedLoss { row.insert(shown(predicted, loss), at: 1) }
        rows.append(row)
      }
      var totals = [
        ["planner", runs.planner],
        ["rounds", shown(runs.rounds, count)],
        ["simulated", shown(runs.simulatedSeconds, Format.seconds)],
        ["down", shown(runs.bytesDown, bytes)], ["up", shown(runs.bytesUp, bytes)],
        ["energy", shown(runs.joules) { Format.figures($0) } + " J"],
        ["exposure at most", shown(runs.exposure, Format.share)],
        ["gap left", shown(runs.gap, Format.share)],
        [
          "predicted loss",
          runs.predictedLoss.map { shown($0, loss) + " nats per token" }
            ?? "not known: the edge's learning model was not fitted to a real run",
        ],
      ]
      if runs.lostRounds > 0 {
        totals.append(["rounds played again", count(runs.lostRounds)])
      }
      if runs.endsEarly > 0 {
        totals.append(["runs that end early", Format.share(runs.endsEarly)])
      }
      if runs.violations > 0 { totals.append(["memory violations", "\(runs.violations)"]) }
      let left = runs.table.count - (rows.count - 1)
      return Format.table(rows)
        + (left > 0 ? "\n\(left) rounds are not shown; --json and --out have them" : "")
        + (isOne ? "" : "\n\n\(runs.runs.count) seeds, mean ± standard deviation")
        + "\n\n" + Format.table(totals)
    }

    private var chosen: [PlayedRuns.Round] {
      let (table, most) = (runs.table, Self.mostRows)
      guard table.count > most else { return table }
      return (0..<most).map { place in
        place < most / 2
          ? table[place]
          : table[
            most / 2 + (table.count - 1 - most / 2) * (place - most / 2) / (most / 2 - 1)]
      }
    }
  }
}
