import Foundation

/// A comparison's records put together: one line per candidate, means over the seeds.
public struct ComparisonTable: Sendable, Codable, Equatable {
  /// Mean and standard deviation over the seeds.
  public struct Value: Sendable, Codable, Equatable {
    public var mean: Double
    public var deviation: Double

    init(_ values: [Double]) { (mean, deviation) = values.meanAndDeviation }
  }

  public struct Line: Sendable, Codable, Equatable {
    public var name: String
    public var runs: Int
    public var bytes: Int
    public var exposure: Double
    public var seconds: Double
    public var emulatorZeroShot: Value
    public var emulatorTuned: Value
    public var plugIn: Value
    public var margin: Value
    /// `nil`: no attack was tried.
    public var marginAfterAttack: Value?
    public var leastMarginAfterAttack: Double?
    /// On texts like the attacker's own; `nil`: it was not measured there.
    public var marginForAttacker: Value?
  }

  public var fullBytes: Int
  public var fullZeroShot: Value
  public var ceiling: Value
  public var fullFineTuning: Value
  public var lines: [Line]

  /// - Parameter candidates: in the order of the lines; those without a record are left out.
  public init(
    _ records: [EmulatorComparison.Record], candidates: [EmulatorComparison.Candidate],
    fullBytes: Int
  ) {
    let references = records.compactMap {
      if case .reference(let found) = $0 { found } else { nil }
    }
    let rows = records.compactMap { if case .row(let found) = $0 { found } else { nil } }
    self.fullBytes = fullBytes
    fullZeroShot = Value(references.map(\.fullZeroShot))
    ceiling = Value(references.map(\.ceiling))
    fullFineTuning = Value(references.map(\.fullFineTuning))
    lines = candidates.compactMap { candidate in
      let own = rows.filter { $0.candidate == candidate }
      guard let first = own.first else { return nil }
      func value(_ part: (MarginReport) -> Double) -> Value { Value(own.map { part($0.result) }) }
      let forAttacker = own.compactMap(\.result.forAttacker)
      let isAttacked = own.allSatisfy { !$0.result.attacked.isEmpty }
      return Line(
        name: candidate.name, runs: own.count, bytes: first.bytes,
        exposure: own.reduce(0) { $0 + $1.exposure } / Double(own.count),
        seconds: own.map(\.seconds).sorted()[own.count / 2],
        emulatorZeroShot: value(\.emulatorZeroShot), emulatorTuned: value(\.emulatorTuned),
        plugIn: value(\.plugIn), margin: value(\.margin),
        marginAfterAttack: isAttacked ? value(\.marginAfterAttack) : nil,
        leastMarginAfterAttack: isAttacked ? own.map(\.result.marginAfterAttack).min() : nil,
        marginForAttacker: forAttacker.count == own.count
          ? Value(forAttacker.map(\.marginAfterAttack)) : nil)
    }
  }
}
