import PeatTensor

/// Payload that went to and came from a client, in bytes: emulators, adapters and updates, without the transport's frames.
public struct Traffic: Sendable, Codable, Equatable {
  public var bytesDown: Int
  public var bytesUp: Int

  public init(bytesDown: Int = 0, bytesUp: Int = 0) {
    self.bytesDown = bytesDown
    self.bytesUp = bytesUp
  }

  static func += (left: inout Traffic, right: Traffic) {
    left.bytesDown += right.bytesDown
    left.bytesUp += right.bytesUp
  }

  static func - (left: Traffic, right: Traffic) -> Traffic {
    Traffic(
      bytesDown: left.bytesDown - right.bytesDown, bytesUp: left.bytesUp - right.bytesUp)
  }
}

/// What a run did.
public struct RunReport: Sendable {
  public var run: RunID
  /// The rounds that counted, in order.
  public var rounds: [RoundRecord]
  /// Attempts at rounds that had too few updates.
  public var failedAttempts: [RoundRecord]
  /// Per client, over the whole run.
  public var traffic: [ClientID: Traffic]
  /// Per client, the share of the middle's weights that it could put together from all it was sent.
  public var exposures: [ClientID: Double]
  /// The share that all clients could put together.
  public var exposureTogether: Double
  /// The share that the worst client could put together, the two worst, … until one more adds nothing.
  public var exposureOfColluders: [Double]
  /// The adapter after the last round that counted.
  public var adapter: NamedTensors
  /// What the strategy remembers then.
  public var strategyState: StrategyState
  public var seconds: Double
  /// `nil` while the run goes on.
  public var ending: RunEnding?

  public var bytesDown: Int { traffic.values.reduce(0) { $0 + $1.bytesDown } }
  public var bytesUp: Int { traffic.values.reduce(0) { $0 + $1.bytesUp } }
}

/// What a coordinator tells of while it works, for progress lines.
public enum CoordinatorProgress: Sendable {
  case clientJoined(ClientID)
  case clientLost(ClientID, reason: String)
  case roundBegan(round: Int, attempt: Int, plan: RoundPlan)
  /// A round that was under way when an earlier coordinator stopped.
  case roundGoesOn(round: Int, attempt: Int, plan: RoundPlan)
  case updateArrived(ClientID, round: Int, header: UpdateHeader)
  case updateRefused(ClientID, round: Int, UpdateRefusal)
  case clientFailed(ClientID, round: Int, reason: String)
  /// The coordinator's own part in a round came to nothing; the round goes on without it.
  case serverFailed(round: Int, reason: String)
  /// Something that the run's owner should know.
  case caution(String)
  case aggregating(round: Int, clients: [ClientID])
  /// An emulator was made anew, from a round on.
  case levelRenewed(Int, round: Int, bytes: Int)
  case roundEnded(RoundRecord)
  /// An attempt at a round does not count, and it is tried again; or it was the last one.
  case roundRepeated(RoundRecord, reason: String)
  case roundGivenUp(RoundRecord, reason: String)
  /// Too few may take part as a round is planned: it is planned again for a while.
  case roundWaits(RoundRecord, reason: String)
  /// Too few clients are there for a round to be planned: more are waited for, that long at most.
  case waitsForClients(round: Int, present: Int, needed: Int, atMost: Duration)
  /// Nobody is left at work in a round, which has too few updates: those who were lost may come back, until its deadline.
  case waitsForLost(round: Int, [ClientID], atMost: Duration)
  /// Too few are there but those who failed in this round: others are waited for, that long at most, before it is tried again.
  case waitsForOthers(round: Int, atMost: Duration)
  case runEnded(RunEnding)
}

/// An emulator that takes another's place in a run.
public struct RenewedLevel: Sendable {
  public var package: Package
  /// The blocks of the middle that it shows, from 0, each with the share of the middle's weights that it shows of it.
  public var contents: [Int: Double]

  public init(package: Package, contents: [Int: Double]) {
    self.package = package
    self.contents = contents
  }
}
