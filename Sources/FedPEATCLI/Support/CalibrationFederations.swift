import FedPEAT
import Foundation

/// The short federations of a calibration: on each emulator, with some of the clients, and with other work of the devices.
struct CalibrationFederations {
  private let calibration: Calibration
  private let rounds: Int
  private let clients: Int
  private let pace: CalibrationPace

  /// Of the clients, that are drawn for a round where not all take part.
  private static let share = 0.5
  /// What a device's work is changed to, in the order in which that is measured.
  private static let variants: [EdgeWork] = [
    variant(\.steps, 0.5), variant(\.steps, 2), variant(\.learningRate, 0.5),
    variant(\.learningRate, 2), variant(\.rank, 0.5), variant(\.uploadBits, 8),
  ]

  /// - Parameters:
  ///   - roundSeconds: of a client's round on each emulator.
  ///   - evaluationSeconds: of measuring perplexity once.
  init(
    _ calibration: Calibration, rounds: Int, clients: Int, roundSeconds: [Double],
    evaluationSeconds: Double, measuresWork: Bool
  ) {
    self.calibration = calibration
    self.rounds = rounds
    self.clients = clients
    let own = roundSeconds.first ?? 0
    var trained = roundSeconds.map { Double(clients) * $0 }
    if clients > 1 {
      trained.append((Self.share * Double(clients)).rounded(.up) * own)
      trained += [1, 1].map { Double(max(clients / 4, 1)) * own * $0 }
    }
    if measuresWork { trained += Self.variants.map { Double(clients) * own * $0.steps } }
    pace = CalibrationPace(secondsPerRound: trained.map { $0 + evaluationSeconds }, rounds: rounds)
    pace.announce()
  }

  /// All clients on one level: how the loss falls, and what the emulator is still worth while the adapter moves.
  func curve(_ level: Int, _ name: String, fidelity: Double) async throws -> LearningFit.Curve {
    let run = try await shortRun(level, name, measuresFidelity: true)
    return .init(fidelity: fidelity, laterFidelities: run.fidelities, losses: run.losses)
  }

  /// One federation: the losses before its first round and after each.
  private func losses(
    _ level: Int, _ name: String, work: EdgeWork = .own, share: Double = 1,
    team: Range<Int>? = nil
  ) async throws -> [Double] {
    try await shortRun(level, name, work: work, share: share, team: team).losses
  }

  private func shortRun(
    _ level: Int, _ name: String, work: EdgeWork = .own, share: Double = 1,
    team: Range<Int>? = nil, measuresFidelity: Bool = false
  ) async throws -> Calibration.ShortRun {
    try checkInterruption()
    pace.begin(name)
    return try await calibration.shortRun(
      level, work: work, share: share, team: team, measuresFidelity: measuresFidelity
    ) { [pace] round in pace.roundMeasured(round) }
  }

  /// What it does to the losses of short runs on the first level when not all take part: others in each round, or always the same.
  ///
  /// - Returns: why what was found should not be trusted far.
  func measureParticipation(
    _ baseline: LearningFit.Curve, _ learning: inout LearningModel
  ) async throws -> [String] {
    let half = LearningFit.Curve(
      fidelity: baseline.fidelity,
      losses: try await losses(0, "half of the clients, drawn for each round", share: Self.share),
      share: (Self.share * Double(clients)).rounded(.up) / Double(clients))
    // The first and the last quarter of them.
    let size = max(clients / 4, 1)
    let same = size == 1 ? "always the same client" : "always the same \(size) clients"
    var teams: [LearningFit.Curve] = []
    for team in [0..<size, clients - size..<clients] {
      teams.append(
        .init(
          fidelity: baseline.fidelity,
          losses: try await losses(0, same, team: team),
          share: calibration.share(of: team), isSameTeam: true))
    }
    let ranges = (participation: 0...1.5, coverage: 0...learning.startGap)
    // Each hardly depends on the other: twice is enough.
    for _ in 0..<2 {
      learning.participation = LearningFit.constant(
        ranges.participation, learning, [half], baseline: baseline
      ) { $0.participation = $1 }
      learning.coverage = LearningFit.constant(
        ranges.coverage, learning, teams, baseline: baseline
      ) { $0.coverage = $1 }
    }
    func last(_ curve: LearningFit.Curve) -> String {
      Format.number(curve.losses.last ?? 0, digits: 3)
    }
    Terminal.note(
      "half of the clients: loss \(last(half)) after \(rounds) rounds; constant \(Format.number(learning.participation, digits: 3))"
    )
    Terminal.note(
      "\(same): loss \(teams.map(last).joined(separator: ", ")) after \(rounds) rounds; constant \(Format.number(learning.coverage, digits: 3)) nats"
    )
    return [
      LearningFit.caution("participation", learning.participation, in: ranges.participation),
      LearningFit.caution("coverage", learning.coverage, in: ranges.coverage),
    ].compactMap { $0 }
  }

  /// What each choice of a device's work does to the losses of short runs on the first level.
  ///
  /// - Returns: why what was found should not be trusted far.
  func measureWork(
    _ baseline: LearningFit.Curve, _ learning: inout LearningModel
  ) async throws -> [String] {
    var cautions: [String] = []
    var effects = WorkEffects()
    let model = learning
    func fit(
      _ path: WritableKeyPath<WorkEffects, Double>, _ range: ClosedRange<Double>,
      _ constant: String, _ what: String, _ variants: ArraySlice<EdgeWork>
    ) async throws {
      var measured: [LearningFit.Curve] = []
      for variant in variants {
        measured.append(
          .init(
            fidelity: baseline.fidelity, losses: try await losses(0, what, work: variant),
            work: variant))
      }
      effects[keyPath: path] = LearningFit.constant(
        range, model, measured, baseline: baseline
      ) { model, value in
        model.work[keyPath: path] = value
      }
      Terminal.note(
        "\(what): "
          + measured.map { "loss \(Format.number($0.losses.last ?? 0, digits: 3))" }
          .joined(separator: ", ")
          + " after \(rounds) rounds; constant \(Format.number(effects[keyPath: path], digits: 3))")
      cautions += [LearningFit.caution("work.\(constant)", effects[keyPath: path], in: range)]
        .compactMap { $0 }
    }
    try await fit(
      \.steps, -2...2, "steps", "half and twice the local steps", Self.variants[0..<2])
    try await fit(
      \.learningRate, -2...2, "learningRate", "half and twice the learning rate",
      Self.variants[2..<4])
    try await fit(\.rank, -2...2, "rank", "half the rank", Self.variants[4..<5])
    try await fit(\.rounding, 0...1, "rounding", "8 bits", Self.variants[5..<6])
    learning.work = effects
    return cautions
  }
}

/// The run's own work, but for one setting.
private func variant<Value>(_ path: WritableKeyPath<EdgeWork, Value>, _ value: Value) -> EdgeWork {
  var work = EdgeWork()
  work[keyPath: path] = value
  return work
}
