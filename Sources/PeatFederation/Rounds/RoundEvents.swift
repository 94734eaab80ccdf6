import Foundation

/// One of the machine's waits. A timer that is out of date is ignored when it fires.
public struct RoundTimer: Sendable, Hashable, Codable {
  public enum Purpose: String, Sendable, Hashable, Codable {
    case gathering, training, replanning
    /// While it runs, others are waited for than those who failed in this round.
    case retrying
    /// While it runs, attempts in which nobody is left are not counted.
    case comingAndGoing
    /// Until the run's time is over.
    case budget
    /// While it runs, a coordinator that was started again waits for the clients that were there before.
    case returning
  }

  public var purpose: Purpose
  public var round: Int
  public var attempt: Int

  public init(_ purpose: Purpose, round: Int, attempt: Int) {
    self.purpose = purpose
    self.round = round
    self.attempt = attempt
  }
}

/// How a run ended.
public enum RunEnding: Sendable, Codable, Equatable {
  /// After all rounds.
  case completed
  /// Before the last round, as it was told to.
  case stopped(RunStop)
  /// It can't go on: the reason says why and what to do.
  case failed(reason: String)
  case cancelled(reason: String)
}

extension RunEnding {
  /// What clients are told: of a failure no more than its beginning, as the rest names others, what was wrong with their updates, and files of the
  /// coordinator.
  var forClients: RunEnding {
    guard case .failed(let reason) = self else { return self }
    let first = reason.prefix { $0 != ":" && $0 != ";" }.components(separatedBy: ". ")[0]
    return .failed(reason: "\(first). Whoever runs the coordinator sees why.")
  }
}

/// Why a run ended before its last round although nothing went wrong.
public struct RunStop: Sendable, Codable, Equatable {
  public enum Cause: String, Sendable, Codable {
    case target, plateau, time, bytes
  }

  public var cause: Cause
  /// With the numbers.
  public var reason: String

  public init(_ cause: Cause, _ reason: String) {
    self.cause = cause
    self.reason = reason
  }
}

/// What a run has taken so far.
public struct RunCost: Sendable, Codable, Equatable {
  /// Payload down and up of all clients.
  public var bytes: Int

  public init(bytes: Int = 0) { self.bytes = bytes }
}

/// An update that began with the adapter of an earlier round, or arrived for a buffer.
public struct BufferedUpdate: Sendable, Codable, Hashable {
  public var client: ClientID
  /// The round of its task.
  public var round: Int
  /// Which of the client's tasks in that round it is the answer to, from 1.
  public var number: Int
  /// Rounds that ended between its task and the one that it is aggregated in.
  public var staleness: Int

  public init(_ client: ClientID, round: Int, number: Int = 1, staleness: Int) {
    self.client = client
    self.round = round
    self.number = number
    self.staleness = staleness
  }

  /// Which one it is, wherever it is aggregated.
  public struct Key: Sendable, Codable, Hashable {
    public var client: ClientID
    public var round: Int
    public var number: Int

    public init(client: ClientID, round: Int, number: Int = 1) {
      self.client = client
      self.round = round
      self.number = number
    }
  }

  public var id: Key { Key(client: client, round: round, number: number) }
}

/// What happens to a run: the input of `RoundStateMachine`.
public enum RoundEvent: Sendable, Equatable, Codable {
  /// The coordinator is ready for clients.
  case started
  /// A client came, or came back; `restarted` where it no longer knows what it was doing.
  case clientJoined(ClientID, restarted: Bool)
  /// A client left, or its connection was lost for longer than the grace.
  case clientLost(ClientID, reason: String)
  /// A client whose task of an earlier round was not heard of again asks for work: it is done with it.
  case clientReady(ClientID)
  /// A client's bytes moved, up or down, or its training did.
  case progressed(ClientID, round: Int)
  case planMade(RoundPlan, round: Int, attempt: Int)
  case planFailed(reason: String)
  /// An update was checked and put aside.
  case updateReceived(ClientID, round: Int)
  case updateRefused(ClientID, round: Int, UpdateRefusal)
  case clientFailed(ClientID, round: Int, reason: String)
  case timerFired(RoundTimer)
  case aggregated(round: Int)
  case aggregationFailed(reason: String)
  case evaluated(round: Int, metrics: [String: Double], spent: RunCost = RunCost())
  case evaluationFailed(reason: String)
  case cancelled(reason: String)
}

/// What is to be done: the output of `RoundStateMachine`.
public enum RoundAction: Sendable, Equatable {
  case startTimer(RoundTimer, after: Duration)
  case cancelTimer(RoundTimer)
  case makePlan(round: Int, attempt: Int, clients: [ClientID])
  /// A round's training begins: the server's own part too, if it has one.
  case beginRound(round: Int, attempt: Int, plan: RoundPlan)
  /// A round goes on that was under way when the coordinator stopped: what was taken of it stays.
  case goOn(round: Int, attempt: Int, plan: RoundPlan)
  case sendTask(ClientID, round: Int, attempt: Int, RoundPlan.Assignment)
  /// The client is back and goes on with the task it was given in a round.
  case resumeTask(ClientID, round: Int)
  /// The client need not work on this round any more.
  case withdrawTask(ClientID, round: Int)
  /// Forget the updates put aside: the round is tried again.
  case discardUpdates(round: Int)
  /// Aggregate the updates of these clients, in this order, and those that began in earlier rounds or were buffered.
  case aggregate(round: Int, clients: [ClientID], buffered: [BufferedUpdate] = [])
  case evaluate(round: Int)
  case record(RoundRecord)
  /// An attempt that did not count, for the log.
  case recordFailedAttempt(RoundRecord, reason: String)
  /// For the log.
  case warn(round: Int, String)
  /// Too few may take part as it is planned; it is planned again until the gathering is over. For the log.
  case waitForParticipants(RoundRecord, reason: String)
  case finish(RunEnding)
}
