/// A client's part in a round while it lasts, on the coordinator's own clock.
///
/// It is the same part however often the client joins again, and however often the round is tried until the client has delivered: it may
/// have gone on working on what it was first told.
struct Trip: Sendable {
  let round: Int
  private(set) var attempt: Int
  private var watch: Stopwatch
  /// What its parts in earlier attempts took, without the time between them.
  private var earlierSeconds = 0.0
  /// What had passed before: the part, and what of it belongs to this attempt.
  private let before: Traffic
  private var beforeAttempt: Traffic
  private var downloadSeconds = 0.0
  private var earlierDownloadSeconds = 0.0
  /// What it came to when it ended, for the time being, without an update: in all, and in this attempt alone.
  private(set) var missed: ObservedTrip?
  private(set) var missedInAttempt: ObservedTrip?
  private var hasDelivered = false

  /// It begins when the task is there for the client: whoever is slow to fetch it lets the round wait, too.
  init(round: Int, attempt: Int, traffic: Traffic, clock: any Clock<Duration>) {
    self.round = round
    self.attempt = attempt
    before = traffic
    beforeAttempt = traffic
    watch = Stopwatch(clock)
  }

  func isOf(round: Int, attempt: Int) -> Bool {
    self.round == round && self.attempt == attempt
  }

  mutating func countDownload(seconds: Double) { downloadSeconds += seconds }

  /// Its part ends. Where that was with an update, nobody asks for what was missed.
  mutating func end(uploadSeconds: Double, traffic: Traffic) {
    missed = observed(uploadSeconds: uploadSeconds, traffic: traffic)
    let own = traffic - beforeAttempt
    let seconds = watch.seconds
    missedInAttempt = ObservedTrip(
      seconds: seconds, downloadSeconds: min(downloadSeconds - earlierDownloadSeconds, seconds),
      uploadSeconds: min(uploadSeconds, seconds), bytesDown: own.bytesDown, bytesUp: own.bytesUp)
  }

  /// Its update is here.
  mutating func deliver() { hasDelivered = true }

  /// Whether what follows in a round is the same part.
  func goesOn(in round: Int) -> Bool { self.round == round && !hasDelivered }

  /// The client is back, or asked again.
  mutating func goOn(in attempt: Int, traffic: Traffic, clock: any Clock<Duration>) {
    if attempt != self.attempt {
      earlierSeconds = missed?.seconds ?? seconds
      earlierDownloadSeconds = downloadSeconds
      beforeAttempt = traffic
      watch = Stopwatch(clock)
      self.attempt = attempt
    }
    missed = nil
    missedInAttempt = nil
  }

  private var seconds: Double { earlierSeconds + watch.seconds }

  /// What it came to until now.
  func observed(uploadSeconds: Double, traffic: Traffic) -> ObservedTrip {
    let own = traffic - before
    let seconds = seconds
    return ObservedTrip(
      seconds: seconds, downloadSeconds: min(downloadSeconds, seconds),
      uploadSeconds: min(uploadSeconds, seconds), bytesDown: own.bytesDown, bytesUp: own.bytesUp)
  }
}
