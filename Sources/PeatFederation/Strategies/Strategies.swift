import PeatTensor

/// What may be said of a strategy beside its name.
public struct StrategyOptions: Sendable, Equatable {
  /// `momentum`, `adam`, `yogi` or `adagrad`; `nil`: as the strategy's name says, mostly none.
  public var serverOptimizer: String?
  /// η; `nil`: 1, and 0.01 where the optimizer is adaptive.
  public var serverLearningRate: Double?
  /// β of momentum, β₁ of the adaptive ones; `nil`: 0.9, and 0 for Adagrad.
  public var serverMomentum: Double?
  /// β₂ and τ of the adaptive ones.
  public var serverBeta2: Double?
  public var serverTau: Double?
  /// μ of the clients' proximal term; `nil`: 0, and 0.01 by `fedprox`.
  public var proximal: Double?
  /// C, to which each update's difference from the adapter is cut; `nil`: not, and 1 by `norm-bound`.
  public var normBound: Double?
  /// The share of values that `trimmed-mean` leaves out at each end; `nil`: 0.1.
  public var trimmedShare: Double?
  /// How many clients may be wrong, f of Krum; `nil`: as many as the rule bears.
  public var faultyClients: Int?
  /// How many updates `multi-krum` takes the mean of; `nil`: all but the faulty ones.
  public var krumKeeps: Int?

  public init() {}
}

/// The strategies by name.
public enum Strategies {
  private static let means: [any MeanRule] = [
    FedAvg(), FreezeA(), FedEx(), ProductFactors(), ProductFactors(keepsRemainder: true),
  ]

  /// FedAvg with an optimizer of the server's, by the name of both together.
  private static let optimized = [
    "fedavgm": "momentum", "fedadam": "adam", "fedyogi": "yogi", "fedadagrad": "adagrad",
  ]

  public static let names =
    means.map(\.name) + [
      "fedprox", "fedavgm", "fedadam", "fedyogi", "fedadagrad", "scaffold", "norm-bound",
      "median", "trimmed-mean", "krum", "multi-krum",
    ]

  public static let serverOptimizers = ["momentum", "adam", "yogi", "adagrad"]

  /// All of them, as they are where nothing else is said.
  public static let all: [any AggregationStrategy] = names.compactMap { try? named($0) }

  /// The strategy of this name; an unknown one is an error that names the nearest.
  ///
  /// - Throws: `usage` where an option makes no sense, or does nothing by this strategy.
  public static func named(
    _ name: String, _ options: StrategyOptions = StrategyOptions()
  ) throws -> any AggregationStrategy {
    guard names.contains(name) else {
      throw PeatError.usage("Unknown strategy '\(name)'. \(suggestion(for: name, among: names))")
    }
    try options.check(for: name, ofMean: isMean(name), optimizer: optimized[name])
    let strategy = try server(name, options)
    guard let mu = options.proximal ?? (name == "fedprox" ? 0.01 : nil), mu > 0 else {
      return strategy
    }
    return FedProx(strategy, mu: mu, name: name)
  }

  private static func isMean(_ name: String) -> Bool {
    means.contains { $0.name == name } || optimized[name] != nil || name == "fedprox"
      || name == "norm-bound"
  }

  /// What the server does.
  private static func server(
    _ name: String, _ options: StrategyOptions
  ) throws -> any AggregationStrategy {
    switch name {
    case "scaffold": return try Scaffold(rate: options.serverLearningRate ?? 1)
    case "median": return CoordinateMedian()
    case "trimmed-mean": return TrimmedMean(share: options.trimmedShare ?? 0.1)
    case "krum": return Krum(faulty: options.faultyClients)
    case "multi-krum": return MultiKrum(faulty: options.faultyClients, keeps: options.krumKeeps)
    default: break
    }
    var rule = means.first { $0.name == name } ?? FedAvg()
    if let bound = options.normBound ?? (name == "norm-bound" ? 1 : nil) {
      rule = NormBound(rule, bound, name: name)
    }
    guard let word = options.serverOptimizer ?? optimized[name] else {
      guard let rate = options.serverLearningRate, rate != 1 else { return rule }
      return try ServerOptimized(rule, FedAvgM(momentum: 0), rate: rate, name: name)
    }
    let (optimizer, rate) = try options.optimizer(word)
    return try ServerOptimized(
      rule, optimizer, rate: rate, name: name,
      summary: optimized[name].map { "fedavg, and \($0) at the server" })
  }
}

