import ArgumentParser
import FedPEAT
import Foundation

struct Runs: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "runs",
    abstract: "Look after the runs that are kept: what they came to, going on, going back.",
    discussion: """
      Examples: fedpeat runs list --store result.runs
                fedpeat runs resume run-0 --store result.runs
                fedpeat runs export run-0 --store result.runs --round 7 --out adapter

      A run is kept beside its results (--out result gives result.runs), or where --store said. Without --store these verbs look among the user's own runs, in \
      ~/.local/state/fedpeat/runs ($FEDPEAT_HOME/runs where that is set).
      """,
    subcommands: [
      RunsList.self, RunsShow.self, RunsResume.self, RunsExport.self, RunsRollback.self,
      RunsVerify.self, RunsDelete.self,
    ])
}

/// Which runs a verb is about.
struct ShelfOption: ParsableArguments {
  @Option(help: "The folder that the runs are kept in; the user's own if not given.")
  var store: String?

  var shelf: RunShelf { store.map { RunShelf(URL(path: $0)) } ?? .own() }

  /// Throws where it is no folder. It comes with the first run, and goes with the last.
  func checkFolder() throws {
    let place = shelf.folder
    guard FileManager.default.fileExists(atPath: place.path), !place.isFolder else { return }
    throw PeatError.inputOutput(
      "'\(place.relativePath)' is a file; --store names the folder that runs are kept in.")
  }

  /// A run as a person names it, which must be there.
  func run(_ name: String) throws -> RunID {
    let run: RunID
    do { run = try RunID(name) } catch let error as PeatError {
      throw PeatError.usage(error.message)
    }
    try shelf.check(run)
    return run
  }
}

/// What there is to say of a run that is kept.
struct RunState: Encodable {
  var run: String
  /// `running` where a process works on it, `finished`, `stopped`, or `failed` with the reason.
  var state: String
  var reason: String?
  /// Rounds that counted, and that the run has.
  var rounds: Int
  var roundsInAll: Int?
  /// Updates that were taken of the round that is under way.
  var updatesTaken: Int
  var plugIn: Double?
  var bestRound: Int?
  var bestPlugIn: Double?
  var clients: Int
  var seconds: Double
  var begun: String?
  var changed: String?
  /// What it takes on the disk.
  var bytes: Int
  var folder: String
  var out: String?
  /// What `plugIn` is a number of; not said in JSON.
  let metric: Metric

  init(_ run: RunID, _ shelf: RunShelf) throws {
    let database = try shelf.read(run)
    try self.init(run, shelf, database, database.load())
  }

  init(_ run: RunID, _ shelf: RunShelf, _ database: RunDatabase, _ kept: KeptRun?) throws {
    let configuration = try database.runConfiguration
    let times = try database.times()
    metric = configuration?.metric ?? .perplexity
    self.run = run.name
    rounds = kept?.rounds.count ?? 0
    roundsInAll = configuration?.rounds
    updatesTaken = kept?.neededUpdates.count ?? 0
    let records = kept?.rounds.map(\.record) ?? []
    plugIn =
      try records.last { $0.metrics["plugIn"] != nil }?.metrics["plugIn"]
      ?? database.finalPlugIn
    let best = configuration.flatMap { RunResult.best(of: records, $0.metric) }
    (bestRound, bestPlugIn) = (best?.round, best?.plugIn)
    clients = kept?.clients.count ?? 0
    seconds = kept?.seconds ?? 0
    (begun, changed) = (times?.created, times?.changed)
    bytes = shelf.bytes(of: run)
    folder = shelf.place(of: run).path
    out = configuration?.out
    if try database.isFinished {
      state = "finished"
    } else if shelf.isUnderWay(run) {
      state = "running"
    } else if case .failed(let why)? = kept?.ending {
      (state, reason) = ("failed", why)
    } else {
      state = "stopped"
    }
  }

