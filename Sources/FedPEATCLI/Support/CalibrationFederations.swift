import FedPEAT
import Foundation

/// The short federations of a calibration: on each emulator, with some of the clients, and with other work of the devices.
struct CalibrationFederations {
  private let calibration: Calibration
  private let rounds: Int
  private let clients: Int
  private let pace: CalibrationPace
  private let record: CalibrationRecord

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
  ///   - record: where each is kept.
  init(
    _ calibration: Calibration, rounds: Int, clients: Int, roundSeconds: [Double],
    evaluationSeconds: Double, measuresWork: Bool, record: CalibrationRecord
  ) {
    self.calibration = calibration
    self.rounds = rounds
    self.clients = clients
    self.record = record
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
    let place = team.map { "\($0.lowerBound)-\($0.upperBound)" } ?? "all"
    let key =
      "level \(level), steps \(work.steps), rate \(work.learningRate), rank \(work.rank), bits \(work.uploadBits), share \(share), team \(place)"
    if let kept = record.run(key) {
      pace.skip()
      return kept
    }
    let run = try await calibration.shortRun(
      level, work: work, share: share, team: team, measuresFidelity: measuresFidelity
    ) { [pace] round in pace.roundMeasured(round) }
    try record.keep(run, as: key)
    return run
  }

  /// What was measured with some of the clients.
  struct Participation {
    var half: LearningFit.Curve
    var teams: [LearningFit.Curve]
    /// Of a team, in words.
    var team: String

    var lowestLoss: Double {
      ([half] + teams).flatMap(\.losses).min() ?? .infinity
    }
  }

  /// Short runs on the first level when not all take part: others in each round, or always the same.
  func measureParticipation(_ baseline: LearningFit.Curve) async throws -> Participation {
    let half = LearningFit.Curve(
      fidelity: baseline.fidelity,
      losses: try await losses(0, "half of the clients, drawn for each round", share: Self.share),
      share: (Self.share * Double(clients)).rounded(.up) / Double(clients))
    note("half of the clients", [half])
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
    note(same, teams)
    return Participation(half: half, teams: teams, team: same)
  }

  /// The constants that say what it does to the losses when not all take part.
  ///
  /// - Returns: why what was found should not be trusted far.
  static func fit(
    _ measured: Participation, _ baseline: LearningFit.Curve, _ learning: inout LearningModel
  ) -> [String] {
    let ranges = (participation: 0...1.5, coverage: 0...learning.startGap)
    // Each hardly depends on the other: twice is enough.
    for _ in 0..<2 {
      learning.participation = LearningFit.constant(
        ranges.participation, learning, [measured.half], baseline: baseline
      ) { $0.participation = $1 }
      learning.coverage = LearningFit.constant(
        ranges.coverage, learning, measured.teams, baseline: baseline
      ) { $0.coverage = $1 }
    }
    Terminal.note(
      "constants: participation \(Format.number(learning.participation, digits: 3)), coverage \(Format.number(learning.coverage, digits: 3)) nats"
    )
    return [
      LearningFit.caution("participation", learning.participation, in: ranges.participation),
      LearningFit.caution("coverage", learning.coverage, in: ranges.coverage),
    ].compactMap { $0 }
  }

  /// What was measured with other work of the devices: for each constant of its effects, the variants that tell it.
  struct Work {
    struct Effect {
      var path: WritableKeyPath<WorkEffects, Double>
      var range: ClosedRange<Double>
      /// The constant's name in an edge file.
      var constant: String
      var what: String
      var variants: [EdgeWork]
      var curves: [LearningFit.Curve] = []
    }

    var effects: [Effect]

    var lowestLoss: Double {
      effects.flatMap(\.curves).flatMap(\.losses).min() ?? .infinity
    }
  }

  /// Short runs on the first level with each choice of a device's work.
  func measureWork(_ baseline: LearningFit.Curve) async throws -> Work {
    let all = Self.variants
    var result = Work(effects: [
      .init(
        path: \.steps, range: -2...2, constant: "steps", what: "half and twice the local steps",
        variants: Array(all[0..<2])),
      .init(
        path: \.learningRate, range: -2...2, constant: "learningRate",
        what: "half and twice the learning rate", variants: Array(all[2..<4])),
      .init(
        path: \.rank, range: -2...2, constant: "rank", what: "half the rank",
        variants: Array(all[4..<5])),
      .init(
        path: \.rounding, range: 0...1, constant: "rounding", what: "8 bits",
        variants: Array(all[5..<6])),
    ])
    for index in result.effects.indices {
      let effect = result.effects[index]
      for variant in effect.variants {
        result.effects[index].curves.append(
          .init(
            fidelity: baseline.fidelity,
            losses: try await losses(0, effect.what, work: variant), work: variant))
      }
      note(effect.what, result.effects[index].curves)
    }
    return result
  }

  /// The constants that say what each choice of a device's work does to the losses.
  ///
  /// - Returns: why what was found should not be trusted far.
  static func fit(
    _ measured: Work, _ baseline: LearningFit.Curve, _ learning: inout LearningModel
  ) -> [String] {
    var found = WorkEffects()
    var cautions: [String] = []
    for effect in measured.effects {
      let value = LearningFit.constant(
        effect.range, learning, effect.curves, baseline: baseline
      ) { model, value in
        model.work[keyPath: effect.path] = value
      }
      found[keyPath: effect.path] = value
      cautions += [LearningFit.caution("work.\(effect.constant)", value, in: effect.range)]
        .compactMap { $0 }
    }
    learning.work = found
    let shown = measured.effects.map {
      "\($0.constant) \(Format.number(found[keyPath: $0.path], digits: 3))"
    }
    Terminal.note("constants: \(shown.joined(separator: ", "))")
    return cautions
  }

  private func note(_ what: String, _ curves: [LearningFit.Curve]) {
    let losses = curves.map { Format.number($0.losses.last ?? 0, digits: 3) }
    Terminal.note("\(what): loss \(losses.joined(separator: ", ")) after \(rounds) rounds")
  }
}

/// The run's own work, but for one setting.
private func variant<Value>(_ path: WritableKeyPath<EdgeWork, Value>, _ value: Value) -> EdgeWork {
  var work = EdgeWork()
  work[keyPath: path] = value
  return work
}
