import PeatEdge
import PeatFederation
import PeatTensor
import TestSupport
import Testing

@Suite("Fitting the learning model") struct LearningFitTests {
  /// What a model gives with all devices on an emulator of each fidelity.
  private func curves(_ model: LearningModel, work: EdgeWork = .own) -> [LearningFit.Curve] {
    [1, 0.8, 0.5].map { fidelity in
      var losses = [model.finalLoss + model.startGap]
      var gap = model.startGap
      var fidelities: [Double] = []
      for round in 0..<8 {
        gap *=
          1
          - model.progress(
            share: 1, fidelity: fidelity, age: Double(round), gap: gap, work: work)
        losses.append(model.finalLoss + gap)
        fidelities.append(fidelity * exp(-model.ageing * Double(round + 1)))
      }
      return LearningFit.Curve(
        fidelity: fidelity, laterFidelities: fidelities, losses: losses, work: work)
    }
  }

  @Test(arguments: [(0.3, 0.0, 0.0), (0.5, 1.0, 0.0), (0.6, 0.5, 0.2)])
  func `a model is found again from its own losses`(
    rate: Double, slowing: Double, floor: Double
  ) throws {
    var model = LearningModel()
    (model.rate, model.slowing, model.floor) = (rate, slowing, floor)
    (model.ageing, model.finalLoss, model.startGap) = (0, 3, 1.2)
    let fit = try LearningFit(curves(model))
    #expect(fit.error < 0.004, "\(fit.error)")
    // What it is for: the losses of the rounds to come.
    for (own, found) in zip(curves(model), curves(fit.model)) {
      for (x, y) in zip(own.losses, found.losses) { #expect(abs(x - y) < 0.02) }
    }
  }

  @Test(arguments: [0.01, 0.1, 0.6])
  func `how fast emulators age is found from what they are still worth`(ageing: Double) throws {
    var model = LearningModel()
    (model.rate, model.ageing, model.finalLoss, model.startGap) = (0.4, ageing, 3, 1.2)
    let fit = try LearningFit(curves(model))
    #expect(abs(fit.model.ageing / ageing - 1) < 0.005)
    for (own, found) in zip(curves(model), curves(fit.model)) {
      for (x, y) in zip(own.losses, found.losses) { #expect(abs(x - y) < 0.02) }
    }
    // Fidelities that rise say nothing of ageing, and those that were not measured.
    for later in [[0.5, 0.6, 0.7], []] {
      let curve = LearningFit.Curve(
        fidelity: 0.5, laterFidelities: later, losses: [5, 4.5, 4.2, 4.1])
      #expect(try LearningFit([curve]).model.ageing == 0)
    }
    // All of it in the first round: not as the model has it.
    let step = LearningFit.Curve(
      fidelity: 0.8, laterFidelities: Array(repeating: 0.3, count: 12),
      losses: curves(model)[0].losses)
    #expect(try LearningFit([step]).cautions.contains { $0.contains("fidelities differ by") })
  }

  @Test func `a fit says where it is not to be trusted`() throws {
    func cautions(_ curves: [LearningFit.Curve]) throws -> String {
      try LearningFit(curves).cautions.joined(separator: "\n")
    }
    // Eight rounds on three emulators, nearly to the end, are clear.
    var model = LearningModel()
    (model.rate, model.floor, model.ageing, model.finalLoss) = (0.5, 0.2, 0, 3)
    let clear = curves(model)
    let calm = try cautions(clear)
    #expect(calm.isEmpty, "\(calm)")
    let short = clear.map {
      LearningFit.Curve(fidelity: $0.fidelity, losses: Array($0.losses.prefix(4)))
    }
    #expect(try cautions(short).contains("Only 3 rounds were measured"))
    // Nearly a straight line: where it ends is anybody's guess.
    let line = [1, 0.5].map { fidelity in
      LearningFit.Curve(fidelity: fidelity, losses: (0...12).map { 5 - 0.01 * Double($0) })
    }
    let found = try cautions(line)
    #expect(found.contains("was not measured") || found.contains("end of its range"), "\(found)")
    // Half as much with half the fidelity, and all of it in the first round.
    let steep = [1, 0.5].map { fidelity in
      LearningFit.Curve(
        fidelity: fidelity, losses: [5] + Array(repeating: 5 - 2 * fidelity, count: 12))
    }
    let extreme = try cautions(steep)
    #expect(extreme.contains("end of its range"), "\(extreme)")
    #expect(LearningFit.caution("x", 1.5, in: 0...1.5)?.contains("'x' lies at the end") == true)
    // At 0 it has no effect, which is an answer.
    #expect(LearningFit.caution("x", 0, in: 0...1.5) == nil)
    #expect(LearningFit.caution("x", -2, in: -2...2) != nil)
  }

  @Test func `the final loss lies below all that was measured`() throws {
    var model = LearningModel()
    (model.rate, model.ageing, model.finalLoss, model.startGap) = (0.4, 0, 3, 1.2)
    #expect(try LearningFit(curves(model)).model.finalLoss > 2.9)
    // More steps came further than any of the curves.
    #expect(try LearningFit(curves(model), lowest: 2.5).model.finalLoss < 2.5)
  }

  @Test func `a final loss close by is taken where one far below fits no better`() throws {
    // Losses as a calibration measured them, with the second curve's emulator ageing: a fit without bounds ends 1.6 nats below.
    let measured = [
      (1.0, [4.782, 3.62, 3.33, 3.21, 3.14, 3.10, 3.07, 3.05, 3.03, 3.01, 3.00, 2.99, 2.98]),
      (0.76, [4.782, 3.85, 3.60, 3.49, 3.42, 3.38, 3.35, 3.33, 3.31, 3.30, 3.28, 3.27, 3.264]),
      (0.615, [4.782, 4.20, 3.98, 3.87, 3.80, 3.76, 3.73, 3.71, 3.70, 3.68, 3.67, 3.66, 3.651]),
    ]
    let fit = try LearningFit(
      measured.map { LearningFit.Curve(fidelity: $0.0, losses: $0.1) })
    #expect(fit.model.finalLoss > 2.6, "\(fit.model)")
    #expect(fit.error < 0.1)
  }

  @Test func `choices that take more together than a round can are told`() {
    var edge = EdgeConfiguration.pedestrian
    edge.work = .usual
    (edge.learning.rate, edge.learning.work.steps, edge.learning.work.learningRate) = (
      0.5, 0.3, 0.3
    )
    // 0.5 · 2^0.6 = 0.76 and 0.5 · 2^1.6 = 1.52.
    #expect(edge.cautionOfChoices == nil)
    (edge.learning.work.steps, edge.learning.work.learningRate) = (0.8, 0.8)
    let caution = edge.cautionOfChoices ?? ""
    #expect(
      caution.contains("2.0 times the local steps, 2.0 times the learning rate"), "\(caution)")
    #expect(caution.contains("95.0 % count"), "\(caution)")
    // Nothing to choose from, nothing to tell.
    edge.work = WorkChoices()
    #expect(edge.cautionOfChoices == nil)
  }

  @Test func `what more steps do is found from how losses differ`() throws {
    var model = LearningModel()
    (model.finalLoss, model.startGap, model.ageing, model.work.steps) = (3, 1, 0, 0.4)
    var work = EdgeWork()
    work.steps = 2
    let found = LearningFit.constant(
      -2...2, model, [curves(model, work: work)[0]], baseline: curves(model)[0]
    ) { $0.work.steps = $1 }
    #expect(abs(found - 0.4) < 0.011)
  }

  @Test func `what is missing where always the same take part is found again`() throws {
    var model = LearningModel()
    (model.finalLoss, model.startGap, model.ageing, model.participation) = (3, 1, 0, 0.1)
    model.coverage = 0.4
    func curve(share: Double, isSameTeam: Bool) -> LearningFit.Curve {
      var gap = 1.0
      var losses = [4.0]
      var recency = 0.0
      for _ in 0..<12 {
        recency = share + (1 - share) * 0.9 * recency
        let covered = isSameTeam ? share : recency
        // The formula of `LearningModel`, written out.
        gap *= 1 - 0.25 * pow(share, 0.1 - 1) * share * max(0, 1 - 0.4 * (1 - covered) / gap)
        losses.append(3 + gap)
      }
      return .init(fidelity: 1, losses: losses, share: share, isSameTeam: isSameTeam)
    }
    let all = curve(share: 1, isSameTeam: false)
    let found = LearningFit.constant(
      0...1, model, [curve(share: 0.25, isSameTeam: true)], baseline: all
    ) { $0.coverage = $1 }
    #expect(abs(found - 0.4) < 0.003)
    let participation = LearningFit.constant(
      0...1.5, model, [curve(share: 0.5, isSameTeam: false)], baseline: all
    ) { $0.participation = $1 }
    #expect(abs(participation - 0.1) < 0.005)
    // Where the loss stays: at d · (1 − C).
    #expect(abs((curve(share: 0.25, isSameTeam: true).losses.last ?? 0) - 3 - 0.3) < 0.15)
  }

  @Test func `losses that do not fall can't be fitted`() {
    expectError(.badData, "do not fall") {
      _ = try LearningFit([.init(fidelity: 1, losses: [3, 3.1, 3.2])])
    }
    expectError(.badData, "do not fall") {
      _ = try LearningFit([.init(fidelity: 1, losses: [3, .nan, 2])])
    }
  }
}

@Suite("A federation in a simulated cell") struct SimulatedCellTests {
  private func cell(_ planner: String, _ change: (inout EdgeConfiguration) -> Void = { _ in })
    throws
    -> SimulatedCell
  {
    var edge = EdgeConfiguration.pedestrian
    change(&edge)
    return try SimulatedCell(
      edge, planner: planner, clients: ["a": 0.5, "b": 0.3, "c": 0.2],
      settings: WorkSettings(localSteps: 10, rank: 8), seed: 4)
  }

