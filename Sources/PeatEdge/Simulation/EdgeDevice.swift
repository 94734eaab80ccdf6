import PeatControl
import PeatTensor

/// A simulated device: what is, and what planners believe. It holds no arrays: rounds copy thousands of them.
public struct EdgeDevice: Sendable, Equatable {
  var kind: Int
  var position: Position
  var link: RadioLink
  /// FLOP/s that it has, and that it is believed to have.
  var compute: Double
  var believedCompute: Double
  /// What its reports of the channel are wrong by.
  var reportFactor: Double
  /// Free memory in bytes.
  var memory: Double
  /// Of all data.
  var share: Double
  /// Joules that are left; infinite on the mains.
  var battery: Double
  var isThere = true
  /// The level it holds, -1 for none, and rounds since it was sent.
  var held = -1
  var age = 0.0
  /// The channel now, and as it is reported.
  var channel: Channel
  var report: Channel

  /// How lately its data was used: 1 in the last round, less and less after it, 0 where never.
  var recency = 0.0
  /// What it was told of its work in the last round that it delivered in.
  var work = EdgeWork.own
  /// What it has spent since the beginning.
  var spent = Spent()

  struct Spent: Sendable, Equatable {
    var bytesDown = 0.0
    var bytesUp = 0.0
    var joules = 0.0
    /// At work, from the first byte received to the last sent.
    var seconds = 0.0
    /// The most that its training took, in bytes.
    var memory = 0.0
  }

  struct Channel: Sendable, Equatable {
    /// Of power.
    var gain: Double
    var hasLineOfSight: Bool
  }
}

/// What a device is told to do in a round.
public struct EdgeDecision: Sendable, Equatable {
  public var isSelected: Bool
  /// The level it is sent; `nil`: none, it trains on what it holds.
  public var level: Int?
  public var work: EdgeWork

  public init(isSelected: Bool, level: Int? = nil, work: EdgeWork = .own) {
    self.isSelected = isSelected
    self.level = level
    self.work = work
  }

  /// - Parameters:
  ///   - action: a choice for each branch.
  ///   - choices: what the further branches stand for.
  init(_ action: UnsafePointer<Int32>, _ choices: WorkChoices) {
    self.init(
      isSelected: action[ActionBranches.Place.select] != 0,
      level: action[ActionBranches.Place.exchange] != 0
        ? Int(action[ActionBranches.Place.level]) : nil,
      work: choices.work(action + ActionBranches.Place.further))
  }

  /// Writes a choice for each branch.
  func write(to action: UnsafeMutablePointer<Int32>, _ choices: WorkChoices) {
    action[ActionBranches.Place.select] = isSelected ? 1 : 0
    action[ActionBranches.Place.exchange] = level == nil ? 0 : 1
    action[ActionBranches.Place.level] = Int32(level ?? 0)
    choices.writeOwn(action + ActionBranches.Place.further)
  }
}

/// What a round of a cell was.
public struct EdgeOutcome: Sendable, Equatable {
  public var seconds = 0.0
  public var bytesDown = 0.0
  public var bytesUp = 0.0
  public var joules = 0.0
  public var participants = 0
  public var delivered = 0
  /// Devices that were told to train on more than they have memory for.
  public var violations = 0
  public var cost = 0.0

  /// Counts another attempt at the same round.
  mutating func add(_ next: EdgeOutcome) {
    seconds += next.seconds
    bytesDown += next.bytesDown
    bytesUp += next.bytesUp
    joules += next.joules
    violations += next.violations
    cost += next.cost
    (participants, delivered) = (next.participants, next.delivered)
  }
}
