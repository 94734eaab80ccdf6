import FedPEAT
import Foundation

/// Trains, writes and measures a controller.
struct ControllerTrial: WorldVisitor {
  let configuration: ControllerTrainingConfiguration
  let environment: String
  let fingerprint: String
  let out: String
  /// What it goes on from.
  let checkpoint: ControllerCheckpoint?

  private var target: URL { URL(path: out) }

  func visit<Environment: ControlEnvironment>(
    make: @escaping (Int, UInt64) throws -> Environment,
    planner: (String, UInt64) throws -> any ControlPolicy<Environment>
  ) throws -> (TrainController.Report, ControllerComparison) {
    Terminal.status("making the network …")
    let training = try ControllerTraining(
      configuration, environment: fingerprint, named: environment,
      expert: try planner("lookahead", configuration.seed),
      shouldStop: { Interruption.isRequested }, make)
    if let checkpoint {
      try training.resume(checkpoint)
      Terminal.note("going on     after \(Self.words(checkpoint))")
    }
    let pace = try train(training)
    let curve = LearningCurve(training.curve)
    try write(training.network, curve, steps: pace.steps)
    try? FileManager.default.removeItem(at: ControllerCheckpoint.url(of: target))
    // From here on what was trained is there, whole; what is left is to say how good it is.
    let comparison = try compare(training.network, make, planner)
    var marked = curve
    marked.marks = comparison.rivals.map { ($0.planner, $0.meanReturn) }
    try AtomicOutput.write(Data(marked.svg.utf8), to: companion("svg"))
    return (
      TrainController.Report(
        environment: environment, meanReturn: comparison.returns.mean,
        standardError: comparison.returns.standardError, steps: pace.steps,
        seconds: pace.spent.seconds, stepsPerSecond: pace.perSecond,
        stepsPerProcessorSecond: pace.perProcessorSecond,
        parameters: training.network.parameters.reduce(0) { $0 + $1.count }, controller: out,
        selectedPerRound: comparison.selectedPerRound, devices: comparison.devices,
        comparison: comparison.rivals, verdict: comparison.verdict,
        advice: comparison.advice(configuration, steps: pace.steps)),
      comparison
    )
  }

  // MARK: Training

  private func train(_ training: ControllerTraining<some ControlEnvironment>) throws
    -> ControllerPace
  {
    var pace = ControllerPace(from: checkpoint)
    var saved = checkpoint
    var isTold = false
    let isWhole = try training.run(
      shouldStop: { Interruption.isRequested },
      onCheckpoint: {
        var checkpoint = $0
        checkpoint.spent = pace.spent
        do {
          try checkpoint.write(to: ControllerCheckpoint.url(of: target))
          saved = checkpoint
          isTold = false
        } catch {
          // What was learned is worth more than its copy: the next moment may find room again.
          guard !isTold else { return }
          isTold = true
          let kept = saved.map { "what was saved after \(Self.words($0)) stays" }
          Terminal.note(
            "warning: the training could not be saved (\(error)); it goes on, and \(kept ?? "nothing is saved yet")"
          )
        }
      },
      onEvent: { pace.tell($0) })
    if !isWhole { throw interruption(pace, saved) }
    return pace
  }

  /// What is there after a break.
  private func interruption(_ pace: ControllerPace, _ saved: ControllerCheckpoint?) -> PeatError {
    let reached =
      pace.imitating.map { "in iteration \($0.iteration) of \($0.of) of imitating the search" }
      ?? "after \(Format.count(pace.steps)) rounds"
    let name = ControllerCheckpoint.url(of: target).lastPathComponent
    let kept =
      saved.map {
        "'\(name)' holds the training as it was after \(Self.words($0)): the same command with --resume goes on from there, to the same controller as without a break."
      } ?? "It was too early to have saved anything."
    let controller =
      FileManager.default.fileExists(atPath: target.path)
      ? "'\(out)' still holds an earlier controller." : "'\(out)' is not written yet."
    return PeatError(.interrupted, "Interrupted \(reached). \(kept) \(controller)")
  }