  private func state(_ round: Int) -> FederationState {
    FederationState(
      run: "r", round: round, attempt: 1, rounds: 10,
      clients: ["a", "b", "c"].map { .init($0, allowedLevels: Set(0..<8)) },
      levels: (0..<8).map { .init($0, bytes: 1000) })
  }

  @Test func `planning a round plays it: time passes and the same seed gives the same`()
    async throws
  {
    let (first, second) = (try cell("lookahead"), try cell("lookahead"))
    var before = 0.0
    for round in 1...5 {
      let plan = try await first.plan(state(round))
      #expect(try await second.plan(state(round)) == plan)
      #expect(!plan.participants.isEmpty)
      let seconds = await first.seconds
      #expect(seconds > before)
      before = seconds
    }
    let rounds = await first.rounds
    #expect(rounds.map(\.round) == [1, 2, 3, 4, 5])
    #expect(zip(rounds, rounds.dropFirst()).allSatisfy { $0.predictedGap > $1.predictedGap })
    #expect(await first.violations == 0)
  }

  @Test func `who fails in the cell takes no part`() async throws {
    let cell = try cell("everyone") { edge in
      for index in edge.classes.indices { edge.classes[index].dropout = 0.5 }
    }
    var failures = 0
    for round in 1...10 {
      let plan = try await cell.plan(state(round))
      failures += plan.assignments.values.count {
        $0.reason?.contains("did not deliver in the simulated cell") == true
      }
    }
    #expect((5...25).contains(failures))
  }

