import Foundation

/// What one of a run's emulators came to, beside the others.
public struct LevelNumbers: Sendable, Codable, Equatable {
  public var level: Int
  public var recipe: String
  /// Whether a client was told to train on it.
  public var isUsed: Bool
  /// The metric of the emulator as it came, and with the run's adapter; null where it was not measured.
  public var emulatorZeroShot: Double?
  public var emulatorTuned: Double?
  /// The owner's margin beside a device that holds this one: ln(emulator tuned) − ln(plug-in).
  public var margin: Double?

  private enum CodingKeys: String, CodingKey {
    case level, recipe, isUsed, emulatorZeroShot, emulatorTuned, margin
  }

  /// Says every key, also those that are null.
  public func encode(to encoder: any Encoder) throws {
    var table = encoder.container(keyedBy: CodingKeys.self)
    try table.encode(level, forKey: .level)
    try table.encode(recipe, forKey: .recipe)
    try table.encode(isUsed, forKey: .isUsed)
    try table.encode(emulatorZeroShot, forKey: .emulatorZeroShot)
    try table.encode(emulatorTuned, forKey: .emulatorTuned)
    try table.encode(margin, forKey: .margin)
  }
}

/// Measures a run's emulators before and after. Where there are several, the five numbers are of the one that is worth most to a device that
/// held it: the owner's margin is the least.
struct LevelMeasurement: Sendable {
  private let owner: ModelOwner
  private(set) var levels: [LevelNumbers]

  /// - Parameter levels: those that clients may be sent, by number.
  init(_ owner: ModelOwner, _ emulators: [Emulator], levels: [Int]) {
    self.owner = owner
    self.levels = levels.map {
      LevelNumbers(level: $0, recipe: emulators[$0].recipe.description, isUsed: false)
    }
  }

  /// Each as it came; of the numbers it is the first one's.
  mutating func measureZeroShot(
    _ emulators: [Emulator], _ numbers: inout FiveNumbers
  ) async throws {
    for place in levels.indices.reversed() {
      let emulator = emulators[levels[place].level]
      try await owner.measure(.emulatorZeroShot, of: recipe(place), &numbers) {
        try $0.quality(of: emulator.model)
      }
      levels[place].emulatorZeroShot = numbers[.emulatorZeroShot]
    }
  }

  /// Takes what was measured before the coordinator was started again.
  mutating func take(zeroShot: [Int: Double]) {
    for place in levels.indices { levels[place].emulatorZeroShot = zeroShot[levels[place].level] }
  }

  /// Those that are noted as used, or the first where none is, with the run's adapter.
  mutating func measureTuned(
    _ emulators: [Emulator], with adapter: Adapter, _ numbers: inout FiveNumbers
  ) async throws {
    let measured = levels.indices.filter { levels[$0].isUsed }
    for place in measured.isEmpty ? Array(levels.indices.prefix(1)) : measured {
      let emulator = emulators[levels[place].level]
      try await owner.measure(.emulatorTuned, of: recipe(place), &numbers) {
        try $0.quality(of: emulator.model, with: adapter)
      }
      levels[place].emulatorTuned = numbers[.emulatorTuned]
    }
    guard let shown else { return }
    numbers[.emulatorZeroShot] = shown.emulatorZeroShot
    numbers[.emulatorTuned] = shown.emulatorTuned
  }

  /// Notes which levels clients were told to train on.
  mutating func note(usedIn report: RunReport) {
    let used = Set(report.rounds.flatMap(\.outcomes).map(\.emulatorLevel))
    for place in levels.indices { levels[place].isUsed = used.contains(levels[place].level) }
  }

  /// With the margin beside each.
  func numbers(plugIn: Double?) -> [LevelNumbers] {
    levels.map { own in
      var own = own
      if let tuned = own.emulatorTuned, let plugIn {
        own.margin =
          metric.higherIsBetter ? plugIn - tuned : log(tuned) - log(plugIn)
      }
      return own
    }
  }

  private var metric: Metric { owner.configuration.metric }

  /// The level that the five numbers are of: the one that is best with the adapter, else the first.
  var shown: LevelNumbers? {
    let tuned = levels.filter { $0.emulatorTuned != nil }
    let best = tuned.reduce(nil as LevelNumbers?) { best, own in
      guard let best, metric.isAsGood(best.emulatorTuned ?? .nan, as: own.emulatorTuned ?? .nan)
      else { return own }
      return best
    }
    return best ?? levels.first
  }

  /// Where there are several, which one a measurement is of.
  private func recipe(_ place: Int) -> String? {
    levels.count > 1 ? levels[place].recipe : nil
  }
}
