import Foundation
import Logging
import PeatStore

/// The whole of FedPEAT, once, from top to bottom:
///
///     checkpoint → split → compress → package → coordinator → client tunes → update → aggregate
///       → plug in → evaluate → plan the next round
///
/// The command line, the simulation in one process and the coordinator on a network all run this.
public struct FederatedTuning: Sendable {
  /// How clients reach the coordinator: over a network, or as tasks of this process.
  public typealias Meeting =
    @Sendable (_ coordinator: Coordinator, _ levels: [Package]) async throws -> RunReport

  public let configuration: RunConfiguration
  let owner: ModelOwner
  private let onEvent: @Sendable (Event) -> Void
  private let onAdapter: @Sendable (Adapter) async throws -> Void
  private let logger: Logger
  private let edge: EdgeConfiguration?
  private let measuresLoss: Bool
  private let cell: [ClientID: Double]?
  private let clients: [ClientTexts]
  /// What a released adapter's lineage is signed with.
  private let identity: Identity?
  private let database: RunDatabase?
  private let othersMayCome: Bool
  private let otherTexts: [String: URL]

  /// What happens, for progress lines.
  public enum Event: Sendable {
    case opened(model: String, parameters: Int, blocks: Int, metric: Metric)
    case compressed(
      level: Int, recipe: String, keptBlocks: [Int], bytes: Int, fullBytes: Int, exposure: Double)
    /// `of`: of which emulator, where a run has several.
    case measuring(FiveNumberName, of: String?)
    case measured(FiveNumberName, of: String?, Double)
    /// Plug-in on a client's own texts.
    case measuringClient(String, number: Int, of: Int)
    case coordinator(CoordinatorProgress)
    case roundMeasured(round: Int, plugIn: Double)
    /// In a simulated cell.
    case roundLost(LostRound)
    /// Why what the run's edge says should not be trusted far.
    case caution(String)
    /// What the run's owner should know; each is said once.
    case warning(String)
    /// A level is distilled again.
    case realigning(level: Int)
    /// A level was distilled again; fidelities before and after.
    case realigned(level: Int, before: Double, after: Double)
    /// What a level in use is worth, and was when it was made; below the bound it is distilled again.
    case fidelity(level: Int, now: Double, made: Double, bound: Double)
    /// A level was distilled again, and is hardly better for it: it stays as it is.
    case realignedInVain(level: Int, before: Double, after: Double)
    /// A run that was stopped goes on: rounds that counted, and updates that were taken of the one that was under way.
    case goesOn(after: Int, of: Int, taken: Int)
    case comparing(
      FiveNumberName, step: Int, steps: Int, rate: Double, unit: Trainer.Unit, timeLeft: Duration)
  }

