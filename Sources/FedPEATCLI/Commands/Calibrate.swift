import ArgumentParser
import FedPEAT
import Foundation

struct Calibrate: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract:
      "Measure what a run's emulators cost here and are worth, for planners and simulation.",
    discussion: """
      Example: fedpeat calibrate models/stories260K --data input.txt --clients-by speaker --emulator layer-drop=3 \
      --emulator layer-drop=1 --out edge.yaml

      Each emulator is tuned for a few steps in a process of its own (bytes, seconds, peak memory), and in a short federation \
      (how the loss falls). With several clients three more federations say what it does when not all take part, with --work six more \
      what a device's work does. All of them run here, one after the other: \
      together they take about --rounds times the number of clients times the seconds of a client's round, for each federation; how long \
      that is is said once a step was measured. An interrupted calibration goes on with the same command. \
      An emulator's fidelity is the cosine of the adapter's gradients through it and through the full model. The file is an \
      edge for train-controller --environment, simulate, estimate and serve --edge: the scenario's, with these \
      emulators, and device classes as fast against each other as in the scenario, the fastest as fast as this machine.
      """)

  @Argument(help: "The full model: its folder, or its name on the Hub; or a run file.")
  var model: String

  @OptionGroup var clientData: ClientDataOptions

  @OptionGroup var tuning: TuningOptions

  @Option(help: "Rounds of the short federation on each emulator.")
  var rounds = 12

  @Flag(
    help:
      "Also measure what local steps, learning rate, rank and bits of an update do, for a controller that chooses them too."
  )
  var work = false

  @Option(
    help: "The scenario or edge file that the rest comes from: radio, movement, device classes.")
  var environment = "pedestrian"

  @Option(help: "The file to write.")
  var out: String

  @OptionGroup var common: CommonOptions

  struct Report: Encodable {
    struct Level: Encodable {
      var name: String
      var bytes: Int
      /// Of a round's training, counted.
      var operations: Double
      /// Of a round's training here: the median of several measurements, and how far they lay apart as a share of it.
      var seconds: Double
      var spread: Double
      var peakMemoryBytes: Int
      var fidelity: Double
      /// After each round of the short federation on it.
      var laterFidelities: [Double]
      /// Plug-in losses, before the first round and after each.
      var losses: [Double]
    }

    var levels: [Level]
    var adapterBytes: Int
    /// FLOP/s of this machine on the first level.
    var compute: Double
    /// Of the edge: seconds of a round as the heuristic plans it, and that a round lasts at most: enough for any device's first download.
    var referenceTime: Double
    var deadline: Double
    var learning: LearningModel
    /// Of the fit, in nats.
    var fitError: Double
    /// Why what was fitted should not be trusted far, in words.
    var cautions: [String]
    var out: String
  }

  func validate() throws {
    guard (3...1000).contains(rounds) else {
      throw ValidationError("--rounds is \(rounds); it must be between 3 and 1000.")
    }
  }

  func run() async throws {
    let run = try readConfiguration()
    let base = try EdgeFile.read(environment)
    let target = URL(path: out)
    try EdgeFile.checkOutput(target)
    try CalibrationRecord.check(of: target)
    let lock = try FolderLock(
      of: target,
      isBusy: "Another calibration of '\(out)' is at work. Wait for it, or write to another --out.")
    defer { lock.remove() }
    try DataCautions.tell(of: run)
    let parts = try ClientData(run)
    let calibration = try Calibration(run, data: parts)
    let record = CalibrationRecord(
      of: target, settings: try settings(calibration, run, base, parts),
      levels: calibration.recipes, rounds: rounds)
    do { try await measure(calibration, run, base, target, record) } catch {
      // What failed would fail again.
      guard !record.isEmpty, Interruption.isRequested else { throw error }
      throw FederatedTuning.adding(
        "What was measured is kept in '\(record.url.relativePath)': the same command goes on from it.",
        to: error)
    }
  }

  /// Names all that decides what is measured: the model, the run, the texts, and which federations there are.
  private func settings(
    _ calibration: Calibration, _ run: RunConfiguration, _ base: EdgeConfiguration,
    _ data: ClientData
  ) throws -> String {
    var run = run
    run.out = nil
    let texts = (data.groups.map(\.documents) + [data.evaluation]).map { documents in
      documents.map { [$0.prompt ?? "", $0.text] }
    }
    return Digest(
      of: try JSONFile.encode(run) + JSONFile.encode(base) + JSONFile.encode(calibration.facts)
        + JSONFile.encode(texts)
    ).hex
  }

  private func measure(
    _ calibration: Calibration, _ run: RunConfiguration, _ base: EdgeConfiguration,
    _ target: URL, _ record: CalibrationRecord
  ) async throws {
    let scratch = try WorkFolder(temporary: "calibrate")
    defer { scratch.remove() }
    let text = scratch.url.appendingPathComponent("sample.txt")
    if calibration.sampleData == nil {
      try AtomicOutput.write(Data(calibration.sampleText.utf8), to: text)
    }
    let sample = calibration.sampleData ?? text

    Terminal.note(
      "calibrating  \(calibration.recipes.count == 1 ? "an emulator" : "\(calibration.recipes.count) emulators"): a few steps of each, then short federations"
    )
    if !record.isEmpty {
      Terminal.note(
        "goes on      with what an interrupted calibration left: \(record.times == nil ? "no times" : "times"), \(record.federations) federations"
      )
    }
    let evaluationSeconds = try await check(calibration, run)
    Terminal.status("measuring fidelities …")
    let fidelities = try await calibration.fidelities()
    var levels: [EmulatorLevel] = []
    var report: [Report.Level] = []
    var compute = 0.0
    for number in calibration.recipes.indices {
      try calibration.writeEmulator(number, to: Self.folder(number, in: scratch.url))
    }
    let times: [CalibrationRecord.StepTimes]
    if let kept = record.times {
      times = kept
    } else {
      times = try await measureSteps(calibration, on: sample, in: scratch.url, run)
      try record.keep(times)
    }
    for (number, name) in calibration.recipes.enumerated() {
      var level = try calibration.level(number, in: Self.folder(number, in: scratch.url))
      let time = times[number]
      let seconds = time.seconds
      let operations = level.work
      if number == 0 { compute = operations / seconds }
      // What it takes here, at the first level's rate: smaller matrices may run slower.
      level.work = seconds * compute
      level.memory = Double(time.peakMemoryBytes)
      level.fidelity = fidelities[number]
      levels.append(level)
      report.append(
        .init(
          name: name, bytes: Int(level.bytes), operations: operations, seconds: seconds,
          spread: time.spread, peakMemoryBytes: time.peakMemoryBytes, fidelity: level.fidelity,
          laterFidelities: [], losses: []))
      Terminal.note(
        "\(name): \(Format.bytes(Int(level.bytes))), \(Format.seconds(seconds)) per round (\(Self.measurements) measurements, \(Format.share(time.spread)) apart), \(Format.bytes(time.peakMemoryBytes)) of memory, fidelity \(Format.number(level.fidelity, digits: 3))"
      )
    }
    // Whether anybody could take part is known before the federations that take long.
    _ = try edge(base, levels, calibration, compute: compute, LearningModel(), nil, run)
    let federations = CalibrationFederations(
      calibration, rounds: rounds, clients: run.clients, roundSeconds: report.map(\.seconds),
      evaluationSeconds: evaluationSeconds, measuresWork: work, record: record)
    var curves: [LearningFit.Curve] = []
    for (number, name) in calibration.recipes.enumerated() {
      let curve = try await federations.curve(number, name, fidelity: levels[number].fidelity)
      report[number].losses = curve.losses
      report[number].laterFidelities = curve.laterFidelities
      curves.append(curve)
      Terminal.note(
        "\(name): loss \(Format.number(curve.losses.first ?? 0, digits: 3)) to \(Format.number(curve.losses.last ?? 0, digits: 3)) in \(rounds) rounds, fidelity \(Format.number(curve.fidelity, digits: 3)) to \(Format.number(curve.laterFidelities.last ?? 0, digits: 3))"
      )
    }
    let participation =
      run.clients > 1 ? try await federations.measureParticipation(curves[0]) : nil
    let changedWork = work ? try await federations.measureWork(curves[0]) : nil
    try checkInterruption()
    // The final loss lies below all that was measured, whatever it was measured with.
    let fit = try LearningFit(
      curves,
      lowest: min(
        participation?.lowestLoss ?? .infinity, changedWork?.lowestLoss ?? .infinity))
    var learning = fit.model
    var cautions = fit.cautions + times.compactMap(\.caution) + Self.cautionsOfOrder(report)
    if let participation {
      cautions += CalibrationFederations.fit(participation, curves[0], &learning)
    }
    if let changedWork { cautions += CalibrationFederations.fit(changedWork, curves[0], &learning) }
    var edge = try self.edge(
      base, levels, calibration, compute: compute, learning, run.targetPerplexity, run)
    cautions += [edge.cautionOfChoices].compactMap { $0 }
    edge.calibration.cautions = Self.shortened(cautions)
    edge.calibration.spread = times.map(\.spread).max()
    cautions.forEach(Terminal.caution)
    try edge.validate()
    try AtomicOutput.write(try ConfigurationReader.yaml(edge), to: target)
    record.remove()
    try common.report(
      Report(
        levels: report, adapterBytes: try calibration.adapterBytes, compute: compute,
        referenceTime: edge.objective.referenceTime, deadline: edge.deadline, learning: learning,
        fitError: fit.error, cautions: cautions, out: out),
      text: Format.table([
        ["written to", out],
        ["this machine", "\(Format.number(compute / 1e9)) GFLOP/s on the first emulator"],
        ["adapter", Format.bytes(Int(rounding: edge.adapterBytes))],
        [
          "a round",
          "\(Format.number(edge.objective.referenceTime)) s as the heuristic plans it, at most \(Format.number(edge.deadline)) s (deadline): half as long again as when all download their largest emulator at once",
        ],
        [
          "loss",
          "falls from \(Format.number(fit.model.finalLoss + fit.model.startGap, digits: 3)) towards \(Format.number(fit.model.finalLoss, digits: 3)), by \(Format.percent(fit.model.rate)) of the gap per round at fidelity 1",
        ],
        [
          "fidelity",
          learning.ageing > 0
            ? "falls by \(Format.percent(1 - exp(-learning.ageing))) in each round since an emulator was made"
            : "does not fall while the adapter is tuned",
        ],
        ["fitted within", "\(Format.number(fit.error, digits: 4)) nats"],
        [
          "cautions",
          cautions.isEmpty ? "none" : "\(cautions.count), under calibration.cautions in the file",
        ],
      ]))
  }

  private func readConfiguration() throws -> RunConfiguration {
    var overrides = tuning.overrides.merging(clientData.overrides) { $1 }
    var isFolder: ObjCBool = false
    let url = try URL(model: model)
    guard FileManager.default.fileExists(atPath: url.path, isDirectory: &isFolder) else {
      throw PeatError.inputOutput("There is no '\(model)': name a model's folder or a run file.")
    }
    if isFolder.boolValue { overrides["model"] = .string(url.path) }
    if let seed = common.seed { overrides["seed"] = .integer(Int(clamping: seed)) }
    if let threads = common.threads { overrides["threads"] = .integer(threads) }
    overrides["rounds"] = .integer(rounds)
    return try RunConfiguration.readUnchecked(
      from: isFolder.boolValue ? nil : url, flags: overrides)
  }

  /// How often a round's training is measured on each level.
  private static let measurements = 3

  /// As many cautions as an edge file can hold.
  private static func shortened(_ cautions: [String]) -> [String] {
    let most = 50
    guard cautions.count > most else { return cautions }
    return cautions.prefix(most - 1) + [
      "\(cautions.count - most + 1) more cautions of these kinds were told while it was measured."
    ]
  }

  /// That a level takes longer than one of more operations, which is seldom so on other machines.
  private static func cautionsOfOrder(_ levels: [Report.Level]) -> [String] {
    levels.compactMap { level in
      let larger = levels.filter { $0.operations > 1.02 * level.operations }
      guard let other = larger.min(by: { $0.seconds < $1.seconds }), other.seconds < level.seconds
      else { return nil }
      return
        "\(level.name) takes \(Format.seconds(level.seconds)) for a round here, longer than \(other.name), \(Format.seconds(other.seconds)), which needs \(Format.share(other.operations / level.operations - 1)) more operations: either its form is slow on this machine, or what lies between them is chance. Planners take the times as they are; measure again when the machine is idle."
    }
  }

  private static func folder(_ level: Int, in scratch: URL) -> URL {
    scratch.appendingPathComponent("level-\(level)")
  }

  /// Measures each level in turn, several times, so that what slows the machine down for a while slows none alone.
  private func measureSteps(
    _ calibration: Calibration, on sample: URL, in scratch: URL, _ run: RunConfiguration
  ) async throws -> [CalibrationRecord.StepTimes] {
    let names = calibration.recipes
    var times = names.map { CalibrationRecord.StepTimes(name: $0) }
    for measurement in 1...Self.measurements {
      for (number, name) in names.enumerated() {
        try checkInterruption()
        Terminal.status("\(name): measuring a step, \(measurement) of \(Self.measurements) …")
        let folder = Self.folder(number, in: scratch)
        let step = try await measureStep(of: folder, on: sample, run)
        // Steps, not tokens: of some tasks few tokens are predicted.
        times[number].all.append(
          Double(run.localSteps) * step.seconds / Double(max(step.steps, 1)))
        times[number].peakMemoryBytes = max(times[number].peakMemoryBytes, step.peakMemoryBytes)
      }
    }
    return times
  }

  private struct Step: Decodable {
    var steps: Int
    var seconds: Double
    var peakMemoryBytes: Int
  }

  /// Tunes for a few steps in a process of its own, so that its memory is its own.
  private func measureStep(
    of folder: URL, on sample: URL, _ run: RunConfiguration
  ) async throws -> Step {
    var arguments = [
      "tune", folder.path, "--data", sample.path, "--steps", "12", "--batch", "\(run.batch)",
      "--context", "\(run.context)", "--method", run.method, "--json", "--quiet",
      "--out", folder.appendingPathExtension("tuned").path,
    ]
    if run.method == "lora" { arguments += ["--rank", "\(run.rank)", "--alpha", "\(run.alpha)"] }
    if let task = run.task { arguments += ["--task", task.rawValue] }
    if let threads = run.threads { arguments += ["--threads", "\(threads)"] }
    let child = try ChildProcess("tune", arguments, folder: folder)
    let result: (ending: ChildProcess.Ending, output: Data)
    do { result = try await child.finish() } catch {
      await child.end()
      throw error
    }
    guard result.ending.isSuccess else {
      throw PeatError(
        result.ending.code, "Measuring a step failed: 'fedpeat tune' \(result.ending).")
    }
    return try JSONDecoder().decode(Step.self, from: result.output)
  }

  /// What would be in vain, before anything else is measured; how many seconds it takes to measure a model.
  private func check(
    _ calibration: Calibration, _ run: RunConfiguration
  ) async throws -> Double {
    Terminal.status("measuring the model as it is …")
    let start = ContinuousClock.now
    let now = try await calibration.zeroShot()
    let seconds = (ContinuousClock.now - start) / .seconds(1)
    guard let target = run.targetPerplexity else { return seconds }
    guard target < now else {
      throw PeatError.badData(
        "targetPerplexity is \(Format.number(target)), but the model as it is has \(Format.number(now)) on the evaluation text: there is nothing to reach. Lower it, or leave it out."
      )
    }
    return seconds
  }

  private func edge(
    _ base: EdgeConfiguration, _ levels: [EmulatorLevel], _ calibration: Calibration,
    compute: Double, _ learning: LearningModel, _ targetPerplexity: Double?,
    _ run: RunConfiguration
  ) throws -> EdgeConfiguration {
    var edge = base
    edge.devices = run.clients
    edge.levels = levels
    edge.calibration = calibration.facts
    // What was measured are emulators that stay as they are.
    edge.levelsAge = .sinceMade
    edge.middleBlocks = calibration.middleBlocks
    edge.adapterBytes = Double(try calibration.adapterBytes)
    edge.learning = learning
    edge.work = work ? .usual : WorkChoices()
    if run.method != "lora" { edge.work.ranks = [1] }
    edge.uploads = try calibration.uploads(edge.work)
    edge.target = 0.2 * learning.startGap
    if let perplexity = targetPerplexity {
      // What the run is for.
      edge.target = learning.gap(perplexity: perplexity) ?? edge.target
      edge.objective.aim = .timeToTarget
    }
    edge.server.compute = compute
    edge.server.work = levels.map(\.work).max() ?? 0
    let fastest = edge.classes.map(\.compute.high).max() ?? 1
    for index in edge.classes.indices {
      edge.classes[index].compute.low *= compute / fastest
      edge.classes[index].compute.high *= compute / fastest
    }
    edge.aggregation = 0
    edge.deadline = 1e6
    // A round as the heuristic plans it is the measure of time.
    let played = try EdgeEnvironment.play(
      edge, planner: "heuristic", episodes: 32, seed: common.seedValue,
      shouldStop: { Interruption.isRequested })
    try checkInterruption()
    let seconds = played.summaries.map { $0.seconds / Double(max($0.rounds, 1)) }
    edge.objective.referenceTime = max(median(seconds), 1e-3)
    // First downloads take longer: the emulator beside the adapter.
    let longest = try EdgeEnvironment.longestFirstRound(
      edge, episodes: 32, seed: common.seedValue)
    edge.deadline = max(6 * edge.objective.referenceTime, 1.5 * longest)
    try edge.validate()
    return edge
  }
}
