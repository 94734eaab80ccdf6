import Foundation
import PeatEvaluation
import PeatTensor
import Testing

@Suite("Five numbers") struct FiveNumbersTests {
  private func object(_ value: some Encodable) throws -> [String: Any] {
    let data = try JSONEncoder().encode(value)
    return try #require(JSONSerialization.jsonObject(with: data) as? [String: Any])
  }

  private var sample: FiveNumbers {
    var numbers = FiveNumbers()
    numbers.fullZeroShot = 100
    numbers.emulatorZeroShot = 200
    numbers.plugIn = 50
    numbers.notMeasured = ["emulatorTuned": "why", "fullFineTuning": "because"]
    return numbers
  }

  static let five = [
    "fullZeroShot", "emulatorZeroShot", "emulatorTuned", "plugIn", "fullFineTuning",
  ]

  @Test func `what was not measured is null, with the reason`() throws {
    let json = try object(sample)
    #expect(
      Set(json.keys) == Set(Self.five + ["metric", "higherIsBetter", "notMeasured"]))
    #expect(json["metric"] as? String == "perplexity")
    #expect(json["higherIsBetter"] as? Bool == false)
    #expect(json["fullZeroShot"] as? Double == 100)
    #expect(json["emulatorTuned"] is NSNull)
    #expect(json["fullFineTuning"] is NSNull)
    #expect(
      json["notMeasured"] as? [String: String] == [
        "emulatorTuned": "why", "fullFineTuning": "because",
      ])
    #expect(
      try JSONDecoder().decode(FiveNumbers.self, from: JSONEncoder().encode(sample)) == sample)
  }

  @Test func `the other two are there where they were asked for`() throws {
    var numbers = sample
    numbers.fullModelAdapter = 30
    numbers.endBlocksThroughFullMiddle = 40
    let json = try object(numbers)
    #expect(json["fullModelAdapter"] as? Double == 30)
    #expect(json["endBlocksThroughFullMiddle"] as? Double == 40)
  }

  @Test func `the recovered share is one of log-perplexity`() {
    var numbers = sample
    #expect(numbers.recoveredShare == nil)
    // ln 100 − ln 50 over ln 100 − ln 25: half.
    numbers.fullFineTuning = 25
    #expect(abs((numbers.recoveredShare ?? 0) - 0.5) < 1e-12)
    // Where full fine-tuning gains nothing, or loses, there is no share.
    for worse in [100.0, 120] {
      numbers.fullFineTuning = worse
      #expect(numbers.recoveredShare == nil)
    }
    var accuracy = FiveNumbers(metric: "accuracy", higherIsBetter: true)
    accuracy.fullZeroShot = 0.5
    accuracy.plugIn = 0.7
    accuracy.fullFineTuning = 0.9
    #expect(abs((accuracy.recoveredShare ?? 0) - 0.5) < 1e-12)
  }

  @Test func `the margin is of the plug-in over the tuned emulator`() {
    var numbers = sample
    numbers.emulatorTuned = 50
    numbers.plugIn = 25
    #expect(abs((numbers.margin ?? 0) - 0.693147) < 1e-6)
    numbers.plugIn = nil
    #expect(numbers.margin == nil)
    var accuracy = FiveNumbers(metric: "accuracy", higherIsBetter: true)
    (accuracy.emulatorTuned, accuracy.plugIn) = (0.5, 0.75)
    #expect(accuracy.margin == 0.25)
  }

  @Test func `over seeds each is mean, deviation and runs`() throws {
    var other = sample
    other.fullZeroShot = 104
    other.plugIn = nil
    let seeds = try #require(FiveNumbersOverSeeds([sample, other]))
    let json = try object(seeds)
    #expect(
      Set(json.keys) == Set(Self.five + ["metric", "higherIsBetter", "notMeasured"]))
    let spread = try #require(json["fullZeroShot"] as? [String: Any])
    #expect(Set(spread.keys) == ["mean", "deviation", "runs"])
    #expect(spread["mean"] as? Double == 102)
    #expect(abs((spread["deviation"] as? Double ?? 0) - 8.0.squareRoot()) < 1e-12)
    #expect(spread["runs"] as? [Double] == [100, 104])
    #expect((json["plugIn"] as? [String: Any])?["runs"] as? [Double] == [50])
    #expect(json["emulatorTuned"] is NSNull)
    #expect(json["fullFineTuning"] is NSNull)
    #expect((json["notMeasured"] as? [String: String])?["emulatorTuned"] == "why")
    #expect(
      try JSONDecoder().decode(FiveNumbersOverSeeds.self, from: JSONEncoder().encode(seeds))
        == seeds)
    #expect(FiveNumbersOverSeeds([]) == nil)
  }

  @Test func `a single run has no deviation`() {
    #expect(Spread([3])?.deviation == 0)
    #expect(Spread([]) == nil)
  }
}
