import PeatTensor

/// One number of each client, and what it says of all of them.
public struct ClientSummary: Sendable, Codable, Equatable {
  public var values: [String: Double]
  public var higherIsBetter: Bool
  /// Each client counting once.
  public var mean: Double
  /// Sample standard deviation over clients; 0 of one.
  public var deviation: Double
  /// Mean over the worst tenth of the clients, rounded up to whole clients.
  ///
  /// Source: Li, Sanjabi, Beirami, Smith 2020, <https://arxiv.org/abs/1905.10497>, whose tables give the worst 10 %.
  public var worstDecile: Double
  public var worst: Double
  public var worstClient: String

  /// - Throws: `badData` where there is no client, or a value is no finite number.
  public init(_ values: [String: Double], higherIsBetter: Bool) throws {
    if let wrong = values.sorted(by: { $0.key < $1.key }).first(where: { !$0.value.isFinite }) {
      throw PeatError.badData("The measure of client '\(wrong.key)' is \(wrong.value).")
    }
    // The worst first; of equals the first by name, so that the same data gives the same report.
    let sorted = values.sorted {
      higherIsBetter
        ? ($0.value, $0.key) < ($1.value, $1.key) : ($1.value, $0.key) < ($0.value, $1.key)
    }
    guard let worst = sorted.first else {
      throw PeatError.badData("There is no client to measure.")
    }
    self.values = values
    self.higherIsBetter = higherIsBetter
    (mean, deviation) = sorted.map(\.value).meanAndDeviation
    let tenth = (sorted.count + 9) / 10
    worstDecile = sorted.prefix(tenth).reduce(0) { $0 + $1.value } / Double(tenth)
    self.worst = worst.value
    worstClient = worst.key
  }
}

/// A model that each client has for itself beside the one that all share, on each client's own held-out data.
public struct PersonalizationReport: Sendable, Codable, Equatable {
  public var global: ClientSummary
  public var personalized: ClientSummary
  /// Mean over clients of what personalisation changed, above 0 where it is better.
  public var meanGain: Double
  /// Share of the clients for which it is better.
  public var shareImproved: Double

  /// - Throws: `badData` where the two are not of the same clients, and what `ClientSummary` throws.
  public init(
    global: [String: Double], personalized: [String: Double], higherIsBetter: Bool
  ) throws {
    if let name = Set(global.keys).symmetricDifference(personalized.keys).sorted().first {
      throw PeatError.badData("Client '\(name)' was measured with one of the two models only.")
    }
    self.global = try ClientSummary(global, higherIsBetter: higherIsBetter)
    self.personalized = try ClientSummary(personalized, higherIsBetter: higherIsBetter)
    let gains = global.keys.sorted().map { name in
      let change = (personalized[name] ?? 0) - (global[name] ?? 0)
      return higherIsBetter ? change : -change
    }
    meanGain = gains.reduce(0, +) / Double(gains.count)
    shareImproved = Double(gains.count { $0 > 0 }) / Double(gains.count)
  }
}
