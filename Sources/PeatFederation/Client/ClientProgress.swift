import PeatTensor

/// What a client tells of while it works, for progress lines.
public enum ClientProgress: Sendable, Equatable {
  case joining(address: String)
  case joined(JoinReply)
  /// The coordinator can't be reached: the next try comes after the wait, as number `attempt` of `attempts`.
  case unreachable(reason: String, retryIn: Duration, attempt: Int, attempts: Int)
  case waiting
  /// A round goes on without this client; it is asked again for the next one, unless it was the last.
  case leftOut(LeftOut, isLast: Bool)
  case downloading(file: String, received: Int, of: Int)
  case preparing(level: Int)
  case training(TrainingTask)
  case uploading(round: Int, sent: Int, of: Int)
  case delivered(round: Int, metrics: [String: Double])
  case refused(round: Int, UpdateRefusal)
  case failed(round: Int, reason: String)
  /// Something that its user should know.
  case caution(String)
  case finished(RunEnding)
}

/// What a client did in a run.
public struct ClientReport: Sendable, Codable, Equatable {
  public var run: RunID?
  /// Tasks worked on, updates that were taken, refused, and tasks that could not be done.
  public var rounds = 0
  /// Times that a round went on without it while it was there.
  public var leftOut = 0
  public var updates = 0
  public var refusals = 0
  public var failures = 0
  /// Payload received and sent, in bytes.
  public var bytesDown = 0
  public var bytesUp = 0
  public var ending: RunEnding?

  public init() {}
}