  @Test func `every decision has its reason, and a regret`() async throws {
    let cell = try cell("lookahead") { edge in
      edge.classes[0].stays = 0.5
      edge.classes[0].returns = 0.5
    }
    var reasons: [String] = []
    for round in 1...8 {
      let plan = try await cell.plan(state(round))
      #expect(plan.assignments.values.allSatisfy { $0.regret != nil })
      #expect(try #require(plan.regret) >= 0)
      reasons += plan.assignments.values.compactMap(\.reason)
    }
    #expect(reasons.count == 24)
    for word in ["lookahead: is sent level", "lookahead: holds level", "can't be reached"] {
      #expect(reasons.contains { $0.hasPrefix(word) }, "\(word): \(reasons)")
    }
  }

  @Test func `a level that was made anew is sent again`() async throws {
    // Everyone holds one level from the first round on.
    let (first, second) = (try cell("everyone"), try cell("everyone"))
    for round in 1...2 {
      for cell in [first, second] { _ = try await cell.plan(state(round)) }
    }
    await second.renew(levels: 0..<8)
    for cell in [first, second] { _ = try await cell.plan(state(3)) }
    let (old, renewed) = (await first.rounds, await second.rounds)
    #expect(old[1].bytesDown == renewed[1].bytesDown)
    #expect(old[2].bytesDown == old[1].bytesDown)
    #expect(renewed[2].bytesDown == renewed[0].bytesDown)
    #expect(renewed[2].bytesDown > old[2].bytesDown)
    #expect(await second.exposure == first.exposure)
  }

  @Test func `a level ages from when it was made, until it is made anew`() async throws {
    func gaps(_ ageing: Double, renewing levels: [Int] = []) async throws -> [Double] {
      let cell = try cell("everyone:0") {
        $0.levelsAge = .sinceMade
        $0.learning.ageing = ageing
        for index in $0.classes.indices { $0.classes[index].memory = Spread(2e9, 2e9) }
      }
      for round in 1...6 {
        if round == 4 { await cell.renew(levels: levels) }
        _ = try await cell.plan(state(round))
      }
      return [1] + (await cell.rounds.map(\.predictedGap))
    }
    func progress(_ gaps: [Double]) -> [Double] { zip(gaps, gaps.dropFirst()).map { 1 - $1 / $0 } }
    let fresh = progress(try await gaps(0))
    let ageing = progress(try await gaps(0.2))
    for round in 0..<6 {
      #expect(abs(ageing[round] / fresh[round] - exp(-0.2 * Double(round))) < 1e-9)
    }
    let renewed = progress(try await gaps(0.2, renewing: Array(0..<8)))
    for round in 3..<6 {
      #expect(abs(renewed[round] / fresh[round] - exp(-0.2 * Double(round - 3))) < 1e-9)
    }
    // That of a level which nobody holds is no help.
    let other = progress(try await gaps(0.2, renewing: [7]))
    #expect(other == ageing)
  }

