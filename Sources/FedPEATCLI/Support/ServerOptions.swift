import ArgumentParser
import FedPEAT

/// Flags of what a strategy does at the server: the same as keys of a run file, and they win over it.
struct ServerOptions: ParsableArguments {
  @Option(
    help:
      "How the server goes toward the mean: \(Strategies.serverOptimizers.joined(separator: ", ")); as the strategy says if not given."
  )
  var serverOptimizer: String?

  @Option(
    help: "The server's learning rate; 1, and 0.01 of adam, yogi and adagrad if not given.")
  var serverLearningRate: Double?

  @Option(help: "Beta of momentum, beta 1 of the others; 0.9, and 0 of adagrad if not given.")
  var serverMomentum: Double?

  @Option(help: "Beta 2 of adam and yogi; 0.99 if not given.")
  var serverBeta2: Double?

  @Option(help: "Tau of adam, yogi and adagrad; 0.001 if not given.")
  var serverTau: Double?

  @Option(
    help: "Cut what an update changed to this norm; 1 by norm-bound, else not at all if not given.")
  var normBound: Double?

  @Option(help: "The share of values that trimmed-mean leaves out at each end; 0.1 if not given.")
  var trimmedShare: Double?

  @Option(
    help: "How many updates may be wrong by krum and multi-krum; as many as they bear if not given."
  )
  var faultyClients: Int?

  @Option(
    help: "Of how many updates multi-krum takes the mean; all but the faulty if not given.")
  var krumKeeps: Int?

  /// What was given, by key.
  var overrides: [(RunConfiguration.CodingKeys, JSONValue)] {
    let all: [(RunConfiguration.CodingKeys, JSONValue?)] = [
      (.serverOptimizer, serverOptimizer.map { .string($0) }),
      (.serverLearningRate, serverLearningRate.map { .number($0) }),
      (.serverMomentum, serverMomentum.map { .number($0) }),
      (.serverBeta2, serverBeta2.map { .number($0) }),
      (.serverTau, serverTau.map { .number($0) }),
      (.normBound, normBound.map { .number($0) }),
      (.trimmedShare, trimmedShare.map { .number($0) }),
      (.faultyClients, faultyClients.map { .integer($0) }),
      (.krumKeeps, krumKeeps.map { .integer($0) }),
    ]
    return all.compactMap { key, value in value.map { (key, $0) } }
  }

  /// Does what strategies do, and says in the words of these flags what does not go: where there is no run file, nobody has its keys.
  static func spelled<Result>(_ body: () throws -> Result) throws -> Result {
    do { return try body() } catch let error as PeatError {
      throw PeatError(error.code, spelled(error.message), cause: error.cause)
    }
  }

  static func spelled(_ text: String) -> String {
    FlagName.replacing(Set(keys.map(\.rawValue)), in: text)
  }

  private static let keys: [RunConfiguration.CodingKeys] = [
    .serverOptimizer, .serverLearningRate, .serverMomentum, .serverBeta2, .serverTau, .normBound,
    .trimmedShare, .faultyClients, .krumKeeps,
  ]

  /// As a strategy takes them.
  var options: StrategyOptions {
    var options = StrategyOptions()
    options.serverOptimizer = serverOptimizer
    options.serverLearningRate = serverLearningRate
    options.serverMomentum = serverMomentum
    options.serverBeta2 = serverBeta2
    options.serverTau = serverTau
    options.normBound = normBound
    options.trimmedShare = trimmedShare
    options.faultyClients = faultyClients
    options.krumKeeps = krumKeeps
    return options
  }
}