  /// - Parameters:
  ///   - configuration: validated here.
  ///   - evaluation: the texts that perplexity is measured on.
  ///   - pooled: all clients' texts, where they are here; only used for what tuning is compared with.
  ///   - cell: the clients, each with its share of all data, where the run takes place in a simulated cell (`edge`).
  ///   - clients: each client's texts, where plug-in is to be measured on each (`perClient`).
  ///   - measuresLoss: whether rounds are measured in nats, too.
  ///   - identity: the coordinator's, which signs where a released adapter comes from; `nil`: nobody does.
  ///   - othersMayCome: whether clients other than those of the first round may join later: where all that are there fail, they are waited for.
  ///   - database: where the run is kept, as `RunKeeping` opened it; `nil`: it ends with this process.
  ///   - otherTexts: where texts come from that the configuration does not name: a run that is kept is gone on with only where they are the same.
  ///   - onAdapter: called with the adapter as it is after each round that is measured; the run waits.
  public init(
    _ configuration: RunConfiguration, evaluation: [Document]?, pooled: [Document]? = nil,
    cell: [ClientID: Double]? = nil, clients: [ClientTexts] = [], measuresLoss: Bool = false,
    identity: Identity? = nil, database: RunDatabase? = nil, othersMayCome: Bool = true,
    otherTexts: [String: URL] = [:],
    logger: Logger = Logger(label: "fedpeat"),
    onEvent: @escaping @Sendable (Event) -> Void = { _ in },
    onAdapter: @escaping @Sendable (Adapter) async throws -> Void = { _ in }
  ) throws {
    try configuration.validate()
    guard configuration.releaseGate == .none || evaluation != nil else {
      throw PeatError.usage(
        "releaseGate measures on the owner's own test set, and there is none: give evaluationData (--evaluation-data FILE)."
      )
    }
    edge = try configuration.edge.map { try EdgeFile.read($0) }
    self.cell = edge == nil ? nil : cell
    self.clients = clients
    self.measuresLoss = measuresLoss
    self.identity = identity
    self.database = database
    self.othersMayCome = othersMayCome
    self.otherTexts = otherTexts
    self.logger = logger
    self.onEvent = onEvent
    self.onAdapter = onAdapter
    // ---- Checkpoint
    owner = try ModelOwner(configuration, evaluation: evaluation, pooled: pooled, onEvent: onEvent)
    self.configuration = owner.configuration
    onEvent(
      .opened(
        model: configuration.model, parameters: owner.model.parameterCount,
        blocks: owner.model.blocks.count, metric: owner.configuration.metric))
  }