  private enum CodingKeys: String, CodingKey {
    case run, state, reason, rounds, roundsInAll, updatesTaken, plugIn, bestRound, bestPlugIn
    case clients, seconds, begun, changed, bytes, folder, out
  }

  /// Says every key, also those that are null.
  func encode(to encoder: any Encoder) throws {
    var table = encoder.container(keyedBy: CodingKeys.self)
    try table.encode(run, forKey: .run)
    try table.encode(state, forKey: .state)
    try table.encode(reason, forKey: .reason)
    try table.encode(rounds, forKey: .rounds)
    try table.encode(roundsInAll, forKey: .roundsInAll)
    try table.encode(updatesTaken, forKey: .updatesTaken)
    try table.encode(plugIn?.finite, forKey: .plugIn)
    try table.encode(bestRound, forKey: .bestRound)
    try table.encode(bestPlugIn?.finite, forKey: .bestPlugIn)
    try table.encode(clients, forKey: .clients)
    try table.encode(seconds, forKey: .seconds)
    try table.encode(begun, forKey: .begun)
    try table.encode(changed, forKey: .changed)
    try table.encode(bytes, forKey: .bytes)
    try table.encode(folder, forKey: .folder)
    try table.encode(out, forKey: .out)
  }

  /// A number of the run's metric.
  func shown(_ value: Double) -> String {
    metric == .accuracy ? Format.percent(value) : Format.number(value, digits: 3)
  }

  var row: [String] {
    [
      run, state, "\(rounds) of \(roundsInAll.map(String.init) ?? "?")",
      plugIn.map(shown) ?? "–", Format.bytes(bytes), changed ?? "–",
    ]
  }
}

struct RunsList: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "list", abstract: "List the runs that are kept.",
    discussion: "Example: fedpeat runs list --store result.runs")

  @OptionGroup var place: ShelfOption
  @OptionGroup var common: CommonOptions

  struct Report: Encodable {
    var folder: String
    var runs: [RunState]
    /// Runs that can't be read, with the reason.
    var unreadable: [String: String]
  }

  func run() async throws {
    try place.checkFolder()
    var report = Report(folder: place.shelf.folder.path, runs: [], unreadable: [:])
    for run in place.shelf.runs {
      do { report.runs.append(try RunState(run, place.shelf)) } catch let error as PeatError {
        report.unreadable[run.name] = error.message
      }
    }
    let unreadable = report.unreadable.sorted { $0.key < $1.key }
    let rows =
      report.runs.map(\.row) + unreadable.map { [$0.key, "unreadable", "–", "–", "–", "–"] }
    var text =
      rows.isEmpty
      ? "There are no runs in '\(place.shelf.folder.path)'."
      : Format.table([["run", "state", "rounds", "plug-in", "on the disk", "last change"]] + rows)
    for (run, reason) in unreadable { text += "\n\n\(run): \(reason)" }
    try common.report(report, text: text)
    guard unreadable.isEmpty else {
      throw PeatError.badData(
        "\(unreadable.count) of \(rows.count) \(rows.count == 1 ? "run" : "runs") can't be read.")
    }
  }
}

