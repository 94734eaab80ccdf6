import PeatTensor

/// What the rounds of a run are bound by.
public struct RoundRules: Sendable, Codable, Equatable {
  /// How many rounds the run has.
  public var rounds: Int
  /// Clients that must be there before the first round begins.
  public var minimumClients: Int
  /// Clients that must be there to begin a later round, and updates that a round needs to count.
  public var minimumUpdates: Int
  /// How long a round's training may take; where progress counts, for those who make none any more.
  public var deadline: Duration
  /// Who makes no progress for so long is let go once the deadline has passed, the others go on: a slow link that moves is not dead. `nil`: the deadline
  /// is the same for all.
  public var stillness: Duration?
  /// How long a round's training may take at most, where progress counts.
  public var longest: Duration
  /// How long to wait for the clients that a round needs: to be there, and to be able to take part.
  public var gatheringDeadline: Duration
  /// How often a round is tried before the run is given up. An attempt that all leave whose update it waits for, before another client comes, does not
  /// count, for as long as clients are gathered.
  public var attempts: Int
  /// How long an attempt waits for other clients than those who failed in earlier ones, where too few of them are there; zero: not at all, as nobody else can come;
  /// `nil`: a tenth of the gathering, at most half a minute.
  public var retryPause: Duration?
  /// Whether, and for how much, updates count that began with the adapter of an earlier round; `nil`: they are dropped.
  public var staleness: Staleness?
  /// Aggregates whenever so many updates are there, without rounds that all wait for; `nil`: in rounds.
  public var buffer: BufferRules?
  /// What the run is for: it ends after the round whose evaluation reaches it; `nil`: after all rounds.
  public var target: Target?
  /// When it no longer gets better; `nil`: that is no reason to end.
  public var plateau: Plateau?
  /// What it may take.
  public var budget: Budget

  /// A metric of the evaluation that is to fall to a value.
  public struct Target: Sendable, Codable, Equatable {
    public var metric: String
    public var atMost: Double

    public init(_ metric: String, atMost: Double) {
      self.metric = metric
      self.atMost = atMost
    }
  }

  /// The run ends when a metric has not become better by a share of its best value for so many rounds.
  public struct Plateau: Sendable, Codable, Equatable {
    public var metric: String
    public var higherIsBetter: Bool
    /// x: what falls must reach `best · (1 − x)`, what rises `best · (1 + x)`.
    public var gain: Double
    /// k
    public var rounds: Int

    public init(_ metric: String, higherIsBetter: Bool = false, gain: Double = 0, rounds: Int) {
      self.metric = metric
      self.higherIsBetter = higherIsBetter
      self.gain = gain
      self.rounds = rounds
    }

    /// Whether a value is better than the best before it by what counts.
    func isBetter(_ value: Double, than best: Double) -> Bool {
      if !best.isFinite { return value.isFinite }
      return higherIsBetter
        ? value > best && value >= best * (1 + gain) : value < best && value <= best * (1 - gain)
    }
  }

  /// The run ends when it has taken so much.
  public struct Budget: Sendable, Codable, Equatable {
    /// A round that is under way when the time is over closes with what has arrived.
    public var time: Duration?
    /// Payload down and up of all clients, looked at after each round.
    public var bytes: Int?

    public init(time: Duration? = nil, bytes: Int? = nil) {
      self.time = time
      self.bytes = bytes
    }
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
    longest = deadline * 4
    budget = Budget()
  }

  /// How long a coordinator that was started again waits for the clients that were there before: longer than they wait between two tries to reach it.
  var returnPause: Duration { min(.seconds(60), gatheringDeadline) }