  /// Runs the federation: `meeting` brings the clients.
  public func run(_ meeting: Meeting) async throws -> RunResult {
    let folders = try RunFolders(database)
    defer { folders.leave() }

    // ---- Split and compress: one emulator per level; and the adapter that the first round begins with
    let material = try RunMaterial(configuration, owner)
    let (split, emulators) = (material.split, material.emulators)
    var adapter = material.adapter
    if let edge, let word = configuration.edge {
      for caution in material.cautions(in: edge, named: word) { onEvent(.caution(caution)) }
    }

    // ---- Package: content-addressed files that devices fetch
    let store = folders.downloads
    let kept = try database?.load()
    if let kept {
      onEvent(
        .goesOn(after: kept.rounds.count, of: configuration.rounds, taken: kept.neededUpdates.count)
      )
    }
    let anew = Set((kept?.levels?.packages ?? []).flatMap(\.files).map(\.digest))
    try folders.sweepDownloads(keeping: anew)
    var packages: [Package] = []
    var exposures: [Double] = []
    for (level, emulator) in emulators.enumerated() {
      let folder = folders.work.appendingPathComponent("level-\(level)")
      let facts = try emulator.facts(source: owner.checkpoint, full: owner.model)
      try emulator.write(to: folder, source: owner.checkpoint, facts: facts)
      let package = try await Package(folder: folder, store: store)
      packages.append(package)
      exposures.append(facts.exposure)
      onEvent(
        .compressed(
          level: level, recipe: emulator.recipe.description, keptBlocks: emulator.keptBlocks,
          bytes: package.bytes, fullBytes: owner.checkpoint.byteCount, exposure: facts.exposure))
    }

    if let database {
      try RunFacts(owner, adapter, packages, texts: texts).check(in: database)
    }

    // ---- Who plans the rounds: by rule, by what devices report, or in a simulated cell
    let planning = try await RunPlanning(
      configuration, material, packages: packages, owner: owner, edge: edge, cell: cell,
      onLostRound: { [onEvent] in onEvent(.roundLost($0)) })

    let exposure = try ExposureLedger(
      contents: emulators.map(material.costs.contents), limit: configuration.maxExposure,
      wholeBlock: 1 / Double(material.split.middle.count))
    let whole = Self.warnings(emulators, exposures, exposure)
    for warning in whole { onEvent(.warning(warning)) }
    let realigner = Realigner(
      configuration, material, owner: owner, folder: folders.work, onEvent: onEvent)
    try await realigner.prepare(adapter)
    let best = BestRound(in: folders.work, metric: configuration.metric)
    let watch = RunWatch(configuration)
    let coordinator = try await makeCoordinator(
      adapter, packages, planning, realigner, best, watch, exposure: exposure, store, folders.work)

    // ---- Measure before: the full model and the emulators that clients may have, as they came
    let allowed = emulators.indices.filter(exposure.allowsNewcomers)
    var levels = LevelMeasurement(owner, emulators, levels: allowed.isEmpty ? [0] : allowed)
    var numbers = FiveNumbers(configuration.metric)
    if let measured = try database?.note(ZeroShot.self, RunKeeping.zeroShotNote) {
      measured.give(to: &levels, &numbers)
    } else {
      try await owner.measure(.fullZeroShot, &numbers) { try $0.quality(nil) }
      try await levels.measureZeroShot(emulators, &numbers)
      try database?.keep(ZeroShot(levels, numbers), as: RunKeeping.zeroShotNote)
    }
    watch.untouched = numbers[.fullZeroShot]
    let reference = try await gateReference()

    // ---- Go on where a run was stopped: what follows from the rounds that counted
    if let kept, let database {
      try await best.restore(kept.rounds, from: database.blobs)
      if let now = kept.levels {
        try await realigner.restore(packages, now, kept.rounds.map(\.record), from: store)
      }
      for round in kept.rounds { _ = watch.take(round.record) }
    }

    // In nats, of the last adapter.
    var lastLoss: Double?

    /// What the run came to, with what was measured until now.
    func outcome(of report: RunReport) async throws -> RunResult {
      adapter.state = report.adapter
      var result = RunResult(
        configuration: configuration, fiveNumbers: numbers, report: report, adapter: adapter,
        simulation: await planning.simulation(of: report, loss: lastLoss),
        fullModelBytes: owner.checkpoint.byteCount,
        exposure: exposure.exposure(
          ofLevels: Set(emulators.indices.filter(exposure.allowsNewcomers))))
      let place = try await best.settle(after: report.rounds.last?.round ?? 0)
      result.best = place.map { .init(round: $0.round, plugIn: $0.plugIn) }
      result.warnings = whole + watch.warnings + (await realigner.warnings)
      result.levelExposures = exposures
      levels.note(usedIn: report)
      result.levels = levels.numbers(plugIn: numbers[.plugIn])
      result.shownLevel = levels.shown?.level ?? 0
      return result
    }

    var result: RunResult
    do {
      // ---- Rounds: plan, tune on the devices, aggregate
      let report = try await meeting(coordinator, packages)
      adapter.state = report.adapter

      // ---- Plug in and measure
      let tuned = adapter
      levels.note(usedIn: report)
      try await levels.measureTuned(await realigner.emulators, with: tuned, &numbers)
      try await owner.measure(.plugIn, &numbers) { try $0.quality(tuned) }
      if planning.wantsLoss, owner.hasEvaluation {
        lastLoss = try await owner.onThread { try $0.loss(tuned) }
      } else if configuration.metric != .accuracy {
        lastLoss = numbers[.plugIn].map { naturalLogarithm($0) }
      }
      if let plugIn = numbers[.plugIn], let last = report.rounds.last {
        try await best.take(tuned, round: last.round, plugIn: plugIn)
      }
      result = try await outcome(of: report)
      result.release = verdict(numbers, reference: reference)
      if !clients.isEmpty {
        let (clients, emulator) = (clients, await realigner.emulators[result.shownLevel])
        result.perClient = try await owner.onThread {
          try $0.perClient(clients, adapter: tuned, through: emulator)
        }
      }
      // What the federation gave is safe before anything else can go wrong.
      var early = result
      early.noteMissing("the run was ended before this was measured")
      try await writeResult(early, split, best)
    } catch {
      // ---- Interrupted, or failed: the rounds that counted are kept
      guard let rest = try? await outcome(of: coordinator.report) else { throw error }
      let ending = await keeping(rest, split, best, after: error)
      // Where it can't be kept any more the error says it itself.
      throw await coordinator.keepingFailure == nil ? saying(ending) : ending
    }

    // ---- Compare with what could be had without an emulator
    do {
      try await owner.compare(&result.fiveNumbers, method: adapter.method, ends: split.ends)
    } catch {
      guard let out = configuration.out else { throw error }
      throw Self.adding(
        "The result is in '\(URL(fileURLWithPath: out).relativePath)', without what it is compared with.",
        to: error)
    }
    try await writeResult(result, split, best)
    try finish(result, folders)
    return result
  }

