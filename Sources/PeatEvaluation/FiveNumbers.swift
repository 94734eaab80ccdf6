import PeatTensor

/// What tuning through an emulator was worth: the five numbers that every result shows.
///
/// A number that was not measured is `nil`, with the reason in `notMeasured`.
public struct FiveNumbers: Sendable, Codable, Equatable {
  public var metric: String
  public var higherIsBetter: Bool
  /// The full model as it came.
  public var fullZeroShot: Double?
  /// The emulator as it came.
  public var emulatorZeroShot: Double?
  /// The emulator with the tuned adapter.
  public var emulatorTuned: Double?
  /// The full model with that adapter: the result.
  public var plugIn: Double?
  /// The full model, all of it tuned on the same data: what there is to gain.
  public var fullFineTuning: Double?
  /// The same method on the whole uncompressed model.
  public var fullModelAdapter: Double?
  /// The same adapter tuned through the uncompressed middle: the ceiling of plug-in.
  public var endBlocksThroughFullMiddle: Double?
  /// Why a number is missing, by its name.
  public var notMeasured: [String: String]

  public init(metric: String = "perplexity", higherIsBetter: Bool = false) {
    self.metric = metric
    self.higherIsBetter = higherIsBetter
    notMeasured = [:]
  }

  private enum CodingKeys: String, CodingKey {
    case metric, higherIsBetter, fullZeroShot, emulatorZeroShot, emulatorTuned, plugIn
    case fullFineTuning, fullModelAdapter, endBlocksThroughFullMiddle, notMeasured
  }

  public init(from decoder: any Decoder) throws {
    let container = try decoder.container(keyedBy: CodingKeys.self)
    metric = try container.decode(String.self, forKey: .metric)
    higherIsBetter = try container.decode(Bool.self, forKey: .higherIsBetter)
    fullZeroShot = try container.decodeIfPresent(Double.self, forKey: .fullZeroShot)
    emulatorZeroShot = try container.decodeIfPresent(Double.self, forKey: .emulatorZeroShot)
    emulatorTuned = try container.decodeIfPresent(Double.self, forKey: .emulatorTuned)
    plugIn = try container.decodeIfPresent(Double.self, forKey: .plugIn)
    fullFineTuning = try container.decodeIfPresent(Double.self, forKey: .fullFineTuning)
    fullModelAdapter = try container.decodeIfPresent(Double.self, forKey: .fullModelAdapter)
    endBlocksThroughFullMiddle = try container.decodeIfPresent(
      Double.self, forKey: .endBlocksThroughFullMiddle)
    notMeasured = try container.decodeIfPresent([String: String].self, forKey: .notMeasured) ?? [:]
  }

  /// The five are always there, null where not measured; the other two only where they were asked for.
  public func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode(metric, forKey: .metric)
    try container.encode(higherIsBetter, forKey: .higherIsBetter)
    try container.encode(fullZeroShot, forKey: .fullZeroShot)
    try container.encode(emulatorZeroShot, forKey: .emulatorZeroShot)
    try container.encode(emulatorTuned, forKey: .emulatorTuned)
    try container.encode(plugIn, forKey: .plugIn)
    try container.encode(fullFineTuning, forKey: .fullFineTuning)
    try container.encodeIfPresent(fullModelAdapter, forKey: .fullModelAdapter)
    try container.encodeIfPresent(
      endBlocksThroughFullMiddle, forKey: .endBlocksThroughFullMiddle)
    if !notMeasured.isEmpty { try container.encode(notMeasured, forKey: .notMeasured) }
  }

  /// The share of what there was to gain that plug-in gained, in log-perplexity (or in the metric itself where higher
  /// is better): (zero-shot − plug-in) / (zero-shot − full fine-tuning). `nil` where a number is missing.
  public var recoveredShare: Double? {
    guard let fullZeroShot, let plugIn, let fullFineTuning else { return nil }
    let scale: (Double) -> Double = higherIsBetter ? { -$0 } : { naturalLogarithm($0) }
    let gain = scale(fullZeroShot) - scale(fullFineTuning)
    return gain == 0 ? nil : (scale(fullZeroShot) - scale(plugIn)) / gain
  }
}

/// Mean and standard deviation of one number over several runs.
public struct Spread: Sendable, Codable, Equatable {
  public var mean: Double
  /// Sample standard deviation; 0 for a single run.
  public var deviation: Double
  public var runs: [Double]

  /// `nil` without runs.
  public init?(_ runs: [Double]) {
    guard !runs.isEmpty else { return nil }
    self.runs = runs
    let mean = runs.reduce(0, +) / Double(runs.count)
    self.mean = mean
    deviation =
      runs.count < 2
      ? 0
      : (runs.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(runs.count - 1)).squareRoot()
  }
}

/// The five numbers over several seeds.
public struct FiveNumbersOverSeeds: Sendable, Codable, Equatable {
  public var metric: String
  public var higherIsBetter: Bool
  public var fullZeroShot: Spread?
  public var emulatorZeroShot: Spread?
  public var emulatorTuned: Spread?
  public var plugIn: Spread?
  public var fullFineTuning: Spread?
  public var fullModelAdapter: Spread?
  public var endBlocksThroughFullMiddle: Spread?
  public var notMeasured: [String: String]

  /// Summarises one result per seed; there is at least one.
  public init?(_ results: [FiveNumbers]) {
    guard let first = results.first else { return nil }
    metric = first.metric
    higherIsBetter = first.higherIsBetter
    func spread(_ value: (FiveNumbers) -> Double?) -> Spread? { Spread(results.compactMap(value)) }
    fullZeroShot = spread(\.fullZeroShot)
    emulatorZeroShot = spread(\.emulatorZeroShot)
    emulatorTuned = spread(\.emulatorTuned)
    plugIn = spread(\.plugIn)
    fullFineTuning = spread(\.fullFineTuning)
    fullModelAdapter = spread(\.fullModelAdapter)
    endBlocksThroughFullMiddle = spread(\.endBlocksThroughFullMiddle)
    notMeasured = results.reduce(into: [:]) { $0.merge($1.notMeasured) { first, _ in first } }
  }

  private enum CodingKeys: String, CodingKey {
    case metric, higherIsBetter, fullZeroShot, emulatorZeroShot, emulatorTuned, plugIn
    case fullFineTuning, fullModelAdapter, endBlocksThroughFullMiddle, notMeasured
  }

  public init(from decoder: any Decoder) throws {
    let container = try decoder.container(keyedBy: CodingKeys.self)
    metric = try container.decode(String.self, forKey: .metric)
    higherIsBetter = try container.decode(Bool.self, forKey: .higherIsBetter)
    fullZeroShot = try container.decodeIfPresent(Spread.self, forKey: .fullZeroShot)
    emulatorZeroShot = try container.decodeIfPresent(Spread.self, forKey: .emulatorZeroShot)
    emulatorTuned = try container.decodeIfPresent(Spread.self, forKey: .emulatorTuned)
    plugIn = try container.decodeIfPresent(Spread.self, forKey: .plugIn)
    fullFineTuning = try container.decodeIfPresent(Spread.self, forKey: .fullFineTuning)
    fullModelAdapter = try container.decodeIfPresent(Spread.self, forKey: .fullModelAdapter)
    endBlocksThroughFullMiddle = try container.decodeIfPresent(
      Spread.self, forKey: .endBlocksThroughFullMiddle)
    notMeasured = try container.decodeIfPresent([String: String].self, forKey: .notMeasured) ?? [:]
  }

  /// As the five numbers of one run: the five are always there, null where no seed measured them.
  public func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode(metric, forKey: .metric)
    try container.encode(higherIsBetter, forKey: .higherIsBetter)
    try container.encode(fullZeroShot, forKey: .fullZeroShot)
    try container.encode(emulatorZeroShot, forKey: .emulatorZeroShot)
    try container.encode(emulatorTuned, forKey: .emulatorTuned)
    try container.encode(plugIn, forKey: .plugIn)
    try container.encode(fullFineTuning, forKey: .fullFineTuning)
    try container.encodeIfPresent(fullModelAdapter, forKey: .fullModelAdapter)
    try container.encodeIfPresent(
      endBlocksThroughFullMiddle, forKey: .endBlocksThroughFullMiddle)
    if !notMeasured.isEmpty { try container.encode(notMeasured, forKey: .notMeasured) }
  }
}