struct RunsShow: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "show", abstract: "Show a run: its rounds, its clients, what it came to.",
    discussion: "Example: fedpeat runs show run-0 --store result.runs")

  @Argument(help: "The run's name, run- and its seed.") var name: String
  @OptionGroup var place: ShelfOption
  @OptionGroup var common: CommonOptions

  struct Report: Encodable {
    struct Round: Encodable {
      var round: Int
      var attempt: Int
      var asked: Int
      var delivered: Int
      var plugIn: Double?
      var seconds: Double
      /// Whether its adapter can be exported, and gone back to.
      var isAdapterKept: Bool
    }

    struct Client: Encodable {
      var client: String
      var bytesDown: Int
      var bytesUp: Int
    }

    var state: RunState
    /// An attempt at a round that did not count.
    struct FailedAttempt: Encodable {
      var round: Int
      var attempt: Int
      var outcomes: [Outcome]

      struct Outcome: Encodable {
        var client: String
        var result: ClientResult
      }
    }

    var roundRecords: [Round]
    var failedAttempts: Int
    /// The last thousand of them.
    var failedAttemptRecords: [FailedAttempt]
    var clients: [Client]
    /// `results.json` of a finished run; null before.
    var results: JSONValue?
    /// The run's effective configuration.
    var configuration: JSONValue?
    /// The command that began it.
    var command: [String]

    private enum CodingKeys: String, CodingKey {
      case state, roundRecords, failedAttempts, failedAttemptRecords, clients, results
      case configuration, command
    }

    func encode(to encoder: any Encoder) throws {
      var table = encoder.container(keyedBy: CodingKeys.self)
      try table.encode(state, forKey: .state)
      try table.encode(roundRecords, forKey: .roundRecords)
      try table.encode(failedAttempts, forKey: .failedAttempts)
      try table.encode(failedAttemptRecords, forKey: .failedAttemptRecords)
      try table.encode(clients, forKey: .clients)
      try table.encode(results, forKey: .results)
      try table.encode(configuration, forKey: .configuration)
      try table.encode(command, forKey: .command)
    }
  }

  func run() async throws {
    let run = try place.run(name)
    let database = try place.shelf.read(run)
    let kept = try database.load()
    let state = try RunState(run, place.shelf, database, kept)
    let report = Report(
      state: state,
      roundRecords: (kept?.rounds ?? []).map { round in
        .init(
          round: round.record.round, attempt: round.record.attempt,
          asked: round.record.outcomes.count, delivered: round.record.delivered.count,
          plugIn: round.record.metrics["plugIn"]?.finite,
          seconds: round.record.seconds, isAdapterKept: round.adapter != nil)
      },
      failedAttempts: kept?.failedAttempts.count ?? 0,
      failedAttemptRecords: (kept?.failedAttempts ?? []).suffix(1000).map { record in
        .init(
          round: record.round, attempt: record.attempt,
          outcomes: record.outcomes.map { .init(client: $0.client.name, result: $0.result) })
      },
      clients: (kept?.clients ?? [:]).sorted { $0.key < $1.key }.map {
        .init(
          client: $0.key.name, bytesDown: $0.value.traffic.bytesDown,
          bytesUp: $0.value.traffic.bytesUp)
      },
      results: try database.results, configuration: try database.configurationJSON,
      command: try database.command?.arguments ?? [])
    try common.report(report, text: text(report))
  }

  private static let attemptsShown = 20

  private func text(_ report: Report) -> String {
    let state = report.state
    var facts = [
      ["run", state.run], ["state", state.state + (state.reason.map { ": \($0)" } ?? "")],
      ["rounds", "\(state.rounds) of \(state.roundsInAll.map(String.init) ?? "?")"],
      ["begun", state.begun ?? "–"], ["last change", state.changed ?? "–"],
      ["took", Format.seconds(state.seconds)],
      ["kept in", "\(state.folder), \(Format.bytes(state.bytes))"],
    ]
    if let out = state.out, URL(path: out).isFolder { facts.append(["results", out]) }
    if state.updatesTaken > 0 {
      facts.append(["under way", "round \(state.rounds + 1), \(state.updatesTaken) updates taken"])
    }
    if !report.command.isEmpty {
      facts.append(["begun with", "fedpeat " + report.command.joined(separator: " ")])
    }
    var text = facts.map { fact in
      fact[0].padding(toLength: 13, withPad: " ", startingAt: 0) + fact[1]
    }.joined(separator: "\n")
    if !report.roundRecords.isEmpty {
      text +=
        "\n\n"
        + Format.table(
          [["round", "asked", "delivered", "plug-in", "time", "adapter"]]
            + report.roundRecords.map { round in
              [
                "\(round.round)", "\(round.asked)", "\(round.delivered)",
                round.plugIn.map(state.shown) ?? "–",
                Format.seconds(round.seconds), round.isAdapterKept ? "kept" : "–",
              ]
            })
    }
    if report.failedAttempts > 0 {
      text += "\n\nattempts that did not count: \(report.failedAttempts)"
      if report.failedAttempts > Self.attemptsShown {
        text += ", of which the last \(Self.attemptsShown)"
      }
      for attempt in report.failedAttemptRecords.suffix(Self.attemptsShown) {
        text += "\n  round \(attempt.round), attempt \(attempt.attempt): "
        text +=
          attempt.outcomes.isEmpty
          ? "nobody was asked"
          : attempt.outcomes.map { "\($0.client) \($0.result)" }.joined(separator: "; ")
      }
    }
    if !report.clients.isEmpty {
      text +=
        "\n\n"
        + Format.table(
          [["client", "down", "up"]]
            + report.clients.map {
              [$0.client, Format.bytes($0.bytesDown), Format.bytes($0.bytesUp)]
            })
    }
    return text
  }
}