  /// The error, and how the run goes on, where it is kept.
  private func saying(_ error: any Error) -> any Error {
    guard let database, database.hasBegun else { return error }
    return Self.adding(
      "What the run came to is kept: the same command goes on with it ('fedpeat runs resume \(database.name) --store \(database.folder.deletingLastPathComponent().relativePath)').",
      to: error)
  }

  /// Notes that the run is finished, and what it came to.
  private func finish(_ result: RunResult, _ folders: RunFolders) throws {
    guard let database else { return }
    try database.keep(try JSONFile.encode(result.summary), as: RunKeeping.resultsNote)
    try database.keep(
      RunKeeping.Done(
        rounds: result.report.rounds.count,
        out: configuration.out.map { URL(fileURLWithPath: $0).standardizedFileURL.path }),
      as: RunKeeping.doneNote)
    let levels = try database.load()?.levels?.packages ?? []
    try folders.finish(keeping: Set(levels.flatMap(\.files).map(\.digest)))
  }

  /// What the run is measured and trained with here: what stands in its configuration, and other texts that it was given.
  private var texts: [String: URL] {
    let own = [
      "evaluationData": configuration.evaluationData, "realignData": configuration.realignData,
      "serverData": configuration.participate ? configuration.serverData : nil,
    ]
    return otherTexts.merging(
      own.compactMapValues { $0.map(URL.init(fileURLWithPath:)) }
    ) { $1 }
  }

  /// Adds to a result what could be had without an emulator, where the clients' texts are here.
  public func comparing(_ numbers: FiveNumbers) async throws -> FiveNumbers {
    let split = try ModelSplit(
      bottom: configuration.bottom, top: configuration.top, of: owner.model.blocks.count)
    var numbers = numbers
    try await owner.compare(
      &numbers, method: try configuration.adapterMethod(tokenizer: owner.reader.optionalTokenizer),
      ends: split.ends)
    return numbers
  }

  /// What the owner should know of the emulators before clients get them: one that gives the middle away, and several that do so together.
  private static func warnings(
    _ emulators: [Emulator], _ exposures: [Double], _ ledger: ExposureLedger
  ) -> [String] {
    func percent(_ share: Double) -> String { "\((1000 * share).rounded() / 10) %" }
    let allowed = emulators.indices.filter(ledger.allowsNewcomers)
    var warnings = allowed.filter { exposures[$0] >= 0.99 }.map { level in
      let recipe = emulators[level].recipe
      let shown =
        exposures[level] > 1 - 1e-9
        ? "all" : exposures[level] > 0.9995 ? "nearly all" : percent(exposures[level])
      let quotes =
        recipe.isStorageAlone && emulators.count > 1
        ? " If '\(recipe)' was meant to go with the word before it: a recipe with commas stands in quotes in a run file, [\"layer-drop=1,\(recipe)\"]."
        : ""
      return
        "Emulator \(level) (\(recipe)) shows \(shown) of the middle: whoever is sent it can put the full model together, and needs no plug-in. Where that must not be, leave it out, or set maxExposure below 1.\(quotes)"
    }
    let together = ledger.exposure(ofLevels: Set(allowed))
    let most = allowed.map { exposures[$0] }.max() ?? 0
    if most < 0.99, together > most + 0.005 {
      warnings.append(
        "The emulators show \(percent(together)) of the middle together, more than any alone (\(percent(most)) at most): clients that put theirs together, or one that is sent several over time, come to that. Where that must not be, take levels that are parts of one another (recipes layer-drop=N of one run are, and the folders of one 'compress --ladder'), or set maxExposure."
      )
    }
    return warnings
  }

