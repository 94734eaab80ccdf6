import PeatTensor

/// What a planner knows of a device before a round.
struct PlannedDevice: Sendable {
  /// Of all data.
  var share: Double
  /// The level it holds, -1 for none; what that was worth when it was new, and how many rounds ago that was.
  var held: Int
  var heldFidelity: Double
  var age: Double
  /// How lately its data was used: 1 in the last round, 0 where never.
  var recency: Double
  /// In FLOP/s.
  var compute: Double
  /// In bytes.
  var memory: Double
  /// How likely it fails in a round.
  var dropout: Double
  /// How likely a round waits for it until the deadline.
  var stall = 0.0
  /// In joules per FLOP.
  var energyPerOperation: Double
  /// The share of its battery that is left; 1 on the mains.
  var charge: Double
  /// Whether it can be reached.
  var isThere: Bool
}

/// What a planner knows of a federation before a round: of a simulated cell by its devices' reports, of a live one by its
/// telemetry. Planners, and the features that a learned one sees, are written once, over this.
protocol PlanningView {
  var levels: [EmulatorLevel] { get }
  var objective: Objective { get }
  var learning: LearningModel { get }
  /// The coordinator's own part.
  var server: EdgeServer { get }
  /// The adapter, each way, in bytes.
  var adapterBytes: Double { get }
  /// The same on its way to a device.
  var adapterDownBytes: Double { get }
  /// What smaller updates take, and among what the planner chooses.
  var uploads: [UploadSize] { get }
  var choices: WorkChoices { get }
  /// Seconds that a round lasts at most.
  var deadline: Double { get }
  /// Seconds between rounds.
  var aggregation: Double { get }
  /// Rounds made, and rounds that there are.
  var round: Int { get }
  var rounds: Int { get }
  /// In nats over the loss that is never passed, and the one to be reached.
  var gap: Double { get }
  var target: Double { get }
  var deviceCount: Int { get }

  func device(_ number: Int) -> PlannedDevice

  /// Whether a device has the memory for a level, and may see its blocks.
  func allows(_ level: Int, _ number: Int) -> Bool

  /// Whether what a device holds should be replaced.
  func isStale(_ number: Int) -> Bool

  /// Whether rates depend on how many take part.
  var sharesBand: Bool { get }

  /// In bit/s, where so many share the band.
  func believedRates(_ number: Int, participants: Double) -> (down: Double, up: Double)

  /// What must be sent for a device to have a level, in bytes.
  func bytesToSend(_ level: Int, to number: Int) -> Double

  /// Seconds that each device's part in a round is expected to take where these decisions are carried out together; 0 where it takes none.
  func believedSeconds(of decisions: [EdgeDecision]) -> [Double]

  /// From when on levels lose fidelity.
  var levelsAge: LevelAge { get }

  /// Rounds that a level is old which is sent now.
  func ageWhenSent(_ level: Int) -> Double
}

extension PlanningView {
  func ageWhenSent(_ level: Int) -> Double { 0 }

  /// What a round takes off the gap, as a share of it: the devices' updates together, mixed with the server's own part.
  ///
  /// - Parameters:
  ///   - sum: of what each device takes off.
  ///   - share: of all data, that they have together.
  ///   - coverage: of all data, this round included.
  ///   - gap: before it.
  func progress(
    ofDevices sum: Double, share: Double, coverage: Double, gap: Double
  ) -> Double {
    let devices = learning.progress(together: sum, share: share, coverage: coverage, gap: gap)
    return server.progress(beside: devices, learning, gap: gap)
  }

  /// Whether it can train on what it holds.
  func holdsUsable(_ number: Int) -> Bool {
    let device = device(number)
    return device.held >= 0 && levels[device.held].memory <= device.memory
  }

  func canTakePart(_ number: Int) -> Bool {
    let device = device(number)
    return device.isThere && device.charge > 0
      && (holdsUsable(number) || levels.indices.contains { allows($0, number) })
  }

  /// Seconds of a device's round where so many share the band equally.
  func believedSeconds(
    _ number: Int, level: Int, isSent: Bool, participants: Double, work: EdgeWork = .own
  ) -> Double {
    let (down, up) = believedRates(number, participants: participants)
    return believedSeconds(
      device(number), bits: isSent ? 8 * bytesToSend(level, to: number) : 0, level: level,
      down: down, up: up, work: work)
  }

  /// Seconds of what a device is told, where all share the band equally; 0 where it takes no part.
  func believedSeconds(_ number: Int, _ decision: EdgeDecision) -> Double {
    let level = decision.level ?? device(number).held
    guard decision.isSelected, level >= 0 else { return 0 }
    return believedSeconds(
      number, level: level, isSent: decision.level != nil, participants: Double(deviceCount),
      work: decision.work)
  }

  /// Seconds of a round on a level, at given rates, as they are expected: (1 − p) · T + p · deadline, with p as likely as the round waits for
  /// the device until the deadline.
  ///
  /// - Parameter bits: what is sent beside the adapter.
  func believedSeconds(
    _ device: PlannedDevice, bits: Double, level: Int, down: Double, up: Double,
    work: EdgeWork = .own
  ) -> Double {
    expected(
      tripSeconds(device, bits: bits, level: level, down: down, up: up, work: work), of: device)
  }

  func expected(_ seconds: Double, of device: PlannedDevice) -> Double {
    guard device.stall > 0 else { return seconds }
    return seconds + device.stall * max(deadline - seconds, 0)
  }

  /// T: seconds of a round in which the device delivers.
  func tripSeconds(
    _ device: PlannedDevice, bits: Double, level: Int, down: Double, up: Double,
    work: EdgeWork = .own
  ) -> Double {
    (8 * adapterDownBytes + bits) / down + work.steps * levels[level].work / device.compute
      + 8 * uploadBytes(work) / up
  }

  /// Bytes that a device sends.
  func uploadBytes(_ work: EdgeWork) -> Double {
    uploads.bytes(choices.effective(work), adapterBytes: adapterBytes)
  }

  /// The most faithful level that a device may have.
  func bestLevel(_ number: Int) -> Int? {
    levels.indices.filter { allows($0, number) }.max {
      levels[$0].fidelity < levels[$1].fidelity
    }
  }

  /// Adds those that are ready first, where too few take part for a round to count.
  func complete(_ decisions: inout [EdgeDecision], upTo minimum: Int) {
    for added in quickestOthers(decisions, upTo: minimum) {
      decisions[added.number] = added.decision
    }
  }

  /// Whom to add where too few take part for a round to count: those that are ready first.
  ///
  /// - Parameter minimum: how many must take part.
  func quickestOthers(
    _ decisions: [EdgeDecision], upTo minimum: Int
  ) -> [(number: Int, decision: EdgeDecision, seconds: Double)] {
    let missing = minimum - decisions.count { $0.isSelected }
    guard missing > 0 else { return [] }
    var others: [(number: Int, decision: EdgeDecision, seconds: Double)] = []
    for number in decisions.indices where !decisions[number].isSelected && canTakePart(number) {
      let isHeld = holdsUsable(number)
      guard let level = isHeld ? device(number).held : bestLevel(number) else { continue }
      let seconds = believedSeconds(
        number, level: level, isSent: !isHeld, participants: Double(minimum))
      others.append((number, EdgeDecision(isSelected: true, level: isHeld ? nil : level), seconds))
    }
    return Array(
      others.sorted { ($0.seconds, $0.number) < ($1.seconds, $1.number) }.prefix(missing))
  }
}