struct RunsResume: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "resume",
    abstract: "Go on with a run that was stopped, by the command that began it.",
    discussion: """
      Example: fedpeat runs resume run-0 --store result.runs

      The command is given again as it was, in the folder that it was given in. Clients that still run come back by themselves; others join again.
      """)

  @Argument(help: "The run's name, run- and its seed.") var name: String
  @OptionGroup var place: ShelfOption
  @OptionGroup var common: CommonOptions

  func run() async throws {
    let run = try place.run(name)
    let command = try place.shelf.read(run).command
    guard let command, let verb = command.arguments.first, ["serve", "simulate"].contains(verb)
    else {
      throw PeatError.usage(
        "It is not known by which command the run '\(run)' was begun. Give the command again.")
    }
    guard FileManager.default.changeCurrentDirectoryPath(command.folder) else {
      throw PeatError.inputOutput(
        "The run was begun in the folder '\(command.folder)', which can't be entered any more. Give its command again: fedpeat \(command.arguments.joined(separator: " "))"
      )
    }
    var arguments = command.arguments.filter { !["--anew", "--json", "--quiet"].contains($0) }
    if let place = arguments.firstIndex(of: "--store") {
      arguments.removeSubrange(place...min(place + 1, arguments.count - 1))
    }
    arguments.removeAll { $0.hasPrefix("--store=") }
    arguments += ["--store", place.shelf.folder.standardizedFileURL.path]
    if common.json { arguments.append("--json") }
    if common.quiet { arguments.append("--quiet") }
    Terminal.note("resume       fedpeat \(arguments.joined(separator: " "))")
    guard var parsed = try Fedpeat.parseAsRoot(arguments) as? any AsyncParsableCommand else {
      throw PeatError(.internalError, "The verb '\(verb)' can't be resumed.")
    }
    try await parsed.run()
  }
}

struct RunsExport: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "export", abstract: "Write the adapter of one of a run's rounds to a folder.",
    discussion: "Example: fedpeat runs export run-0 --store result.runs --round 7 --out adapter")

  @Argument(help: "The run's name, run- and its seed.") var name: String
  @Option(help: "After which round; 0: before the first; the last one if not given.")
  var round: Int?
  @Option(help: "The new folder for the adapter.") var out: String
  @OptionGroup var place: ShelfOption
  @OptionGroup var common: CommonOptions

  struct Report: Encodable {
    var run: String
    var round: Int
    var parameters: Int
    var out: String
  }

  func run() async throws {
    let run = try place.run(name)
    let database = try place.shelf.read(run)
    let target = URL(path: out)
    try CheckpointWriter.checkOutput(target, isAdapter: true)
    for name in ["results.json", "lineage.json"]
    where FileManager.default.fileExists(atPath: target.appendingPathComponent(name).path) {
      throw PeatError.inputOutput(
        "The folder '\(out)' holds the results of a run, \(name) among them, which would be gone. Name a new folder."
      )
    }
    let (round, adapter) = try database.exportAdapter(ofRound: round, to: target)
    let report = Report(
      run: run.name, round: round, parameters: adapter.parameterCount, out: target.path)
    try common.report(
      report,
      text: "the adapter of round \(round) of '\(run)', \(report.parameters) parameters: \(out)")
  }
}

