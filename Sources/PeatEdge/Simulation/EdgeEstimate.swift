import PeatTensor

/// What a run is likely to cost, from many simulated ones.
public struct EdgeEstimate: Sendable, Codable, Equatable {
  /// Of a kind of device: means over its devices and over the simulated runs.
  public struct DeviceClassEstimate: Sendable, Codable, Equatable {
    public var name: String
    /// Devices of a run.
    public var devices: Double
    public var bytesDown: Double
    public var bytesUp: Double
    /// At work: receiving, training and sending.
    public var seconds: Double
    public var joules: Double
    /// The share of the battery that a run takes; null where it hangs on the mains.
    public var batteryShare: Double?
    /// The most that training took, in bytes, of any device.
    public var memory: Double
    /// The share of the middle that a device has seen at the end: mean and most.
    public var exposure: Double
    public var largestExposure: Double

    /// Says every key, also the battery of a device that has none.
    public func encode(to encoder: any Encoder) throws {
      var table = encoder.container(keyedBy: CodingKeys.self)
      try table.encode(name, forKey: .name)
      try table.encode(devices, forKey: .devices)
      try table.encode(bytesDown, forKey: .bytesDown)
      try table.encode(bytesUp, forKey: .bytesUp)
      try table.encode(seconds, forKey: .seconds)
      try table.encode(joules, forKey: .joules)
      try table.encode(batteryShare, forKey: .batteryShare)
      try table.encode(memory, forKey: .memory)
      try table.encode(exposure, forKey: .exposure)
      try table.encode(largestExposure, forKey: .largestExposure)
    }
  }

  /// Of a whole run: mean, median, and between which 90 % of runs lie. The mean of what is seldom large may lie beyond.
  public struct Range: Sendable, Codable, Equatable {
    public var mean: Double
    public var median: Double
    public var low: Double
    public var high: Double

    init(_ values: [Double]) {
      let sorted = values.sorted()
      func quantile(_ share: Double) -> Double {
        sorted.isEmpty ? 0 : sorted[Int((share * Double(sorted.count - 1)).rounded())]
      }
      mean = values.isEmpty ? 0 : values.reduce(0, +) / Double(values.count)
      (low, median, high) = (quantile(0.05), quantile(0.5), quantile(0.95))
    }
  }

  public var runs: Int
  public var rounds: Int
  public var seconds: Range
  public var bytesDown: Range
  public var bytesUp: Range
  public var joules: Range
  /// What is left of the gap to the loss that is never passed, as a share of the first one.
  public var gap: Range
  /// Simulated seconds to the target gap; null where less than half of the runs reach it.
  public var secondsToTarget: Range?
  /// The share of runs that are over in time, and of those that reach the target in time; null without a deadline.
  public var meetsDeadline: Double?
  public var reachesTargetByDeadline: Double?
  /// Devices that were told to train on more than they have memory for.
  public var violations: Int
  /// Attempts at rounds in which too few delivered, in the mean of a run: their seconds, bytes and joules are counted.
  public var lostRounds: Double
  /// The share of runs that end early, as a round came to nothing as often as it is tried.
  public var endsEarly: Double
  public var classes: [DeviceClassEstimate]

  private enum CodingKeys: String, CodingKey {
    case runs, rounds, seconds, bytesDown, bytesUp, joules, gap, secondsToTarget, meetsDeadline
    case reachesTargetByDeadline, violations, lostRounds, endsEarly, classes
  }

  /// Says every key, also those that are null.
  public func encode(to encoder: any Encoder) throws {
    var table = encoder.container(keyedBy: CodingKeys.self)
    try table.encode(runs, forKey: .runs)
    try table.encode(rounds, forKey: .rounds)
    try table.encode(seconds, forKey: .seconds)
    try table.encode(bytesDown, forKey: .bytesDown)
    try table.encode(bytesUp, forKey: .bytesUp)
    try table.encode(joules, forKey: .joules)
    try table.encode(gap, forKey: .gap)
    try table.encode(secondsToTarget, forKey: .secondsToTarget)
    try table.encode(meetsDeadline, forKey: .meetsDeadline)
    try table.encode(reachesTargetByDeadline, forKey: .reachesTargetByDeadline)
    try table.encode(violations, forKey: .violations)
    try table.encode(lostRounds, forKey: .lostRounds)
    try table.encode(endsEarly, forKey: .endsEarly)
    try table.encode(classes, forKey: .classes)
  }

  /// - Parameters:
  ///   - environment: after it was played, an episode per cell.
  ///   - deadline: for the whole run, in seconds.
  public init(_ environment: EdgeEnvironment, deadline: Double?) {
    let summaries = environment.summaries
    let configuration = environment.configuration
    runs = summaries.count
    rounds = summaries.map(\.rounds).max() ?? 0
    seconds = Range(summaries.map(\.seconds))
    bytesDown = Range(summaries.map(\.bytesDown))
    bytesUp = Range(summaries.map(\.bytesUp))
    joules = Range(summaries.map(\.joules))
    gap = Range(summaries.map { $0.gap / configuration.learning.startGap })
    let reached = summaries.compactMap(\.secondsToTarget)
    secondsToTarget = 2 * reached.count >= summaries.count ? Range(reached) : nil
    func share(_ holds: (EdgeSummary) -> Bool) -> Double {
      Double(summaries.count(where: holds)) / Double(max(summaries.count, 1))
    }
    meetsDeadline = deadline.map { limit in share { $0.seconds <= limit } }
    reachesTargetByDeadline = deadline.map { limit in
      share { $0.secondsToTarget.map { $0 <= limit } ?? false }
    }
    violations = summaries.reduce(0) { $0 + $1.violations }
    lostRounds =
      Double(summaries.reduce(0) { $0 + $1.lostRounds }) / Double(max(summaries.count, 1))
    endsEarly = share(\.endsEarly)
    classes = configuration.classes.indices.map { kind in
      var sum = EdgeDevice.Spent()
      var count = 0.0
      var (exposure, largest) = (0.0, 0.0)
      for cell in environment.cells {
        for (number, device) in cell.devices.enumerated() where device.kind == kind {
          count += 1
          sum.bytesDown += device.spent.bytesDown
          sum.bytesUp += device.spent.bytesUp
          sum.seconds += device.spent.seconds
          sum.joules += device.spent.joules
          sum.memory = max(sum.memory, device.spent.memory)
          exposure += cell.exposure(of: number)
          largest = max(largest, cell.exposure(of: number))
        }
      }
      let own = configuration.classes[kind]
      let each = max(count, 1)
      return DeviceClassEstimate(
        name: own.name, devices: count / Double(max(environment.cells.count, 1)),
        bytesDown: sum.bytesDown / each, bytesUp: sum.bytesUp / each, seconds: sum.seconds / each,
        joules: sum.joules / each, batteryShare: own.battery.map { sum.joules / each / $0 },
        memory: sum.memory, exposure: exposure / each, largestExposure: largest)
    }
  }
}
