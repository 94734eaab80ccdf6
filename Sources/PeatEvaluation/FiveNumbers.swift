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

  /// One of the numbers, by its name.
  public subscript(name: FiveNumberName) -> Value? {
    get { self[keyPath: Self.place(name)] }
    set { self[keyPath: Self.place(name)] = newValue }
  }

  private static func place(_ name: FiveNumberName) -> WritableKeyPath<Self, Value?> {
    switch name {
    case .fullZeroShot: \.fullZeroShot
    case .emulatorZeroShot: \.emulatorZeroShot
    case .emulatorTuned: \.emulatorTuned
    case .plugIn: \.plugIn
    case .fullFineTuning: \.fullFineTuning
    case .fullModelAdapter: \.fullModelAdapter
    case .endBlocksThroughFullMiddle: \.endBlocksThroughFullMiddle
    }
  }

  private struct Key: CodingKey {
    static var metric: Key { Key("metric") }
    static var higherIsBetter: Key { Key("higherIsBetter") }
    static var notMeasured: Key { Key("notMeasured") }

    let stringValue: String
    var intValue: Int? { nil }

    init(_ name: String) { stringValue = name }
    init?(stringValue: String) { self.init(stringValue) }
    init?(intValue: Int) { nil }
  }

  public init(from decoder: any Decoder) throws {
    let container = try decoder.container(keyedBy: Key.self)
    self.init(
      metric: try container.decode(String.self, forKey: .metric),
      higherIsBetter: try container.decode(Bool.self, forKey: .higherIsBetter))
    for name in FiveNumberName.allCases {
      self[name] = try container.decodeIfPresent(Value.self, forKey: Key(name.rawValue))
    }
    notMeasured = try container.decodeIfPresent([String: String].self, forKey: .notMeasured) ?? [:]
  }

  /// The five are always there, null where not measured; the other two only where they were asked for.
  public func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: Key.self)
    try container.encode(metric, forKey: .metric)
    try container.encode(higherIsBetter, forKey: .higherIsBetter)
    for name in FiveNumberName.allCases where !name.isOnRequest || self[name] != nil {
      try container.encode(self[name], forKey: Key(name.rawValue))
    }
    if !notMeasured.isEmpty { try container.encode(notMeasured, forKey: .notMeasured) }
  }
}

/// The names of a result's numbers, as they stand in JSON.
public enum FiveNumberName: String, Sendable, CaseIterable {
  case fullZeroShot, emulatorZeroShot, emulatorTuned, plugIn, fullFineTuning
  case fullModelAdapter, endBlocksThroughFullMiddle

  /// As people say it.
  public var term: String {
    switch self {
    case .fullZeroShot: "full zero-shot"
    case .emulatorZeroShot: "emulator zero-shot"
    case .emulatorTuned: "emulator tuned"
    case .plugIn: "plug-in"
    case .fullFineTuning: "full fine-tuning"
    case .fullModelAdapter: "full-model adapter"
    case .endBlocksThroughFullMiddle: "end blocks through the full middle"
    }
  }

  /// Whether it is none of the five, and only measured where it is asked for.
  public var isOnRequest: Bool { self == .fullModelAdapter || self == .endBlocksThroughFullMiddle }
}

/// The five numbers of one run.
public typealias FiveNumbers = FiveNumberSet<Double>

/// The five numbers over several seeds.
public typealias FiveNumbersOverSeeds = FiveNumberSet<Spread>

extension FiveNumbers {
  /// The share of what there was to gain that plug-in gained, in log-perplexity (or in the metric itself where higher
  /// is better): (zero-shot − plug-in) / (zero-shot − full fine-tuning). `nil` where a number is missing, and where full fine-tuning gained nothing: there is nothing to
  /// have a share of.
  public var recoveredShare: Double? {
    guard let fullZeroShot, let plugIn, let fullFineTuning else { return nil }
    let scale: (Double) -> Double = higherIsBetter ? { -$0 } : { naturalLogarithm($0) }
    let gain = scale(fullZeroShot) - scale(fullFineTuning)
    return gain <= 0 ? nil : (scale(fullZeroShot) - scale(plugIn)) / gain
  }

  /// The owner's margin, ln(emulator tuned) − ln(plug-in): how much better the owner's model is than the device's own copy, in nats (or plug-in less emulator
  /// tuned where higher is better). `nil` where a number is missing.
  public var margin: Double? {
    guard let emulatorTuned, let plugIn else { return nil }
    return higherIsBetter
      ? plugIn - emulatorTuned : naturalLogarithm(emulatorTuned) - naturalLogarithm(plugIn)
  }
}

extension FiveNumbersOverSeeds {
  /// Summarises one result per seed; `nil` where there is none.
  public init?(_ results: [FiveNumbers]) {
    guard let first = results.first else { return nil }
    self.init(metric: first.metric, higherIsBetter: first.higherIsBetter)
    for name in FiveNumberName.allCases { self[name] = Spread(results.compactMap { $0[name] }) }
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
    (mean, deviation) = runs.meanAndDeviation
  }
}