  private func makeCoordinator(
    _ adapter: Adapter, _ packages: [Package], _ planning: RunPlanning, _ realigner: Realigner,
    _ best: BestRound, _ watch: RunWatch, exposure: ExposureLedger, _ store: FolderBlobStore,
    _ folder: URL
  ) async throws -> Coordinator {
    var settings = CoordinatorConfiguration(
      run: try configuration.runID, seed: configuration.seed,
      rules: configuration.rules, method: configuration.method)
    if !othersMayCome { settings.rules.retryPause = .zero }
    if case .lora(let lora) = adapter.method {
      settings.rank = lora.rank
      settings.alpha = lora.alpha
      settings.components = configuration.rankComponents
      settings.scales = lora.scales.scales(of: adapter.state)
    }
    // The same bytes from each process: a client goes on with a task that is the same after the coordinator was started again.
    let encoder = JSONEncoder()
    encoder.outputFormatting = .sortedKeys
    settings.settings = try encoder.encode(configuration.localTuning(method: adapter.method))
    settings.updateSizeLimit = configuration.updateSizeLimit
    settings.exampleLimit = configuration.exampleLimit
    settings.updateNormLimit = configuration.updateNormLimit
    let (schedule, rounds) = (LearningRateSchedule(configuration.schedule), configuration.rounds)
    settings.learningRateFactor = { Double(schedule.factor(at: $0 - 1, of: rounds)) }
    let serverSchedule = LearningRateSchedule(configuration.serverSchedule)
    settings.serverRateFactor = { Double(serverSchedule.factor(at: $0 - 1, of: rounds)) }
    settings.exposure = exposure
    settings.levelMemory = planning.levelMemory
    settings.keptAdapters = configuration.keepAdapters
    let metric = configuration.metric
    settings.keptRounds = { records in
      BestRound.best(of: records, metric).map { [$0.round] } ?? []
    }
    settings.upload = try configuration.uploadEncoding
    settings.download = try configuration.downloadEncoding
    var server: ServerParticipation?
    if configuration.participate {
      server = try ServerParticipation(
        weight: configuration.serverWeight,
        trainer: try owner.serverTrainer(configuration.localTuning(method: adapter.method)))
    }
    let owner = owner
    let every = configuration.evaluationInterval
    return try await Coordinator(
      settings, adapter: adapter.state, levels: packages, store: store,
      workFolder: folder.appendingPathComponent("updates"),
      planner: planning.planner,
      strategy: try configuration.aggregation, runStore: database, server: server, logger: logger,
      onRound: { [onEvent, onAdapter, measuresLoss] round, state in
        guard every > 0, round % every == 0, owner.hasEvaluation else { return [:] }
        var plugged = adapter
        plugged.state = state
        let evaluated = plugged
        let plugIn = try await owner.onThread { try $0.quality(evaluated) }
        onEvent(.roundMeasured(round: round, plugIn: plugIn))
        try await onAdapter(evaluated)
        try await best.take(evaluated, round: round, plugIn: plugIn)
        let fidelities = try await planning.learn(
          from: evaluated, through: await realigner.emulators)
        let worth = try await realigner.take(fidelities, evaluated, after: round)
        var metrics = ["plugIn": plugIn]
        if planning.wantsLoss || measuresLoss {
          metrics[LearningModel.lossMetric] = try await owner.onThread { try $0.loss(evaluated) }
        }
        for (level, value) in (worth ?? []).enumerated() { metrics["fidelity-\(level)"] = value }
        return metrics
      },
      onRenewal: { round, state, inUse in
        guard every > 0, round % every == 0 else { return [:] }
        var plugged = adapter
        plugged.state = state
        let renewed = try await realigner.renew(plugged, inUse, after: round, into: store)
        await planning.renewed(renewed.mapValues(\.fidelity))
        return renewed.mapValues(\.level)
      },
      onProgress: { [onEvent, logger] progress in
        onEvent(.coordinator(progress))
        guard case .roundEnded(let record) = progress else { return }
        for warning in watch.take(record) {
          logger.warning("\(warning)")
          onEvent(.warning(warning))
        }
      })
  }

