/// Where the constants of a learning model are searched for, and what it says of a fit that they were found there.
struct FitRanges: Sendable {
  /// η.
  let rate = 0.01...0.99
  /// How far the final loss lies below the lowest measured, in nats.
  let depth: ClosedRange<Double>
  /// c, in nats.
  let floor: ClosedRange<Double>
  /// p.
  let slowing = 0.0...6.0
  /// μ per round, beside 0.
  static let ageing = 1e-3...5
  private let lowest: Double
  private let start: Double

  /// Fewer rounds than this say little of four constants.
  private static let fewRounds = 8

  /// - Parameters:
  ///   - lowest: the lowest loss that was measured.
  ///   - start: the loss before the first round.
  init(lowest: Double, start: Double) {
    self.lowest = lowest
    self.start = start
    depth = 0...0.98 * lowest
    floor = 0...2 * (start - lowest)
  }

  /// Why a fit should not be trusted far: few points, a loss foreseen far below all that was measured, a constant at the end of its range.
  ///
  /// - Parameters:
  ///   - error: root of the mean square of measured minus modelled loss, in nats.
  ///   - rounds: that were measured on each emulator.
  func cautions(of model: LearningModel, error: Double, rounds: Int) -> [String] {
    var result: [String] = []
    if rounds < Self.fewRounds {
      result.append(
        "Only \(rounds) rounds were measured on each emulator, for four constants: measure at least \(Self.fewRounds), better 12 (--rounds 12)."
      )
    }
    let drop = start - lowest
    if error > 0.15 * drop {
      result.append(
        "The fitted model misses the measured losses by \(shown(error)) nats where they fell by \(shown(drop)): it foresees no better than that."
      )
    }
    let below = lowest - model.finalLoss
    if below > drop {
      result.append(
        "The final loss, \(shown(model.finalLoss)) nats, was not measured: it lies \(shown(below)) below the lowest that was, and the loss fell by only \(shown(drop)). What is foreseen beyond the measured rounds may be far off: measure more rounds or local steps."
      )
    }
    for (name, value, range) in [
      ("rate", model.rate, rate), ("slowing", model.slowing, slowing),
      ("floor", model.floor, floor),
    ] {
      if let caution = Self.caution(name, value, range) { result.append(caution) }
    }
    return result
  }

  /// That the measured losses do not tell where they end: a model that ends far below fits them as well; `nil` where none does.
  func caution(of model: LearningModel, beside free: LearningModel) -> String? {
    guard model.finalLoss - free.finalLoss > 0.25 * (start - lowest) else { return nil }
    return
      "The final loss, \(shown(model.finalLoss)) nats, was not measured: one as low as \(shown(free.finalLoss)), reached ever more slowly, fits the measured losses about as well. The higher is taken; measure more rounds to know."
  }

  /// Why how emulators age should not be trusted far.
  ///
  /// - Parameter misses: modelled minus measured fidelities.
  static func cautions(ageing: Double, misses: [Double]) -> [String] {
    let square = misses.reduce(0) { $0 + $1 * $1 } / Double(max(misses.count, 1))
    var result: [String] = []
    if square.squareRoot() > 0.1 {
      result.append(
        "The measured fidelities differ by \((100 * square.squareRoot()).rounded() / 100) from the model's, which fall by the same share in each round: how emulators age is known roughly."
      )
    }
    return result + [caution("ageing", ageing, 0...Self.ageing.upperBound)].compactMap { $0 }
  }

  /// That a constant lies at the end of where it was searched for, so that its true value may lie beyond; `nil` where it does not, or lies at
  /// 0, where its effect is not there.
  static func caution(
    _ name: String, _ value: Double, _ range: ClosedRange<Double>
  ) -> String? {
    let margin = 0.01 * (range.upperBound - range.lowerBound)
    let isAtTop = value > range.upperBound - margin
    let isAtBottom = value < range.lowerBound + margin && range.lowerBound != 0
    guard margin > 0, isAtTop || isAtBottom else { return nil }
    let end = isAtTop ? range.upperBound : range.lowerBound
    return
      "The constant '\(name)' lies at the end of its range, \(rounded(end)): the measured losses do not tell what it is. Measure more rounds, or emulators that differ more."
  }

  private func shown(_ nats: Double) -> Double { (nats * 1000).rounded() / 1000 }
}

extension LearningFit {
  /// That a constant which `constant(…)` found lies at the end of its range; `nil` where it does not.
  public static func caution(
    _ name: String, _ value: Double, in range: ClosedRange<Double>
  ) -> String? {
    FitRanges.caution(name, value, range)
  }
}
