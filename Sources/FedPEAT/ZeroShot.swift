import Foundation

/// What was measured before a run's first round: a run that goes on need not measure it again.
struct ZeroShot: Codable {
  private var full: Double?
  private var levels: [Int: Double]
  private var emulator: Double?
  private var notMeasured: [String: String]

  init(_ levels: LevelMeasurement, _ numbers: FiveNumbers) {
    full = numbers[.fullZeroShot]
    emulator = numbers[.emulatorZeroShot]
    notMeasured = numbers.notMeasured
    self.levels = Dictionary(
      uniqueKeysWithValues: levels.levels.compactMap { own in
        own.emulatorZeroShot.map { (own.level, $0) }
      })
  }

  func give(to levels: inout LevelMeasurement, _ numbers: inout FiveNumbers) {
    levels.take(zeroShot: self.levels)
    numbers[.fullZeroShot] = full
    numbers[.emulatorZeroShot] = emulator
    numbers.notMeasured.merge(notMeasured) { $1 }
  }
}
