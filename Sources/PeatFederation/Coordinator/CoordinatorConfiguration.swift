import Foundation
import PeatTensor

/// What a coordinator is told about a run.
public struct CoordinatorConfiguration: Sendable {
  public var run: RunID
  /// All chance in the run comes from here.
  public var seed: UInt64
  public var rules: RoundRules
  /// The tuning method and, where it has them, its rank and alpha; every update must state the same.
  public var method: String
  public var rank: Int?
  public var alpha: Double?
  /// What the adapter multiplies each low-rank layer's product with, by the layer's name; 1 where none is named.
  public var scales: [String: Double] = [:]
  /// Which components of low-rank pairs a device trains that trains only some of them.
  public var components = ComponentChoice.first
  /// The training instructions, a JSON document that the clients' trainers understand.
  public var settings: Data
  /// The most bytes an update's tensors may take; `nil`: what the adapter takes, and room for other writers' headers.
  public var updateSizeLimit: Int?
  /// More windows than a device tunes on: a million of 256 tokens are a gigabyte of text.
  public static let usualExampleLimit = 1_000_000
  /// The most examples that a client may say it has; its update's weight.
  public var exampleLimit = usualExampleLimit
  /// The largest L2 norm of an update's difference from the round's adapter; `nil`: it is not bounded.
  public var updateNormLimit: Double?
  /// What all learning rates are multiplied with in a round, from 1, beside what the plan says; above 0.
  public var learningRateFactor: @Sendable (_ round: Int) -> Double = { _ in 1 }
  /// What the server optimizer's learning rate is multiplied with in a round, from 1; above 0.
  public var serverRateFactor: @Sendable (_ round: Int) -> Double = { _ in 1 }
  /// How updates are written where the plan does not say it.
  public var upload = UpdateEncoding.plain
  /// How the adapter is written that is sent to clients: without `top-k`.
  public var download = UpdateEncoding.plain
  /// What each level shows of the middle, and how much of it a client may see; `nil`: nothing is counted.
  public var exposure: ExposureLedger?
  /// What a process takes that trains through each level, in bytes, by estimate; empty: that is not known.
  public var levelMemory: [Int] = []
  /// Of how many rounds, the last ones, the adapters are kept where the run is kept; and which rounds' stay beside those.
  public var keptAdapters = 100
  public var keptRounds: @Sendable ([RoundRecord]) -> Set<Int> = { _ in [] }
  /// The most clients that are remembered; further ones are turned away.
  public var clientLimit: Int
  /// How long a client that asks for work is kept waiting before it is told to ask again.
  public var pollTimeout: Duration
  /// How often a client says that it is there: its call of `attend` ends after so long and is made again.
  public var heartbeat: Duration
  /// How long a client whose connection broke, or who does not say that it is there, may take to come back before it counts as lost.
  public var grace: Duration
  /// How long the coordinator stays after the end, so that clients hear of it.
  public var farewell: Duration

  public init(
    run: RunID, seed: UInt64, rules: RoundRules, method: String = "lora", rank: Int? = nil,
    alpha: Double? = nil, settings: Data = Data("{}".utf8), updateSizeLimit: Int? = nil,
    exposure: ExposureLedger? = nil, clientLimit: Int = 10_000,
    pollTimeout: Duration = .seconds(20), heartbeat: Duration = .seconds(10),
    grace: Duration = .seconds(5),
    farewell: Duration = .seconds(5)
  ) {
    self.run = run
    self.seed = seed
    self.rules = rules
    self.method = method
    self.rank = rank
    self.alpha = alpha
    self.settings = settings
    self.updateSizeLimit = updateSizeLimit
    self.exposure = exposure
    self.clientLimit = clientLimit
    self.pollTimeout = pollTimeout
    self.heartbeat = heartbeat
    self.grace = grace
    self.farewell = farewell
  }
}
