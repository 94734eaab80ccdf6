import FedPEAT

/// How fast learning goes, and how long it will still take; says so as it goes.
struct ControllerPace {
  /// Of PPO, also before a break.
  private(set) var steps: Int
  private(set) var spent: ControllerCheckpoint.Spent
  private var last = (time: ContinuousClock.now, processor: ProcessMeasurement.processorSeconds)
  /// What imitating took in this sitting: seconds of playing and of learning, and the rounds of each.
  private var playing = (seconds: 0.0, rounds: 0)
  private var learning = (seconds: 0.0, rounds: 0)
  private var cloned: CloningProgress?
  /// The iteration of imitating that is under way, and how many there are; `nil` before and afterwards.
  private(set) var imitating: (iteration: Int, of: Int)?

  /// - Parameter checkpoint: of what was learned before.
  init(from checkpoint: ControllerCheckpoint? = nil) {
    steps = checkpoint?.steps ?? 0
    spent = checkpoint?.spent ?? .init()
  }

  var perSecond: Double { spent.seconds > 0 ? Double(steps) / spent.seconds : 0 }
  var perProcessorSecond: Double {
    spent.processorSeconds > 0 ? Double(steps) / spent.processorSeconds : 0
  }

  mutating func tell<Environment>(_ event: ControllerTraining<Environment>.Event) {
    let now = (time: ContinuousClock.now, processor: ProcessMeasurement.processorSeconds)
    let seconds = (now.time - last.time) / .seconds(1)
    func shown(_ value: Double?) -> String { value.map { Format.number($0) } ?? "-" }
    switch event {
    case .imitating(let progress): tell(progress, after: seconds)
    case .cloned(let report, let count):
      imitating = report.iteration < count ? (report.iteration + 1, count) : nil
      Terminal.note(
        "imitating    \(report.iteration) of \(count): loss \(Format.number(report.loss)), return \(shown(report.meanReturn))"
      )
    case .learned(let report, let count):
      imitating = nil
      steps = report.steps
      spent.seconds += seconds
      spent.processorSeconds += now.processor - last.processor
      let left = Double(report.steps) / Double(report.iteration) * Double(count - report.iteration)
      let line =
        "learning: \(Format.count(steps)) rounds  return \(shown(report.meanReturn))  "
        + Self.rate(perSecond, left: left / max(perSecond, 1e-9))
      Terminal.status(line)
    }
    last = now
  }

  private mutating func tell(_ progress: CloningProgress, after seconds: Double) {
    imitating = (progress.iteration, progress.iterations)
    let played = progress.played - (cloned?.played ?? progress.played)
    let learned = progress.learned - (cloned?.learned ?? progress.learned)
    if played > 0 { playing = (playing.seconds + seconds, playing.rounds + played) }
    if learned > 0 { learning = (learning.seconds + seconds, learning.rounds + learned) }
    cloned = progress
    func perSecond(_ part: (seconds: Double, rounds: Int)) -> Double? {
      part.seconds > 0 ? Double(part.rounds) / part.seconds : nil
    }
    let isAsking = learned == 0
    let asking = perSecond(playing).map { Double(progress.toPlay - progress.played) / $0 }
    let lessons = perSecond(learning).map { Double(progress.toLearn - progress.learned) / $0 }
    // Before the first iteration has learned, nobody knows how long that takes.
    let left = asking.map { $0 + (lessons ?? 0) }
    let stretch = progress.toPlay / progress.iterations
    let done = progress.played - (progress.iteration - 1) * stretch
    let what =
      isAsking
      ? "asking the search, \(Format.count(done)) of \(Format.count(stretch)) rounds" : "learning"
    let line =
      "imitating: \(progress.iteration) of \(progress.iterations), \(what)  "
      + Self.rate(
        perSecond(isAsking ? playing : learning), left: left, isLeast: lessons == nil)
    Terminal.status(line)
  }

  private static func rate(_ perSecond: Double?, left: Double?, isLeast: Bool = false) -> String {
    [
      perSecond.map {
        "\($0 < 10 ? Format.significant($0) : Format.number($0, digits: 0)) rounds/s"
      },
      left.map { "\(isLeast ? "more than " : "")\(Format.time(.seconds($0))) left" },
    ].compactMap(\.self).joined(separator: "  ")
  }
}
