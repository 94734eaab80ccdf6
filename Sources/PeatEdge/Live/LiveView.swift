import PeatFederation
import PeatTensor

/// What levels cost and how the loss falls, for planning a live federation.
public struct LiveSettings: Sendable {
  /// In the order of the run's emulators.
  public var levels: [EmulatorLevel]
  public var objective: Objective
  /// Whether the objective's reference time is not known: then it is a round's of the median device.
  public var isReferenceTimeMeasured: Bool
  public var learning: LearningModel
  /// The coordinator's own part.
  public var server: EdgeServer
  /// The adapter in bytes, and as it is sent to clients.
  public var adapterBytes: Double
  public var downloadBytes: Double
  /// What smaller updates take.
  public var uploads: [UploadSize]
  /// Seconds that a round lasts at most.
  public var deadline: Double
  /// The gap that is to be reached; only the aim `timeToTarget` asks for it.
  public var target: Double
  /// What else a learned planner chooses from, and the run's own settings.
  public var choices: WorkChoices
  public var work: WorkSettings

  public init(
    levels: [EmulatorLevel], objective: Objective = Objective(),
    isReferenceTimeMeasured: Bool = true, learning: LearningModel = LearningModel(),
    server: EdgeServer = EdgeServer(), adapterBytes: Double, downloadBytes: Double? = nil,
    uploads: [UploadSize] = [],
    deadline: Double,
    target: Double = 0,
    choices: WorkChoices = WorkChoices(),
    work: WorkSettings
  ) {
    self.levels = levels
    self.objective = objective
    self.isReferenceTimeMeasured = isReferenceTimeMeasured
    self.learning = learning
    self.server = server
    self.adapterBytes = adapterBytes
    self.downloadBytes = downloadBytes ?? adapterBytes
    self.uploads = uploads
    self.deadline = deadline
    self.target = target
    self.choices = choices
    self.work = work
  }
}

/// A live federation before a round, by its telemetry.
struct LiveView: PlanningView {
  struct Client: Sendable {
    var device: PlannedDevice
    /// In bit/s.
    var down: Double
    var up: Double
    /// Levels that it may see, and levels whose packages it has.
    var allowed: Set<Int>
    var holds: Set<Int>
    var isStale: Bool
  }

  var levels: [EmulatorLevel]
  var objective: Objective
  var learning: LearningModel
  var server: EdgeServer
  var adapterBytes: Double
  var adapterDownBytes: Double
  var uploads: [UploadSize]
  var choices: WorkChoices
  var deadline: Double
  var round: Int
  var rounds: Int
  var gap: Double
  var target: Double
  var clients: [Client]

  /// What levels are worth now is measured; what they lose in the rounds to come is not.
  var levelsAge: LevelAge { .sinceMade }

  /// Rounds follow each other at once.
  var aggregation: Double { 0 }

  var deviceCount: Int { clients.count }
  func device(_ number: Int) -> PlannedDevice { clients[number].device }
  func isStale(_ number: Int) -> Bool { clients[number].isStale }

  func allows(_ level: Int, _ number: Int) -> Bool {
    clients[number].allowed.contains(level)
      && levels[level].memory <= clients[number].device.memory
  }

  var sharesBand: Bool { false }

  /// Each has a link of its own.
  func believedRates(_ number: Int, participants: Double) -> (down: Double, up: Double) {
    (clients[number].down, clients[number].up)
  }

  func bytesToSend(_ level: Int, to number: Int) -> Double {
    clients[number].holds.contains(level) ? 0 : levels[level].bytes
  }
}
