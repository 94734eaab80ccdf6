import PeatTensor

/// What the rounds of a run are bound by.
public struct RoundRules: Sendable, Codable, Equatable {
  /// How many rounds the run has.
  public var rounds: Int
  /// Clients that must be there before the first round begins.
  public var minimumClients: Int
  /// Clients that must be there to begin a later round, and updates that a round needs to count.
  public var minimumUpdates: Int
  /// How long a round's training may take.
  public var deadline: Duration
  /// How long to wait for the clients that a round needs: to be there, and to be able to take part.
  public var gatheringDeadline: Duration
  /// How often a round is tried before the run is given up. An attempt that all leave whose update it waits for, before another client comes, does not
  /// count, for as long as clients are gathered.
  public var attempts: Int
  /// What the run is for: it ends after the round whose evaluation reaches it; `nil`: after all rounds.
  public var target: Target?

  /// A metric of the evaluation that is to fall to a value.
  public struct Target: Sendable, Codable, Equatable {
    public var metric: String
    public var atMost: Double

    public init(_ metric: String, atMost: Double) {
      self.metric = metric
      self.atMost = atMost
    }
  }

  /// Whether an evaluation reached the target.
  func isReached(by metrics: [String: Double]) -> Bool {
    guard let target, let value = metrics[target.metric] else { return false }
    return value <= target.atMost
  }

  public init(
    rounds: Int, minimumClients: Int = 1, minimumUpdates: Int = 1,
    deadline: Duration = .seconds(600), gatheringDeadline: Duration = .seconds(300),
    attempts: Int = 3, target: Target? = nil
  ) {
    self.rounds = rounds
    self.minimumClients = minimumClients
    self.minimumUpdates = minimumUpdates
    self.deadline = deadline
    self.gatheringDeadline = gatheringDeadline
    self.attempts = attempts
    self.target = target
  }

  /// How long a coordinator that was started again waits for the clients that were there before: longer than they wait between two tries to reach it.
  var returnPause: Duration { min(.seconds(60), gatheringDeadline) }

  /// How long after a plan in which too few take part the round is planned again.
  var planningPause: Duration { min(.seconds(5), gatheringDeadline / 2) }

  /// Throws where the numbers make no sense.
  public func validate() throws {
    for (name, value) in [
      ("rounds", rounds), ("minimumClients", minimumClients), ("minimumUpdates", minimumUpdates),
      ("attempts", attempts),
    ] where value < 1 {
      throw PeatError.usage("\(name) is \(value); it must be at least 1.")
    }
    for (name, value) in [("deadline", deadline), ("gatheringDeadline", gatheringDeadline)]
    where value <= .zero {
      throw PeatError.usage("\(name) is \(value); it must be above 0.")
    }
  }
}

/// One of the machine's waits. A timer that is out of date is ignored when it fires.
public struct RoundTimer: Sendable, Hashable, Codable {
  public enum Purpose: String, Sendable, Hashable, Codable {
    case gathering, training, replanning
    /// While it runs, attempts in which nobody is left are not counted.
    case comingAndGoing
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
  case completed
  /// It can't go on: the reason says why and what to do.
  case failed(reason: String)
  case cancelled(reason: String)
}

/// What happens to a run: the input of `RoundStateMachine`.
public enum RoundEvent: Sendable, Equatable, Codable {
  /// The coordinator is ready for clients.
  case started
  /// A client came, or came back; `restarted` where it no longer knows what it was doing.
  case clientJoined(ClientID, restarted: Bool)
  /// A client left, or its connection was lost for longer than the grace.
  case clientLost(ClientID, reason: String)
  case planMade(RoundPlan, round: Int, attempt: Int)
  case planFailed(reason: String)
  /// An update was checked and put aside.
  case updateReceived(ClientID, round: Int)
  case updateRefused(ClientID, round: Int, UpdateRefusal)
  case clientFailed(ClientID, round: Int, reason: String)
  case timerFired(RoundTimer)
  case aggregated(round: Int)
  case aggregationFailed(reason: String)
  case evaluated(round: Int, metrics: [String: Double])
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
  /// The client need not work on this round any more.
  case withdrawTask(ClientID, round: Int)
  /// Forget the updates put aside: the round is tried again.
  case discardUpdates(round: Int)
  /// Aggregate the updates of these clients, in this order.
  case aggregate(round: Int, clients: [ClientID])
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