struct RunsRollback: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "rollback",
    abstract: "Go back to what a run was after one of its rounds; it goes on from there.",
    discussion: """
      Example: fedpeat runs rollback run-0 --store result.runs --round 7

      Later rounds are forgotten. What clients were sent they have seen: that stays counted; so do emulators that were made anew.
      """)

  @Argument(help: "The run's name, run- and its seed.") var name: String
  @Option(help: "To which round; 0: before the first.") var round: Int
  @OptionGroup var place: ShelfOption
  @OptionGroup var common: CommonOptions

  struct Report: Encodable {
    var run: String
    var round: Int
    /// Rounds that were forgotten.
    var forgotten: Int
  }

  func run() async throws {
    let run = try place.run(name)
    try place.shelf.checkDatabase(of: run)
    let database = try place.shelf.open(run)
    let before = try database.load()?.rounds.count ?? 0
    try database.rollBack(to: round)
    let report = Report(run: run.name, round: round, forgotten: before - round)
    try common.report(
      report,
      text:
        "'\(run)' is as it was after round \(round); \(report.forgotten) \(report.forgotten == 1 ? "round is" : "rounds are") forgotten. To go on: fedpeat runs resume \(run)\(place.store.map { " --store '\($0)'" } ?? "")"
    )
  }
}

struct RunsVerify: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "verify", abstract: "Check whether all that is kept of a run is whole.",
    discussion: """
      Example: fedpeat runs verify run-0 --store result.runs

      Looks at the database, and at each file by its digest. Ends with 65 where something is damaged.
      """)

  @Argument(help: "The run's name, run- and its seed.") var name: String
  @OptionGroup var place: ShelfOption
  @OptionGroup var common: CommonOptions

  struct Report: Encodable {
    var run: String
    var isWhole: Bool
    var problems: [String]
  }

  func run() async throws {
    let run = try place.run(name)
    let problems = try place.shelf.read(run).problems()
    let report = Report(run: run.name, isWhole: problems.isEmpty, problems: problems)
    try common.report(
      report,
      text: problems.isEmpty ? "all of '\(run)' is whole" : problems.joined(separator: "\n"))
    guard problems.isEmpty else {
      throw PeatError.badData(
        "\(problems.count) \(problems.count == 1 ? "part" : "parts") of the run '\(run)' \(problems.count == 1 ? "is" : "are") damaged. Where a round's adapter is, 'runs rollback' goes back to one that is whole."
      )
    }
  }
}

struct RunsDelete: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "delete", abstract: "Delete what is kept of a run; its results stay.",
    discussion: "Example: fedpeat runs delete run-0 --store result.runs")

  @Argument(help: "The run's name, run- and its seed.") var name: String
  @OptionGroup var place: ShelfOption
  @OptionGroup var common: CommonOptions

  struct Report: Encodable {
    var run: String
    var bytes: Int
    /// Whether an earlier run of that name came back, which had been moved aside for this one.
    var bringsBackEarlier: Bool
  }

  func run() async throws {
    let run = try place.run(name)
    let bytes = place.shelf.bytes(of: run)
    let isBack = try place.shelf.delete(run)
    try common.report(
      Report(run: run.name, bytes: bytes, bringsBackEarlier: isBack),
      text: "'\(run)' is deleted, \(Format.bytes(bytes))"
        + (isBack
          ? "; the run of that name that --anew had moved aside for it is back" : ""))
  }
}
