/// Where a run stands, for those who watch it.
public struct CoordinatorStatus: Sendable, Equatable {
  public var run: RunID
  /// The round that is under way, from 1, and how many there are.
  public var round: Int
  public var rounds: Int
  public var attempt: Int
  /// Rounds that counted, attempts that did not, and how long the last round took in seconds.
  public var roundsEnded = 0
  public var attemptsFailed = 0
  public var lastRoundSeconds: Double?
  /// Of all rounds that counted, in seconds.
  public var roundSecondsTotal = 0.0
  /// Since this one began.
  public var roundSeconds = 0.0
  /// Clients that are there, that were ever there, and that have a task.
  public var clientsPresent = 0
  public var clientsKnown = 0
  public var clientsWorking = 0
  /// Updates of this round that were taken, and uploads that are under way.
  public var updatesOfRound = 0
  public var uploads = 0
  /// Since the coordinator was started.
  public var updatesAccepted = 0
  public var updatesRefused: [UpdateRefusal.Code: Int] = [:]
  /// All that clients fetched and sent.
  public var traffic = Traffic()
  /// What the last round's evaluation gave, by name.
  public var metrics: [String: Double] = [:]
  public var ending: RunEnding?

  init(run: RunID, round: Int, rounds: Int, attempt: Int) {
    self.run = run
    self.round = round
    self.rounds = rounds
    self.attempt = attempt
  }
}

extension Coordinator {
  /// Where the run stands now.
  public var status: CoordinatorStatus {
    var status = CoordinatorStatus(
      run: configuration.run, round: machine.round, rounds: configuration.rules.rounds,
      attempt: machine.attempt)
    status.roundsEnded = rounds.count
    status.attemptsFailed = failedAttempts.count
    status.lastRoundSeconds = rounds.last?.seconds
    status.roundSecondsTotal = rounds.reduce(0) { $0 + $1.seconds }
    status.roundSeconds = machine.ending == nil ? roundWatch.seconds : 0
    status.clientsPresent = machine.present.count
    status.clientsKnown = histories.count
    status.clientsWorking = tasks.count
    status.updatesOfRound = accepted.count
    status.uploads = uploads.count
    status.updatesAccepted = acceptedCount
    status.updatesRefused = refusedCounts
    status.traffic = totalTraffic
    status.metrics = rounds.last?.metrics ?? [:]
    status.ending = machine.ending
    return status
  }
}