  @Test func `a cell in which nobody can deliver ends with a reason`() async throws {
    let cell = try cell("everyone") { $0.deadline = 0.01 }
    let error = await #expect(throws: PeatError.self) { try await cell.plan(state(1)) }
    #expect(error?.message.contains("tried 3 times") == true)
    #expect(error?.message.contains("at most 0.01 s") == true)
  }

  @Test func `data that never takes part is missing, and a controller sees that`() throws {
    var edge = EdgeConfiguration.pedestrian
    (edge.learning.participation, edge.learning.coverage) = (0, 0.5)
    edge.learning.rate = 0.9
    edge.target = 0.01
    edge.radio.sharing = .dedicated
    let all = try EdgeEnvironment.play(edge, planner: "everyone", episodes: 4, seed: 1)
    // Only the fastest: progress is as fast, but stays above d · (1 − their share).
    edge.objective.time = 1e6
    let few = try EdgeEnvironment.play(
      edge, planner: "one-round", episodes: 4, minimumUpdates: 2, seed: 1)
    #expect(all.summaries.allSatisfy { $0.gap < 0.05 })
    #expect(few.summaries.allSatisfy { $0.gap > 0.2 }, "\(few.summaries.map(\.gap))")
    var without = edge
    without.learning.coverage = 0
    let (seeing, blind) = (
      try EdgeEnvironment(edge, cells: 1, seed: 0), try EdgeEnvironment(without, cells: 1, seed: 0)
    )
    #expect(seeing.shape.deviceFeatures == blind.shape.deviceFeatures + 1)
    edge.learning.coverage = -1
    expectError(.badData, "learning.coverage") { try edge.validate() }
  }

  @Test func `the server's part takes time and makes progress`() throws {
    var edge = EdgeConfiguration.pedestrian
    edge.server.weight = 0.25
    (edge.server.compute, edge.server.work) = (1, 1e6)
    expectError(.badData, "server") { _ = try EdgeEnvironment(edge, cells: 1, seed: 0) }
    edge.server.compute = 1e12
    edge.server.work = 5e14
    let with = try EdgeEnvironment.play(edge, planner: "idle", episodes: 2, seed: 1)
    #expect(with.summaries.allSatisfy { $0.seconds >= 500 * 50 })
    #expect(with.summaries.allSatisfy { $0.gap < 0.1 })
    edge.server.weight = 0
    let without = try EdgeEnvironment.play(edge, planner: "idle", episodes: 2, seed: 1)
    #expect(without.summaries.allSatisfy { $0.gap == 1 })
  }

  @Test func `an estimate adds up`() throws {
    let environment = try EdgeEnvironment.play(
      .pedestrian, planner: "heuristic", episodes: 16, seed: 0)
    let estimate = EdgeEstimate(environment, deadline: 1e9)
    #expect(estimate.meetsDeadline == 1)
    #expect(estimate.violations == 0)
    let (seconds, all) = (estimate.seconds, environment.summaries.map(\.seconds).sorted())
    #expect(seconds.low <= seconds.median && seconds.median <= seconds.high)
    #expect(seconds.median == all[8] && seconds.low == all[1] && seconds.high == all[14])
    let down = estimate.classes.reduce(0) { $0 + $1.devices * $1.bytesDown }
    #expect(abs(down - estimate.bytesDown.mean) < 1e-6 * down)
    let joules = estimate.classes.reduce(0) { $0 + $1.devices * $1.joules }
    #expect(abs(joules - estimate.joules.mean) < 1e-6 * joules)
    #expect(estimate.classes.allSatisfy { $0.exposure <= $0.largestExposure })
    #expect(EdgeEstimate(environment, deadline: 0.001).meetsDeadline == 0)
  }

  @Test func `work that is chosen takes its time, its bytes and its effect`() throws {
    var edge = EdgeConfiguration.pedestrian
    edge.learning.work.rounding = 0.1
    var work = EdgeWork()
    (work.steps, work.rank, work.uploadBits, work.learningRate) = (2, 0.5, 8, 2)
    let factor = edge.learning.work.factor(work)
    #expect(
      abs(factor - (pow(2, 0.5) * pow(2, 0.5) * pow(0.5, 0.15) * 0.9)) < 1e-9)
    var choices = WorkChoices()
    choices.steps = [2]
    edge.work = choices
    expectError(.badData, "work.steps", "must hold 1") { try edge.validate() }
    choices.steps = [1]
    choices.uploadBits = [32, 5]
    edge.work = choices
    expectError(.badData, "work.uploadBits") { try edge.validate() }
  }
}

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif
