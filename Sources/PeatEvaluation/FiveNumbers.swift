import PeatTensor

/// What tuning through an emulator was worth: the five numbers that every result shows.
///
/// `Value` is `Double` for one run and `Spread` over several. A number that was not measured is `nil`, with the reason
/// in `notMeasured`.
public struct FiveNumberSet<Value: Sendable & Codable & Equatable>: Sendable, Codable, Equatable {
  public var metric: String
  public var higherIsBetter: Bool
  /// The full model as it came.
  public var fullZeroShot: Value?
  /// The emulator as it came.
  public var emulatorZeroShot: Value?
  /// The emulator with the tuned adapter.
  public var emulatorTuned: Value?
  /// The full model with that adapter: the result.
  public var plugIn: Value?
  /// The full model, all of it tuned on the same data: what there is to gain.
  public var fullFineTuning: Value?
  /// The same method on the whole uncompressed model.
  public var fullModelAdapter: Value?
  /// The same adapter tuned through the uncompressed middle: the ceiling of plug-in.
  public var endBlocksThroughFullMiddle: Value?
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
    func number(_ key: CodingKeys) throws -> Value? {
      try container.decodeIfPresent(Value.self, forKey: key)
    }
    metric = try container.decode(String.self, forKey: .metric)
    higherIsBetter = try container.decode(Bool.self, forKey: .higherIsBetter)
    fullZeroShot = try number(.fullZeroShot)
    emulatorZeroShot = try number(.emulatorZeroShot)
    emulatorTuned = try number(.emulatorTuned)
    plugIn = try number(.plugIn)
    fullFineTuning = try number(.fullFineTuning)
    fullModelAdapter = try number(.fullModelAdapter)
    endBlocksThroughFullMiddle = try number(.endBlocksThroughFullMiddle)
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
}

/// The five numbers of one run.
public typealias FiveNumbers = FiveNumberSet<Double>

/// The five numbers over several seeds.
public typealias FiveNumbersOverSeeds = FiveNumberSet<Spread>

extension FiveNumbers {
  /// The share of what there was to gain that plug-in gained, in log-perplexity (or in the metric itself where higher
  /// is better): (zero-shot − plug-in) / (zero-shot − full fine-tuning). `nil` where a number is missing.
  public var recoveredShare: Double? {
    guard let fullZeroShot, let plugIn, let fullFineTuning else { return nil }
    let scale: (Double) -> Double = higherIsBetter ? { -$0 } : { naturalLogarithm($0) }
    let gain = scale(fullZeroShot) - scale(fullFineTuning)
    return gain == 0 ? nil : (scale(fullZeroShot) - scale(plugIn)) / gain
  }
}

extension FiveNumbersOverSeeds {
  /// Summarises one result per seed; `nil` where there is none.
  public init?(_ results: [FiveNumbers]) {
    guard let first = results.first else { return nil }
    self.init(metric: first.metric, higherIsBetter: first.higherIsBetter)
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
