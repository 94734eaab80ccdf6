import PeatTensor

/// How one client's part in a round ended.
public enum ClientResult: Sendable, Codable, Equatable {
  case delivered
  /// It reported that it could not do the work.
  case failed(reason: String)
  /// Its update was not taken.
  case refused(UpdateRefusal)
  /// Its connection was lost, or it left, and it was not back when the round closed.
  case lost(reason: String)
  /// It was still at work when the deadline passed, or had not moved for too long then; or its update would have come too late to be taken.
  case late
  /// It was still at work when enough others had delivered: more were asked than needed.
  case surplus
}

extension ClientResult {
  /// Whether the client itself, and not its link or the clock, is why it came to nothing.
  var isOwnFault: Bool {
    switch self {
    case .failed, .refused: true
    case .delivered, .lost, .late, .surplus: false
    }
  }
}

/// In JSON: `{kind, reason, code}`, with a reason where it did not deliver in time, and the code of a refusal.
extension ClientResult {
  private enum Kind: String, Codable { case delivered, failed, refused, lost, late, surplus }

  private enum CodingKeys: String, CodingKey { case kind, reason, code }

  public init(from decoder: any Decoder) throws {
    let container = try decoder.container(keyedBy: CodingKeys.self)
    func reason() throws -> String { try container.decode(String.self, forKey: .reason) }
    self =
      switch try container.decode(Kind.self, forKey: .kind) {
      case .delivered: .delivered
      case .failed: .failed(reason: try reason())
      case .refused:
        .refused(
          UpdateRefusal(
            try container.decode(UpdateRefusal.Code.self, forKey: .code), try reason()))
      case .lost: .lost(reason: try reason())
      case .late: .late
      case .surplus: .surplus
      }
  }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    let (kind, reason): (Kind, String?) =
      switch self {
      case .delivered: (.delivered, nil)
      case .failed(let reason): (.failed, reason)
      case .refused(let refusal): (.refused, refusal.message)
      case .lost(let reason): (.lost, reason)
      case .late: (.late, nil)
      case .surplus: (.surplus, nil)
      }
    try container.encode(kind, forKey: .kind)
    try container.encodeIfPresent(reason, forKey: .reason)
    if case .refused(let refusal) = self { try container.encode(refusal.code, forKey: .code) }
  }
}

/// One client's part in a round.
public struct ClientOutcome: Sendable, Equatable {
  public var client: ClientID
  public var emulatorLevel: Int
  public var result: ClientResult
  /// Rounds that ended between its task and this round: 0 of a task of this round.
  public var staleness = 0
  /// Which of its tasks in the task's round it is; above 1 in asynchronous runs alone.
  public var number = 1
  /// What its update said; `nil` where none was taken.
  public var exampleCount: Int?
  public var metrics: [String: Double]
  public var telemetry: Telemetry?
  /// The L2 norm of its update's difference from the adapter that its round began with; `nil` where none was taken.
  public var distance: Double?
  /// What the coordinator itself saw of its part, until that ended; `nil` where the client was given no task.
  public var observed: ObservedTrip?
  /// Its update's signature; `nil` where none was taken, or the connection knew nobody by certificate.
  public var signature: UpdateSignature?
  /// Payload to and from this client in this round, in bytes, as the coordinator counted it.
  public var bytesDown: Int
  public var bytesUp: Int

  public init(
    client: ClientID, emulatorLevel: Int, result: ClientResult, exampleCount: Int? = nil,
    metrics: [String: Double] = [:], telemetry: Telemetry? = nil, bytesDown: Int = 0,
    bytesUp: Int = 0
  ) {
    self.client = client
    self.emulatorLevel = emulatorLevel
    self.result = result
    self.exampleCount = exampleCount
    self.metrics = metrics
    self.telemetry = telemetry
    self.bytesDown = bytesDown
    self.bytesUp = bytesUp
  }
}

/// What happened in one round.
public struct RoundRecord: Sendable, Equatable {
  /// From 1.
  public var round: Int
  /// From 1; above 1 where the round had to be repeated.
  public var attempt: Int
  public var plan: RoundPlan
  /// One per participant, in the order of their names; none where nobody was asked.
  public var outcomes: [ClientOutcome]
  /// What the evaluation after the round gave.
  public var metrics: [String: Double]
  /// Emulator levels that were made anew after the round, from the next one on.
  public var renewedLevels: [Int] = []
  /// The share of the server's own update in the new adapter; 0 where it took no part or failed.
  public var serverWeight: Double
  /// How far the new adapter's low-rank products are from the exact mean of the updates: ‖new − exact‖ / ‖exact‖.
  public var aggregationError = 0.0
  /// What the strategy says of the round beside that, by name: the share that a product's momentum was cut by, how many updates were bounded or taken.
  public var aggregation: [String: Double] = [:]
  /// The digest of the adapter that the round's tasks began with, as clients read it, and of the one that it gave.
  public var baseDigest: Digest?
  public var adapterDigest: Digest?
  /// Why the server's own part came to nothing; `nil` where it did not.
  public var serverFailure: String?
  public var seconds: Double

