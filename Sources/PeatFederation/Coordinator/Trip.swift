/// A client's part in a round while it lasts, on the coordinator's own clock.
///
/// It is the same part however often the client joins again.
struct Trip: Sendable {
  let round: Int
  let attempt: Int
  private let watch: Stopwatch
  /// What had passed before.
  private let before: Traffic
  private var downloadSeconds = 0.0
  /// What it came to when it ended, for the time being, without an update.
  private(set) var missed: ObservedTrip?

  /// It begins when the task is there for the client: whoever is slow to fetch it lets the round wait, too.
  init(round: Int, attempt: Int, traffic: Traffic, clock: any Clock<Duration>) {
    self.round = round
    self.attempt = attempt
    before = traffic
    watch = Stopwatch(clock)
  }

  func isOf(round: Int, attempt: Int) -> Bool {
    self.round == round && self.attempt == attempt
  }

  mutating func countDownload(seconds: Double) { downloadSeconds += seconds }

  /// Its part ends. Where that was with an update, nobody asks for what was missed.
  mutating func end(uploadSeconds: Double, traffic: Traffic) {
    missed = observed(uploadSeconds: uploadSeconds, traffic: traffic)
  }

  /// The client is back.
  mutating func goOn() { missed = nil }

  /// What it came to until now.
  func observed(uploadSeconds: Double, traffic: Traffic) -> ObservedTrip {
    let own = traffic - before
    let seconds = watch.seconds
    return ObservedTrip(
      seconds: seconds, downloadSeconds: min(downloadSeconds, seconds),
      uploadSeconds: min(uploadSeconds, seconds), bytesDown: own.bytesDown, bytesUp: own.bytesUp)
  }
}
