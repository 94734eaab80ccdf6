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
      (how the loss falls). Its fidelity is the cosine of the adapter's gradients through it and through the full model. The file is an \
      edge for train-controller --environment, simulate, estimate and serve --edge: the scenario's, with these \
      emulators, and device classes as fast against each other as in the scenario, the fastest as fast as this machine.
      """)

  @Argument(help: "The full model's folder, or a run file.")
  var model: String

  @Option(help: "The clients' texts; the run file's if not given.")
  var data: String?

  @Option(
    help: "The field that says whose a document is; they are dealt out at random if not given.")
  var clientsBy: String?

  @Option(help: "How many clients. (default: \(RunConfiguration().clients))")
  var clients: Int?

  @Option(help: "Emulator recipe; give it once per level; the run file's if not given.")
  var emulator: [String] = []

  @Option(
    help:
      "Blocks at the bottom in which the adapter sits. (default: \(RunConfiguration().bottom))")
  var bottom: Int?

  @Option(
    help: "Blocks at the top in which the adapter sits. (default: \(RunConfiguration().top))")
  var top: Int?

  @Option(help: "Rounds of the short federation on each emulator.")
  var rounds = 12

  @Option(help: "Local optimizer steps per round. (default: \(RunConfiguration().localSteps))")
  var localSteps: Int?

  @Option(help: "Windows per local step. (default: \(RunConfiguration().batch))")
  var batch: Int?

  @Option(help: "Input tokens per window. (default: \(RunConfiguration().context))")
  var context: Int?

  @Option(help: "Learning rate of the adapter. (default: \(RunConfiguration().learningRate))")
  var learningRate: Float?

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
      /// Of a round's training here, median step times steps.
      var seconds: Double
      var peakMemoryBytes: Int
      var fidelity: Double
      /// Plug-in losses, before the first round and after each.
      var losses: [Double]
    }

    var levels: [Level]
    var adapterBytes: Int
    /// FLOP/s of this machine on the first level.
    var compute: Double
    var learning: LearningModel
    /// Of the fit, in nats.
    var fitError: Double
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
    let parts = try ClientData(run)
    let calibration = try Calibration(run, data: parts)
    let scratch = try WorkFolder(temporary: "calibrate")
    defer { scratch.remove() }
    let sample = scratch.url.appendingPathComponent("sample.txt")
    try AtomicOutput.write(Data(calibration.sampleText.utf8), to: sample)

    try await check(calibration, base, run)
    Terminal.status("measuring fidelities …")
    let fidelities = try await calibration.fidelities()
    var levels: [EmulatorLevel] = []
    var report: [Report.Level] = []
    var compute = 0.0
    for (number, name) in calibration.recipes.enumerated() {
      try checkInterruption()
      Terminal.status("\(name): measuring a step …")
      let folder = scratch.url.appendingPathComponent("level-\(number)")
      try calibration.writeEmulator(number, to: folder)
      var level = try calibration.level(number, in: folder)
      let step = try await measureStep(of: folder, on: sample, run)
      let seconds = Double(calibration.roundTokens) / step.tokensPerSecond
      let operations = level.work
      if number == 0 { compute = operations / seconds }
      // What it takes here, at the first level's rate: smaller matrices may run slower.
      level.work = seconds * compute
      level.memory = Double(step.peakMemoryBytes)
      level.fidelity = fidelities[number]
      levels.append(level)
      report.append(
        .init(
          name: name, bytes: Int(level.bytes), operations: operations, seconds: seconds,
          peakMemoryBytes: step.peakMemoryBytes, fidelity: level.fidelity, losses: []))
      Terminal.note(
        "\(name): \(Format.bytes(Int(level.bytes))), \(Format.number(seconds)) s per round, \(Format.bytes(step.peakMemoryBytes)) of memory, fidelity \(Format.number(level.fidelity, digits: 3))"
      )
    }
    // Whether anybody could take part is known before the federations that take long.
    _ = try edge(base, levels, calibration, compute: compute, LearningModel(), nil, run)
    var curves: [LearningFit.Curve] = []
    for (number, name) in calibration.recipes.enumerated() {
      try checkInterruption()
      Terminal.status("\(name): a federation of \(rounds) rounds …")
      let losses = try await calibration.losses(number)
      report[number].losses = losses
      curves.append(.init(fidelity: levels[number].fidelity, losses: losses))
      Terminal.note(
        "\(name): loss \(Format.number(losses.first ?? 0, digits: 3)) to \(Format.number(losses.last ?? 0, digits: 3)) in \(rounds) rounds"
      )
    }
    try checkInterruption()
    let fit = try LearningFit(curves)
    var learning = fit.model
    if run.clients > 1 {
      try await measureParticipation(calibration, curves[0], run.clients, &learning)
    }
    if work { learning.work = try await measureWork(calibration, curves[0], learning) }
    let edge = try self.edge(
      base, levels, calibration, compute: compute, learning, run.targetPerplexity, run)
    try AtomicOutput.write(try ConfigurationReader.yaml(edge), to: target)
    try common.report(
      Report(
        levels: report, adapterBytes: calibration.adapterBytes, compute: compute,
        learning: learning, fitError: fit.error, out: out),
      text: Format.table([
        ["written to", out],
        ["this machine", "\(Format.number(compute / 1e9)) GFLOP/s on the first emulator"],
        ["adapter", Format.bytes(calibration.adapterBytes)],
        [
          "loss",
          "falls from \(Format.number(fit.model.finalLoss + fit.model.startGap, digits: 3)) towards \(Format.number(fit.model.finalLoss, digits: 3)), by \(Format.percent(fit.model.rate)) of the gap per round at fidelity 1",
        ],
        ["fitted within", "\(Format.number(fit.error, digits: 4)) nats"],
      ]))
  }

  private func readConfiguration() throws -> RunConfiguration {
    var overrides: [String: JSONValue] = [:]
    var isFolder: ObjCBool = false
    let url = URL(path: model)
    guard FileManager.default.fileExists(atPath: url.path, isDirectory: &isFolder) else {
      throw PeatError.inputOutput("There is no '\(model)': name a model's folder or a run file.")
    }
    if isFolder.boolValue { overrides["model"] = .string(url.path) }
    if let data { overrides["data"] = .string(URL(path: data).path) }
    if let clientsBy { overrides["clientsBy"] = .string(clientsBy) }
    if let clients { overrides["clients"] = .integer(clients) }
    if !emulator.isEmpty { overrides["emulators"] = .array(emulator.map { .string($0) }) }
    if let bottom { overrides["bottom"] = .integer(bottom) }
    if let top { overrides["top"] = .integer(top) }
    if let localSteps { overrides["localSteps"] = .integer(localSteps) }
    if let batch { overrides["batch"] = .integer(batch) }
    if let context { overrides["context"] = .integer(context) }
    if let learningRate { overrides["learningRate"] = .number(Double(learningRate)) }
    if let seed = common.seed { overrides["seed"] = .integer(Int(clamping: seed)) }
    if let threads = common.threads { overrides["threads"] = .integer(threads) }
    overrides["rounds"] = .integer(rounds)
    return try ConfigurationReader.read(
      RunConfiguration(), from: isFolder.boolValue ? nil : url, overrides: overrides)
  }

  private struct Step: Decodable {
    var tokensPerSecond: Double
    var peakMemoryBytes: Int
  }

  /// Tunes for a few steps in a process of its own, so that its memory is its own.
  private func measureStep(
    of folder: URL, on sample: URL, _ run: RunConfiguration
  ) async throws -> Step {
    var arguments = [
      "tune", folder.path, "--data", sample.path, "--steps", "12", "--batch", "\(run.batch)",
      "--context", "\(run.context)", "--method", run.method, "--json", "--quiet",
      "--out", folder.appendingPathComponent("tuned").path,
    ]
    if run.method == "lora" { arguments += ["--rank", "\(run.rank)", "--alpha", "\(run.alpha)"] }
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

  /// What it does to the losses of short runs on the first level when not all take part: others in each round, or always the same.
  private func measureParticipation(
    _ calibration: Calibration, _ baseline: LearningFit.Curve, _ clients: Int,
    _ learning: inout LearningModel
  ) async throws {
    let share = 0.5
    Terminal.status("half of the clients, drawn for each round: a federation of \(rounds) rounds …")
    let half = LearningFit.Curve(
      fidelity: baseline.fidelity, losses: try await calibration.losses(0, share: share),
      share: (share * Double(clients)).rounded(.up) / Double(clients))
    // The first and the last quarter of them.
    let size = max(clients / 4, 1)
    var teams: [LearningFit.Curve] = []
    for team in [0..<size, clients - size..<clients] {
      try checkInterruption()
      Terminal.status("the same \(size) of the clients: a federation of \(rounds) rounds …")
      teams.append(
        .init(
          fidelity: baseline.fidelity, losses: try await calibration.losses(0, team: team),
          share: calibration.share(of: team), isSameTeam: true))
    }
    // Each hardly depends on the other: twice is enough.
    for _ in 0..<2 {
      learning.participation = LearningFit.constant(
        0...1.5, learning, [half], baseline: baseline
      ) { $0.participation = $1 }
      learning.coverage = LearningFit.constant(
        0...learning.startGap, learning, teams, baseline: baseline
      ) { $0.coverage = $1 }
    }
    func last(_ curve: LearningFit.Curve) -> String {
      Format.number(curve.losses.last ?? 0, digits: 3)
    }
    Terminal.note(
      "half of the clients: loss \(last(half)) after \(rounds) rounds; constant \(Format.number(learning.participation, digits: 3))"
    )
    Terminal.note(
      "the same \(size) of the clients: loss \(teams.map(last).joined(separator: ", ")) after \(rounds) rounds; constant \(Format.number(learning.coverage, digits: 3)) nats"
    )
  }

  /// What each choice of a device's work does to the losses of short runs on the first level.
  private func measureWork(
    _ calibration: Calibration, _ baseline: LearningFit.Curve, _ learning: LearningModel
  ) async throws -> WorkEffects {
    func curves(_ what: String, _ variants: [EdgeWork]) async throws -> [LearningFit.Curve] {
      var result: [LearningFit.Curve] = []
      for variant in variants {
        try checkInterruption()
        Terminal.status("\(what): a federation of \(rounds) rounds …")
        result.append(
          .init(
            fidelity: baseline.fidelity, losses: try await calibration.losses(0, work: variant),
            work: variant))
      }
      return result
    }
    func variant<Value>(_ path: WritableKeyPath<EdgeWork, Value>, _ value: Value) -> EdgeWork {
      var work = EdgeWork()
      work[keyPath: path] = value
      return work
    }
    var effects = WorkEffects()
    func fit(
      _ path: WritableKeyPath<WorkEffects, Double>, _ range: ClosedRange<Double>,
      _ what: String, _ variants: [EdgeWork]
    ) async throws {
      let measured = try await curves(what, variants)
      effects[keyPath: path] = LearningFit.constant(
        range, learning, measured, baseline: baseline
      ) { model, value in
        model.work[keyPath: path] = value
      }
      Terminal.note(
        "\(what): "
          + measured.map { "loss \(Format.number($0.losses.last ?? 0, digits: 3))" }
          .joined(separator: ", ")
          + " after \(rounds) rounds; constant \(Format.number(effects[keyPath: path], digits: 3))")
    }
    try await fit(
      \.steps, -2...2, "half and twice the local steps",
      [variant(\.steps, 0.5), variant(\.steps, 2)])
    try await fit(
      \.learningRate, -2...2, "half and twice the learning rate",
      [variant(\.learningRate, 0.5), variant(\.learningRate, 2)])
    try await fit(\.rank, -2...2, "half the rank", [variant(\.rank, 0.5)])
    try await fit(\.rounding, 0...1, "8 bits", [variant(\.uploadBits, 8)])
    return effects
  }

  /// What would be in vain, before anything is measured.
  private func check(
    _ calibration: Calibration, _ base: EdgeConfiguration, _ run: RunConfiguration
  ) async throws {
    guard let target = run.targetPerplexity else { return }
    Terminal.status("measuring the model as it is …")
    let now = try await calibration.zeroShot()
    guard target < now else {
      throw PeatError.badData(
        "targetPerplexity is \(Format.number(target)), but the model as it is has \(Format.number(now)) on the evaluation text: there is nothing to reach. Lower it, or leave it out."
      )
    }
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
    edge.middleBlocks = calibration.middleBlocks
    edge.adapterBytes = Double(calibration.adapterBytes)
    edge.learning = learning
    edge.work = work ? .usual : WorkChoices()
    if run.method != "lora" { edge.work.ranks = [1] }
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
      edge, planner: "heuristic", episodes: 32, seed: common.seedValue)
    let seconds = played.summaries.map { $0.seconds / Double(max($0.rounds, 1)) }
    edge.objective.referenceTime = max(median(seconds), 1e-3)
    edge.deadline = 6 * edge.objective.referenceTime
    try edge.validate()
    return edge
  }
}