  public init(
    round: Int, attempt: Int, plan: RoundPlan, outcomes: [ClientOutcome],
    metrics: [String: Double] = [:], serverWeight: Double = 0, seconds: Double = 0
  ) {
    self.round = round
    self.attempt = attempt
    self.plan = plan
    self.outcomes = outcomes
    self.metrics = metrics
    self.serverWeight = serverWeight
    self.seconds = seconds
  }

  public var delivered: [ClientID] {
    outcomes.filter { $0.result == .delivered }.map(\.client)
  }

  /// What became of its first eight clients, a sentence each.
  var failures: String {
    outcomes.prefix(8).map {
      "\($0.client) \($0.result)" + ("\($0.result)".hasSuffix(".") ? "" : ".")
    }
    .joined(separator: " ")
  }
}

/// As the end of a sentence that begins with the client.
extension ClientResult: CustomStringConvertible {
  public var description: String {
    switch self {
    case .delivered: "delivered"
    case .failed(let reason): "failed: \(reason)"
    case .refused(let refusal): "was refused: \(refusal.message)"
    case .lost(let reason): "was lost: \(reason)"
    case .late: "was late"
    case .surplus: "was not waited for"
    }
  }
}

/// In JSON every key is there: null where it says nothing.
extension ClientOutcome: Codable {
  private enum CodingKeys: String, CodingKey {
    case client, emulatorLevel, result, staleness, number, exampleCount, metrics, telemetry
    case distance, observed, bytesDown, bytesUp, signature
  }

  public init(from decoder: any Decoder) throws {
    let table = try decoder.container(keyedBy: CodingKeys.self)
    self.init(
      client: try table.decode(ClientID.self, forKey: .client),
      emulatorLevel: try table.decode(Int.self, forKey: .emulatorLevel),
      result: try table.decode(ClientResult.self, forKey: .result),
      exampleCount: try table.decodeIfPresent(Int.self, forKey: .exampleCount),
      metrics: try table.decode([String: Double].self, forKey: .metrics),
      telemetry: try table.decodeIfPresent(Telemetry.self, forKey: .telemetry),
      bytesDown: try table.decode(Int.self, forKey: .bytesDown),
      bytesUp: try table.decode(Int.self, forKey: .bytesUp))
    // Results of earlier programs say nothing of these.
    staleness = try table.decodeIfPresent(Int.self, forKey: .staleness) ?? 0
    number = try table.decodeIfPresent(Int.self, forKey: .number) ?? 1
    distance = try table.decodeIfPresent(Double.self, forKey: .distance)
    observed = try table.decodeIfPresent(ObservedTrip.self, forKey: .observed)
    signature = try table.decodeIfPresent(UpdateSignature.self, forKey: .signature)
  }

  public func encode(to encoder: any Encoder) throws {
    var table = encoder.container(keyedBy: CodingKeys.self)
    try table.encode(client, forKey: .client)
    try table.encode(emulatorLevel, forKey: .emulatorLevel)
    try table.encode(result, forKey: .result)
    try table.encode(staleness, forKey: .staleness)
    try table.encode(number, forKey: .number)
    try table.encode(exampleCount, forKey: .exampleCount)
    try table.encode(metrics, forKey: .metrics)
    try table.encode(telemetry, forKey: .telemetry)
    try table.encode(distance, forKey: .distance)
    try table.encode(observed, forKey: .observed)
    try table.encode(bytesDown, forKey: .bytesDown)
    try table.encode(bytesUp, forKey: .bytesUp)
    try table.encode(signature, forKey: .signature)
  }
}

extension RoundRecord: Codable {
  private enum CodingKeys: String, CodingKey {
    case round, attempt, plan, outcomes, metrics, renewedLevels, aggregationError, aggregation
    case serverWeight, baseDigest, adapterDigest
    case serverFailure, seconds
  }

  public func encode(to encoder: any Encoder) throws {
    var table = encoder.container(keyedBy: CodingKeys.self)
    try table.encode(round, forKey: .round)
    try table.encode(attempt, forKey: .attempt)
    try table.encode(plan, forKey: .plan)
    try table.encode(outcomes, forKey: .outcomes)
    try table.encode(metrics, forKey: .metrics)
    try table.encode(renewedLevels, forKey: .renewedLevels)
    try table.encode(aggregationError, forKey: .aggregationError)
    try table.encode(aggregation, forKey: .aggregation)
    try table.encode(serverWeight, forKey: .serverWeight)
    try table.encode(baseDigest, forKey: .baseDigest)
    try table.encode(adapterDigest, forKey: .adapterDigest)
    try table.encode(serverFailure, forKey: .serverFailure)
    try table.encode(seconds, forKey: .seconds)
  }
}