  private static func words(_ checkpoint: ControllerCheckpoint) -> String {
    checkpoint.clonedIterations.map {
      "\($0) iteration\($0 == 1 ? "" : "s") of imitating the search"
    } ?? "\(Format.count(checkpoint.steps)) rounds"
  }

  // MARK: Writing

  private func companion(_ name: String) -> URL {
    target.deletingPathExtension().appendingPathExtension(name)
  }

  /// The controller with its learning curve, one right after the other.
  private func write(_ network: any ActorCritic, _ curve: LearningCurve, steps: Int) throws {
    let (csv, svg) = (Data(curve.csv.utf8), Data(curve.svg.utf8))
    try ControllerFile(
      network,
      facts: .init(
        network: configuration.network, shape: network.shape, environment: environment,
        steps: steps)
    ).write(to: target)
    try AtomicOutput.write(csv, to: companion("csv"))
    try AtomicOutput.write(svg, to: companion("svg"))
  }

  // MARK: Measuring

  private func compare<Environment: ControlEnvironment>(
    _ network: any ActorCritic, _ make: (Int, UInt64) throws -> Environment,
    _ planner: (String, UInt64) throws -> any ControlPolicy<Environment>
  ) throws -> ControllerComparison {
    let seed = configuration.evaluationSeed
    let episodes = try Episodes(in: make(1, seed), configuration.network)
    let rivals = [("heuristic", episodes.ofController), ("lookahead", episodes.ofSearch)]
      .filter { $0.1 > 0 }
    Terminal.note(
      "measuring    \(episodes.ofController) episodes with the controller"
        + rivals.map { ", \($0.1) with \($0.0)" }.joined() + "; '\(out)' is written")
    func play(_ policy: any ControlPolicy<Environment>, _ name: String, _ count: Int) throws
      -> PlayedEpisodes
    {
      Terminal.status("measuring \(name): \(count) episodes …")
      let played = policy.playEpisodes(try make(count, seed)) { Interruption.isRequested }
      guard Interruption.isRequested else { return played }
      throw PeatError(
        .interrupted,
        "Interrupted while measuring. The controller is trained: '\(out)' is whole, with its learning curve. Measure it with 'fedpeat evaluate-controller \(out) heuristic lookahead --environment \(environment)'."
      )
    }
    let controller = NetworkPolicy<Environment>(network)
    let own = try play(controller, "the controller", episodes.ofController)
    var result = ControllerComparison(
      own, devices: network.shape.devices,
      choosesWork: network.shape.branches.list.contains {
        WorkChoices.branchNames.contains($0.name)
      })
    for (name, count) in rivals {
      let other = try play(try planner(name, 0), name, count)
      let same =
        count == episodes.ofController ? own : try play(controller, "the controller again", count)
      result.add(name, other, beside: same)
    }
    return result
  }
}

/// How many episodes are played to say how good a controller is: by sizes alone, so that the same training always says the same.
private struct Episodes {
  /// With the controller and the heuristic, and with the search; 0 where a few would say nothing.
  let ofController: Int
  let ofSearch: Int

  init(in environment: some ControlEnvironment, _ network: NetworkConfiguration) {
    let shape = environment.shape
    let rounds = (environment as? EdgeEnvironment)?.configuration.rounds ?? 50
    let devices = Double(shape.devices)
    let weights = network.layout(for: shape).values.reduce(0.0) { sum, size in
      sum + size.reduce(1.0) { $0 * Double($1) }
    }
    // A shared network looks at each device; beside that, a cell's own work.
    let each =
      Double(rounds) * (weights * (network.kind == .shared ? devices : 1) + 20_000 * devices)
    ofController = Int(rounding: min(256, max(16, 1e12 / each)))
    // A search takes about the square of the devices: a minute at most.
    let own = Int(
      rounding: min(Double(ofController), 32e6 / (devices * devices * Double(rounds))))
    ofSearch = own < 8 ? 0 : own
  }
}
