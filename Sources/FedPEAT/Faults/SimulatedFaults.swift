import Foundation

/// What goes wrong in a simulation: clients that drop out, and clients that are hostile. A test aid, to see what a strategy bears.
///
/// Who is hostile, and who drops out when, is chance of the run's seed: two runs of one seed with other strategies suffer the same.
public struct SimulatedFaults: Sendable, Equatable {
  /// What a hostile client sends. w is the adapter that it was sent, w′ what its honest training made of it.
  public enum Attack: Sendable, Equatable {
    /// w − s·(w′ − w): the way back.
    case signFlip(Float)
    /// w + s·(w′ − w): too far.
    case scaled(Float)
    /// No numbers.
    case nan
    /// What its first training made, of an adapter that is long gone.
    case stale

    public static let words = ["sign-flip", "scaled", "nan", "stale"]

    /// - Parameter word: one of `words`; `sign-flip` and `scaled` may say s behind a `=`, which is 1 and 10 where they do not.
    public init(word: String) throws {
      let parts = word.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      let name = String(parts[0])
      var scale: Float?
      if parts.count == 2 {
        guard let value = Float(parts[1]), value > 0, value <= 1e6 else {
          throw PeatError.usage(
            "attacks has '\(word)'; behind = stands a number above 0 and at most a million, as in scaled=10."
          )
        }
        scale = value
      }
      switch name {
      case "sign-flip": self = .signFlip(scale ?? 1)
      case "scaled": self = .scaled(scale ?? 10)
      case "nan" where scale == nil: self = .nan
      case "stale" where scale == nil: self = .stale
      default:
        guard Self.words.contains(name) else {
          throw PeatError.usage(
            "attacks has the unknown word '\(word)'. \(suggestion(for: name, among: Self.words))")
        }
        throw PeatError.usage("attacks has '\(word)'; '\(name)' takes no number.")
      }
    }
  }

  /// The chance that an honest client's part in a round comes to nothing.
  public var dropouts: Double
  /// The share of clients that are hostile: at least one of them where it is above 0.
  public var attackers: Double
  /// What these do, in turn: the k-th of them does the (k + round)-th in each round.
  public var attacks: [Attack]

  package init(dropouts: Double, attackers: Double, attacks: [Attack]) {
    (self.dropouts, self.attackers, self.attacks) = (dropouts, attackers, attacks)
  }

  public static let none = SimulatedFaults(dropouts: 0, attackers: 0, attacks: [])

  /// The places of hostile clients among so many.
  package func hostile(among count: Int, seed: UInt64) -> [Int] {
    guard attackers > 0, count > 0 else { return [] }
    let number = min(count, max(1, Int((attackers * Double(count)).rounded())))
    var random = SeededRandom(seed: seed, "hostile clients")
    var places = Array(0..<count)
    for place in 0..<number {
      places.swapAt(place, place + random.integer(below: count - place))
    }
    return places.prefix(number).sorted()
  }

  /// Drawn anew for each attempt at a round: else one that failed once could never succeed.
  package func dropsOut(
    _ client: ClientID, in round: Int, attempt: Int = 1, seed: UInt64
  ) -> Bool {
    guard dropouts > 0 else { return false }
    var random = SeededRandom(
      seed: seed,
      "dropout of \(client) in round \(round)" + (attempt > 1 ? ", attempt \(attempt)" : ""))
    return Double(random.uniform()) < dropouts
  }

  /// Puts trainers behind what goes wrong; `trainers` in the order of their clients.
  ///
  /// - Parameter folder: a client's own, by its place.
  func spoil(
    _ trainers: [any LocalTrainer], seed: UInt64, keepingIn folder: (Int) -> URL
  ) -> [any LocalTrainer] {
    guard self != .none else { return trainers }
    let hostile = hostile(among: trainers.count, seed: seed)
    return trainers.enumerated().map { place, trainer in
      FaultyTrainer(
        trainer, self, number: hostile.firstIndex(of: place), seed: seed,
        keepingIn: folder(place))
    }
  }
}

extension RunConfiguration {
  /// What goes wrong in a simulation.
  ///
  /// - Throws: `usage` where the keys make no sense together.
  public var faults: SimulatedFaults {
    get throws {
      for (name, value) in [("clientDropouts", clientDropouts), ("attackers", attackers)]
      where !(0..<1).contains(value) {
        throw PeatError.usage("\(name) is \(value); it must be at least 0 and below 1.")
      }
      let words = attacks ?? []
      guard (attackers > 0) == !words.isEmpty else {
        throw PeatError.usage(
          "attackers, the share of clients that are hostile, and attacks, what they send (\(SimulatedFaults.Attack.words.joined(separator: ", "))), belong together: give both, or neither."
        )
      }
      return SimulatedFaults(
        dropouts: clientDropouts, attackers: attackers,
        attacks: try words.map(SimulatedFaults.Attack.init))
    }
  }

  /// Throws where clients are real, so that none is to be spoilt.
  public func checkNoFaults() throws {
    guard try faults == .none else {
      throw PeatError.usage(
        "clientDropouts and attackers make clients of 'simulate' fail; here clients are others. Leave them out."
      )
    }
  }
}