  /// The folder, in that of the results, of the adapter of the best round, where that is not the last.
  static let bestRoundFolder = "best-round"

  /// Writes adapter, configuration and results where the configuration says.
  private func writeResult(
    _ result: RunResult, _ split: ModelSplit, _ best: BestRound
  ) async throws {
    guard let out = configuration.out else { return }
    try await writeResult(result, split, best, to: URL(fileURLWithPath: out))
  }

  /// Writes adapter, configuration and results into a folder, whole or not at all.
  func writeResult(
    _ result: RunResult, _ split: ModelSplit, _ best: BestRound, to folder: URL
  ) async throws {
    let model = owner.checkpoint.folder.standardizedFileURL.path
    let facts = owner.adapterFacts(split)
    let another =
      result.isBestTheLast ? nil : try await best.adapter(like: result.adapter)
    let plugIn = result.fiveNumbers[.plugIn]
    let previous = try configuration.lastReleased.map {
      try LineageCheck.digest(of: URL(fileURLWithPath: $0))
    }
    /// Says beside an adapter that is released where it comes from.
    func certify(_ folder: URL, round: Int, plugIn: Double?) throws {
      let lineage = result.lineage(
        of: try LineageCheck.digest(of: folder), after: round, plugIn: plugIn,
        source: owner.digest, previous: previous, date: Date())
      try JSONFile.write(
        try LineageFile(lineage, by: identity), to: folder.appendingPathComponent(Lineage.file))
    }
    let files = [
      "run.yaml": try ConfigurationReader.yaml(configuration.withWholePaths()),
      "results.json": try JSONFile.encode(result.summary),
    ]
    let round = result.report.rounds.last?.round ?? 0
    func write(
      _ adapter: Adapter, to folder: URL, _ others: [String: Data], _ rest: (URL) throws -> Void
    ) throws {
      try AdapterFolder.write(
        adapter, facts: facts, configuration: owner.model.configuration, baseModel: model,
        to: folder, otherFiles: others, fillMore: rest)
    }
    /// The adapter of the best round, where that is another, and may be released.
    func writeBest(into folder: URL) throws {
      guard let another, let best = result.best, mayRelease(best.plugIn, like: result.release)
      else { return }
      try write(another, to: folder.appendingPathComponent(Self.bestRoundFolder), [:]) {
        try certify($0, round: best.round, plugIn: best.plugIn)
      }
    }
    guard configuration.releaseGate == .none || result.release?.released == true else {
      try AtomicOutput.folder(at: folder, replacing: CheckpointWriter.isOurs) { folder in
        for (name, data) in files {
          try AtomicOutput.write(data, to: folder.appendingPathComponent(name))
        }
        try write(
          result.adapter, to: folder.appendingPathComponent(Self.withheldFolder), [:]
        ) { _ in }
        try writeBest(into: folder)
      }
      return
    }
    try write(result.adapter, to: folder, files) { folder in
      if round > 0 { try certify(folder, round: round, plugIn: plugIn) }
      try writeBest(into: folder)
    }
  }

  /// Whether another round's adapter passes the gate that the last one was judged by.
  private func mayRelease(_ plugIn: Double, like verdict: ReleaseVerdict?) -> Bool {
    guard configuration.releaseGate != .none else { return true }
    return ReleaseVerdict(
      configuration.releaseGate, metric: configuration.metric, reference: verdict?.reference,
      plugIn: plugIn
    ).released
  }
}
