import Foundation
import PeatTensor

/// What a client sends back after a round: the tuned adapter's values and what the coordinator must know of them.
///
/// The tensors are parameter *values*, not differences, under the names of the full model.
public struct ClientUpdate: Sendable, Equatable {
  public var header: UpdateHeader
  public var tensors: NamedTensors
  /// What its weight is multiplied with, as it came late; 1 of one that did not. Rules that weight nothing take none below.
  public var discount = 1.0

  public init(header: UpdateHeader, tensors: NamedTensors) {
    self.header = header
    self.tensors = tensors
  }

  /// An update of no particular run, for aggregating adapters by hand.
  public init(_ tensors: NamedTensors, exampleCount: Int) {
    self.init(header: UpdateHeader(exampleCount: exampleCount), tensors: tensors)
  }

  public var exampleCount: Int { header.exampleCount }
  public var client: ClientID { header.client }
}

/// The part of an update beside its tensors: the document `update.json`.
public struct UpdateHeader: Sendable, Codable, Equatable {
  /// The version of the format that this program writes and reads.
  public static let currentFormat = 1

  public var formatVersion: Int
  public var run: RunID
  /// The round the update belongs to, from 1; 0 for an update made outside of a run.
  public var round: Int
  public var client: ClientID
  /// How many examples the client's data holds: the update's weight in FedAvg.
  public var exampleCount: Int
  /// The digest of the adapter that the training began with; absent for an update made outside of a run.
  public var baseDigest: Digest?
  /// The tuning method's name, and where it has them its rank and alpha.
  public var method: String
  public var rank: Int?
  public var alpha: Double?
  /// Of low-rank pairs, how each layer's scale differs from α / r: divided by √r; other α and r of single layers. Absent in updates of older
  /// programs and of a run, whose task says it.
  public var rankStabilized: Bool?
  public var alphaPattern: [String: Double]?
  public var rankPattern: [String: Int]?
  /// The function in bottleneck adapters.
  public var activation: String?
  /// The classes that the model tells apart with the head among the tensors.
  public var classes: [String]?
  /// How many of the adapter's rank components the tensors hold, the first ones, and in how many bits their differences from the broadcast
  /// adapter are written; absent where all are there, as float32 values. See `UpdateEncoding`.
  public var trainedRank: Int?
  public var uploadBits: Int?
  /// In words where bits are not enough: `top-k=0.1,int8`.
  public var upload: String?
  /// What the trainer measured, by name: `loss`, for example.
  public var metrics: [String: Double]
  public var telemetry: Telemetry

  /// The client's name in an update of no run.
  public static let byHand: ClientID = "local"

  public init(
    run: RunID = "local", round: Int = 0, client: ClientID = byHand, exampleCount: Int,
    baseDigest: Digest? = nil, method: String = "lora", rank: Int? = nil, alpha: Double? = nil,
    metrics: [String: Double] = [:], telemetry: Telemetry = Telemetry()
  ) {
    formatVersion = Self.currentFormat
    self.run = run
    self.round = round
    self.client = client
    self.exampleCount = exampleCount
    self.baseDigest = baseDigest
    self.method = method
    self.rank = rank
    self.alpha = alpha
    self.metrics = metrics
    self.telemetry = telemetry
  }
}

extension UpdateHeader {
  /// What multiplies the products of its low-rank pairs; `nil` where it has none.
  package var scales: LowRankScales? {
    get {
      guard let rank, let alpha else { return nil }
      return LowRankScales(
        rank: rank, alpha: alpha, isRankStabilized: rankStabilized ?? false,
        alphaPattern: alphaPattern ?? [:], rankPattern: rankPattern ?? [:])
    }
    set {
      (rank, alpha) = (newValue?.rank, newValue?.alpha)
      rankStabilized = newValue?.isRankStabilized
      alphaPattern = newValue?.alphaPattern
      rankPattern = newValue?.rankPattern
    }
  }
}
