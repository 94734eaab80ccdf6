/// What a controller sees and decides, in numbers.
public struct ControlShape: Sendable, Codable, Equatable {
  public var devices: Int
  /// Numbers that describe a device, and numbers that describe the round.
  public var deviceFeatures: Int
  public var globalFeatures: Int
  public var branches: ActionBranches

  public init(
    devices: Int, deviceFeatures: Int, globalFeatures: Int, branches: ActionBranches
  ) {
    self.devices = devices
    self.deviceFeatures = deviceFeatures
    self.globalFeatures = globalFeatures
    self.branches = branches
  }

  /// Numbers of an observation: device after device, then the round.
  public var observationSize: Int { devices * deviceFeatures + globalFeatures }
  /// Logits, and entries of a mask.
  public var logits: Int { devices * branches.width }
  /// Choices of a joint action.
  public var choices: Int { devices * branches.count }
}

/// What a round brought.
public struct ControlOutcome: Sendable, Equatable, BitwiseCopyable {
  public var reward: Float
  /// How long it took, in units of the environment's reference time, for a discount by time.
  public var duration: Float
  public var ending: Ending

  /// Whether an episode ended with a round.
  public enum Ending: Sendable, Equatable, BitwiseCopyable {
    case goesOn
    /// Nothing follows that would be worth anything.
    case isOver
    /// It would go on, but is not played further: what would follow is estimated.
    case isCutShort
  }

  public init(reward: Float = 0, duration: Float = 1, ending: Ending = .goesOn) {
    self.reward = reward
    self.duration = duration
    self.ending = ending
  }
}

/// Decision processes of one kind, side by side, that are observed and advanced together.
public protocol ControlEnvironment: AnyObject {
  var shape: ControlShape { get }
  /// How many processes there are.
  var count: Int { get }

  /// Writes what is seen, `[count, observationSize]`; numbers of about the size of 1.
  func observe(into observations: UnsafeMutablePointer<Float>)

  /// Writes which choices are allowed, `[count, logits]`, 1 or 0; one at least of each branch.
  func mask(into mask: UnsafeMutablePointer<UInt8>)

  /// Takes a joint action for each process, `[count, devices, branches]`, and writes what came of it, `[count]`.
  /// A process whose episode ended must be `reset` before it is advanced again.
  func step(
    _ actions: UnsafePointer<Int32>, into outcomes: UnsafeMutablePointer<ControlOutcome>
  )

  /// Begins another episode.
  func reset(_ process: Int)
}