  /// `retryPause` where it is said.
  var usedRetryPause: Duration { retryPause ?? min(.seconds(30), gatheringDeadline / 10) }

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
    if let stillness {
      guard stillness > .zero, stillness <= deadline else {
        throw PeatError.usage(
          "stillness is \(stillness); it must be above 0 and at most the deadline, \(deadline).")
      }
      guard longest >= deadline else {
        throw PeatError.usage(
          "longest is \(longest); it must be at least the deadline, \(deadline).")
      }
    }
    try staleness?.validate()
    try buffer?.validate(rules: self)
    if let plateau {
      guard plateau.rounds >= 1, plateau.gain >= 0, plateau.gain < 1 else {
        throw PeatError.usage(
          "A plateau is of \(plateau.rounds) rounds and a gain of \(plateau.gain); it must be of 1 round or more and a gain from 0 to below 1."
        )
      }
    }
    if let time = budget.time, time <= .zero {
      throw PeatError.usage("The budget of time is \(time); it must be above 0.")
    }
    if let bytes = budget.bytes, bytes < 1 {
      throw PeatError.usage("The budget of bytes is \(bytes); it must be at least 1.")
    }
  }
}

/// For how much an update counts that began with the adapter of an earlier round.
///
///     discount = 1 / (1 + s)^a
///
/// `s` rounds ended between its task and its arrival, `a` the exponent; a = 0 discounts nothing, a = ½ is FedBuff's.
///
/// Source: Xie et al. 2019, *Asynchronous Federated Optimization*, the polynomial of section 5.2, <https://arxiv.org/abs/1903.03934>.
public struct Staleness: Sendable, Codable, Equatable {
  /// The largest s with which an update is taken.
  public var maximum: Int
  public var exponent: Double

  public init(maximum: Int, exponent: Double = 0.5) {
    self.maximum = maximum
    self.exponent = exponent
  }

  /// 1 of an update that is not stale.
  public func discount(_ staleness: Int) -> Double {
    power(1 + Double(staleness), -exponent)
  }

  func validate() throws {
    guard (1...1000).contains(maximum) else {
      throw PeatError.usage("The maximum staleness is \(maximum); it must be between 1 and 1000.")
    }
    guard exponent >= 0, exponent <= 10 else {
      throw PeatError.usage("The staleness exponent is \(exponent); it must be between 0 and 10.")
    }
  }
}

/// An asynchronous run: clients get work as they come free, and the buffer is aggregated when it is full.
///
/// Source: Nguyen et al. 2022, *Federated Learning with Buffered Asynchronous Aggregation* (FedBuff), <https://arxiv.org/abs/2106.06639>.
public struct BufferRules: Sendable, Codable, Equatable {
  /// K: updates that are aggregated together. Fewer, but `minimumUpdates`, where the deadline passes before.
  public var size: Int
  /// How many clients are at work at a time at most; `nil`: all that are there.
  public var concurrency: Int?
  /// The most that one client's updates take of the buffer, above 0 and up to 1, as long as the others that are there can fill it; `nil`: all. A quick client that has as
  /// many there waits for the aggregation.
  public var share: Double?

  public init(size: Int, concurrency: Int? = nil, share: Double? = nil) {
    self.size = size
    self.concurrency = concurrency
    self.share = share
  }

  /// How many updates of one client may be in the buffer where so many clients can fill it.
  func mostOfOne(among able: Int) -> Int {
    guard let share else { return .max }
    let count = max(able, 1)
    return max(Int((Double(size) * share).rounded(.up)), (size + count - 1) / count)
  }

  func validate(rules: RoundRules) throws {
    guard size >= rules.minimumUpdates else {
      throw PeatError.usage(
        "The buffer holds \(size) updates, fewer than the minimumUpdates of \(rules.minimumUpdates) that are needed."
      )
    }
    if let concurrency, concurrency < 1 {
      throw PeatError.usage("concurrency is \(concurrency); it must be at least 1.")
    }
    if let share, !(share > 0 && share <= 1) {
      throw PeatError.usage(
        "The share of a buffer that one client's updates may take is \(share); it must be above 0 and at most 1."
      )
    }
    guard rules.staleness != nil else {
      throw PeatError.usage("An asynchronous run needs to know how stale an update may be.")
    }
  }
}