extension StrategyOptions {
  /// The server's optimizer of this name, and its learning rate.
  fileprivate func optimizer(_ word: String) throws -> (any ServerOptimizer, rate: Double) {
    var settings = AdaptiveSettings(beta1: serverMomentum ?? (word == "adagrad" ? 0 : 0.9))
    if let serverBeta2 { settings.beta2 = serverBeta2 }
    if let serverTau { settings.tau = serverTau }
    let optimizer: any ServerOptimizer
    switch word {
    case "momentum": return (FedAvgM(momentum: serverMomentum ?? 0.9), serverLearningRate ?? 1)
    case "adam": optimizer = FedAdam(settings)
    case "yogi": optimizer = FedYogi(settings)
    case "adagrad": optimizer = FedAdagrad(settings)
    default:
      throw PeatError.usage(
        "Unknown serverOptimizer '\(word)'. \(suggestion(for: word, among: Strategies.serverOptimizers))"
      )
    }
    return (optimizer, serverLearningRate ?? 0.01)
  }

  /// - Parameters:
  ///   - isMean: whether the strategy is a mean that a server optimizer can stand on.
  ///   - optimizer: the one that its name says.
  fileprivate func check(for name: String, ofMean isMean: Bool, optimizer: String?) throws {
    if let optimizer, let serverOptimizer, serverOptimizer != optimizer {
      throw PeatError.usage(
        "The strategy '\(name)' is fedavg with the server optimizer '\(optimizer)'; serverOptimizer is '\(serverOptimizer)'. Leave one of both out."
      )
    }
    let optimizer = serverOptimizer ?? optimizer
    let isAdaptive = optimizer.map { $0 != "momentum" } ?? false
    let given: [(key: String, isGiven: Bool, isOfStrategy: Bool)] = [
      ("serverOptimizer", serverOptimizer != nil, isMean),
      ("serverLearningRate", serverLearningRate != nil, isMean || name == "scaffold"),
      ("serverMomentum", serverMomentum != nil, optimizer != nil),
      ("serverBeta2", serverBeta2 != nil, isAdaptive && optimizer != "adagrad"),
      ("serverTau", serverTau != nil, isAdaptive),
      ("normBound", normBound != nil, isMean),
      ("trimmedShare", trimmedShare != nil, name == "trimmed-mean"),
      ("faultyClients", faultyClients != nil, name == "krum" || name == "multi-krum"),
      ("krumKeeps", krumKeeps != nil, name == "multi-krum"),
    ]
    if let option = given.first(where: { $0.isGiven && !$0.isOfStrategy }) {
      throw PeatError.usage(
        "\(option.key) does nothing by the strategy '\(name)'\(isMean && option.key.hasPrefix("server") ? optimizer.map { " with '\($0)'" } ?? " without a serverOptimizer" : ""). Leave it out, or see docs/aggregation.md for what goes with what."
      )
    }
    func check(_ holds: Bool?, _ message: String) throws {
      if holds == false { throw PeatError.usage(message) }
    }
    try check(
      serverLearningRate.map { $0 > 0 && $0 <= 1000 },
      "serverLearningRate must be above 0, and at most 1000.")
    try check(
      serverMomentum.map { $0 >= 0 && $0 < 1 }, "serverMomentum must be at least 0 and below 1.")
    try check(serverBeta2.map { $0 >= 0 && $0 < 1 }, "serverBeta2 must be at least 0 and below 1.")
    try check(
      serverTau.map { $0 > 0 && $0 <= 1000 }, "serverTau must be above 0, and at most 1000.")
    try check(
      proximal.map { $0 >= 0 && $0 <= 1e6 }, "proximal must be at least 0, and at most 1e6.")
    try check(normBound.map { $0 > 0 && $0.isFinite }, "normBound must be above 0, and finite.")
    try check(
      trimmedShare.map { $0 >= 0 && $0 < 0.5 }, "trimmedShare must be at least 0 and below 0.5.")
    try check(
      faultyClients.map { $0 >= 0 && $0 <= 100_000 }, "faultyClients must be 0 to 100000.")
    try check(krumKeeps.map { $0 >= 1 && $0 <= 100_000 }, "krumKeeps must be 1 to 100000.")
  }
}
