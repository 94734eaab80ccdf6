/// A client's part in a round while it lasts, on the coordinator's own clock.
struct Trip: Sendable {
  /// The task that was handed out, and to which stay.
  let round: Int
  let attempt: Int
  let session: String
  private let watch: Stopwatch
  /// What had passed before.
  private let before: Traffic
  private var downloadSeconds = 0.0

  /// It begins when the task is handed out.
  init(_ task: TrainingTask, session: String, traffic: Traffic, clock: any Clock<Duration>) {
    round = task.round
    attempt = task.attempt
    self.session = session
    before = traffic
    watch = Stopwatch(clock)
  }

  /// Whether it is of this task and this stay: a client that joins again begins anew.
  func isOf(_ task: TrainingTask, session: String) -> Bool {
    round == task.round && attempt == task.attempt && self.session == session
  }

  mutating func countDownload(seconds: Double) { downloadSeconds += seconds }

  /// What it came to, now that the update is here.
  func observed(uploadSeconds: Double, traffic: Traffic) -> ObservedTrip {
    let own = traffic - before
    let seconds = watch.seconds
    return ObservedTrip(
      seconds: seconds, downloadSeconds: min(downloadSeconds, seconds),
      uploadSeconds: min(uploadSeconds, seconds), bytesDown: own.bytesDown, bytesUp: own.bytesUp)
  }
}
