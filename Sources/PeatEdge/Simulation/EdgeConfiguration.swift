import PeatTensor

/// What an emulator level costs and what an update made on it is worth.
public struct EmulatorLevel: Sendable, Codable, Equatable {
  public var name: String
  /// What is sent, in bytes.
  public var bytes: Double
  /// A round's training on it, adapter included, in FLOP.
  public var work: Double
  /// What training takes at most, in bytes.
  public var memory: Double
  /// How well an update made on it points the way of one made on the full model, 0 to 1 (`FidelityReport`: the cosine of their gradients).
  public var fidelity: Double
  /// Blocks of the middle of which it shows something.
  public var blocks: [Int]
  /// The share of the middle's weights that it shows of each of these blocks; `nil`: all of each.
  public var shown: [Double]?

  public init(
    _ name: String, bytes: Double, work: Double, memory: Double, fidelity: Double, blocks: [Int],
    shown: [Double]? = nil
  ) {
    self.name = name
    self.bytes = bytes
    self.work = work
    self.memory = memory
    self.fidelity = fidelity
    self.blocks = blocks
    self.shown = shown
  }

  /// Says every key, also that of a level that shows all of its blocks.
  public func encode(to encoder: any Encoder) throws {
    var table = encoder.container(keyedBy: CodingKeys.self)
    try table.encode(name, forKey: .name)
    try table.encode(bytes, forKey: .bytes)
    try table.encode(work, forKey: .work)
    try table.encode(memory, forKey: .memory)
    try table.encode(fidelity, forKey: .fidelity)
    try table.encode(blocks, forKey: .blocks)
    try table.encode(shown, forKey: .shown)
  }

  /// How much it shows of each of the middle's blocks, as a share of the block.
  func shown(ofBlocks count: Int) -> [Double] {
    var result = Array(repeating: 0.0, count: count)
    for (place, block) in blocks.enumerated() {
      result[block] = max(result[block], min(1, shown.map { $0[place] * Double(count) } ?? 1))
    }
    return result
  }

  /// The share of a middle of so many blocks that it shows.
  func exposure(ofBlocks count: Int) -> Double {
    shown(ofBlocks: count).reduce(0, +) / Double(count)
  }

  /// Throws `badData` where a number makes no sense in a middle of so many blocks.
  func validate(middleBlocks count: Int) throws {
    func check(_ holds: Bool, _ what: String) throws {
      if !holds { throw PeatError.badData("The level '\(name.prefix(60))' \(what)") }
    }
    try check(
      name.utf8.count <= 1000, "has a name of \(name.utf8.count) bytes; it can have 1000.")
    try check(
      (1...1e15).contains(bytes) && (1...1e24).contains(work) && (1...1e15).contains(memory)
        && (0...1).contains(fidelity),
      "needs bytes and memory of 1 to 1e15, work of 1 to 1e24 and a fidelity of 0 to 1; found \(bytes), \(memory), \(work) and \(fidelity)."
    )
    try check(
      blocks.count <= count,
      "names \(blocks.count) blocks of the middle's \(count): name each once.")
    try check(
      blocks.allSatisfy { (0..<count).contains($0) },
      "names a block that the middle's \(count) blocks do not have.")
    guard let shown else { return }
    try check(
      shown.count == blocks.count,
      "has \(shown.count) numbers under 'shown' for \(blocks.count) blocks: give one for each, or leave it out."
    )
    // A decoder's blocks are larger than an encoder's, by less than half.
    let most = min(2 / Double(count), 1)
    try check(
      shown.allSatisfy { (0...most * 1.001).contains($0) } && shown.reduce(0, +) <= 1.001,
      "shows \(shown) of the middle; of a block that can be at most \(most), twice one of \(count), and of all 1."
    )
  }
}

/// From when on a device's emulator gets old, in rounds.
public enum LevelAge: String, ConfigurationWord {
  /// The owner makes levels anew for each round: a copy is as old as it is long on the device, and one that is sent again is new.
  case sinceSent
  /// A level is what it was made as, and the adapter moves away from that: the same bytes once more are no newer. Only one that is made
  /// anew (realigned) is.
  case sinceMade
}

/// How the loss falls, in nats over the loss that is never passed.
///
///     gap ← gap · (1 − η · (gap / gap₀)^p · W^(π−1) · Σ_i w_i · q_i · e^(−μ·age_i) · max(0, 1 − c·(1 − q_i)/gap)
///                      · max(0, 1 − d·(1 − C)/gap)),   W = Σ_i w_i
///
/// w_i: a participant's share of all data; q_i: its emulator's fidelity; age_i: how old that is in rounds (`LevelAge`). The last factors are
/// floors: gradients that point a little wrong stall early, and so do those of data that is not all data. C = Σ w_i · 0.9^k over all devices,
/// k rounds after each took part last; one that never did counts for nothing. With p = 0 the gap falls by the same share in each round, with a higher p ever more
/// slowly, as a power of the rounds. Our own model: simple, and fitted to short real runs.
public struct LearningModel: Sendable, Codable, Equatable {
  public var startGap = 1.0
  /// The loss that is never passed, in nats per token; 0: not known. Where it is, a measured loss says what the gap is.
  public var finalLoss = 0.0
  /// η.
  public var rate = 0.25
  /// μ per round.
  public var ageing = 0.06
  /// c in nats.
  public var floor = 0.0
  /// p.
  public var slowing = 0.0
  /// π: how progress grows with the share of all data that takes part; 1: in proportion; 0: the mean of a few updates is worth as much as
  /// that of all.
  public var participation = 1.0
  /// d in nats: where the loss stays that is tuned on next to none of the data.
  public var coverage = 0.0
  /// What a device's work does to it.
  public var work = WorkEffects()

  public init() {}

  func validate() throws {
    try work.validate()
    for (name, value, range) in [
      ("startGap", startGap, 1e-6...100.0), ("finalLoss", finalLoss, 0...100),
      ("rate", rate, 0...1), ("ageing", ageing, 0...100),
      ("floor", floor, 0...100), ("slowing", slowing, 0...10),
      ("participation", participation, 0...2), ("coverage", coverage, 0...100),
    ] where !range.contains(value) {
      throw PeatError.badData(
        "learning.\(name) is \(value); it must be between \(range.lowerBound) and \(range.upperBound)."
      )
    }
  }

  /// The gap that a measured perplexity leaves; `nil` where the final loss is not known.
  public func gap(perplexity: Double) -> Double? {
    perplexity > 0 ? gap(loss: naturalLogarithm(perplexity)) : nil
  }

  /// The gap that a measured loss leaves, in nats; `nil` where the final loss is not known.
  func gap(loss: Double) -> Double? {
    guard finalLoss > 0 else { return nil }
    return max(loss - finalLoss, 1e-3)
  }

  /// The gap that a round's measures leave: its loss where there is one, else its plug-in perplexity.
  func gap(measured metrics: [String: Double]) -> Double? {
    metrics[Self.lossMetric].map { gap(loss: $0) }
      ?? metrics["plugIn"].flatMap { gap(perplexity: $0) }
  }

  /// What a round's plug-in loss is called among its measures, where plug-in itself is measured in something else than perplexity.
  public static let lossMetric = "plugInLoss"

  /// What all participants together take off the gap, as a share of it.
  ///
  /// - Parameters:
  ///   - sum: of what each takes off.
  ///   - share: of all data, that they have together.
  ///   - coverage: C, this round included.
  package func progress(
    together sum: Double, share: Double, coverage: Double, gap: Double
  ) -> Double {
    min(sum * togetherness(share: share, coverage: coverage, gap: gap), Self.mostOfARound)
  }

  /// However much is done in it, a round leaves something of the gap.
  static let mostOfARound = 0.95

  /// W^(π−1) and the last factor, by which the progress of participants counts together.
  func togetherness(share: Double, coverage: Double, gap: Double) -> Double {
    let together =
      participation == 1 || share <= 0
      ? 1 : exponential((participation - 1) * naturalLogarithm(share))
    return self.coverage == 0 ? together : together * covered(coverage, gap: gap)
  }

  /// What data that is not all data leaves of progress.
  func covered(_ coverage: Double, gap: Double) -> Double {
    max(0, 1 - self.coverage * (1 - min(coverage, 1)) / max(gap, 1e-12))
  }

  /// How much of a device's data still counts as covered, one round later.
  static let retained = 0.9

  /// What one participant takes off the gap, as a share of it.
  package func progress(
    share: Double, fidelity: Double, age: Double, gap: Double, work: EdgeWork = .own
  ) -> Double {
    let stall = floor == 0 ? 1 : max(0, 1 - floor * (1 - fidelity) / max(gap, 1e-12))
    let pace =
      slowing == 0 ? 1 : exponential(slowing * naturalLogarithm(max(gap, 1e-12) / startGap))
    return rate * pace * share * fidelity * freshness(age: age) * stall
      * self.work.factor(work)
  }

  /// e^(−μ·age): what is left of an emulator's fidelity.
  func freshness(age: Double) -> Double { ageing == 0 ? 1 : exponential(-ageing * age) }
}

/// What a round costs: a weighted sum that planners keep small.
///
///     J = w_p · gap / gap₀ + w_T · T / T_ref + w_M · mean(M_i / M_free,i) + w_E · E / E_ref
///
/// With the aim `timeToTarget` a round costs its time instead of the first two, and the episode ends where the target is reached:
///
///     J = T / T_ref + …       at least 1 where nobody delivered; and, where the last round leaves the target unreached,
///                             rounds · (1 + (gap − target) / gap₀) more
public struct Objective: Sendable, Codable, Equatable {
  public enum Aim: String, ConfigurationWord { case weighted, timeToTarget }

  public var aim = Aim.weighted
  public var gap = 1.0
  public var time = 0.08
  public var memory = 0.05
  public var energy = 0.0
  /// In seconds, and in joules.
  public var referenceTime = 120.0
  public var referenceEnergy = 1000.0

  public init() {}

  func validate() throws {
    for (name, value) in [("gap", gap), ("time", time), ("memory", memory), ("energy", energy)]
    where !(0...1e6).contains(value) {
      throw PeatError.badData("objective.\(name) is \(value); a weight must be 0 to 1e6.")
    }
    for (name, value) in [("referenceTime", referenceTime), ("referenceEnergy", referenceEnergy)]
    where !(1e-6...1e12).contains(value) {
      throw PeatError.badData("objective.\(name) is \(value); it must be 1e-6 to 1e12.")
    }
  }
}

/// How far what planners believe is from what is: for training on many worlds, and for hard tests.
public struct Uncertainty: Sendable, Codable, Equatable {
  /// Fidelities differ from what is believed by up to this share.
  public var fidelity = 0.0
  /// Speeds of computing and channels, likewise, by device.
  public var compute = 0.0
  /// In dB.
  public var channel = 0.0
  /// Rounds that reports of channels are late.
  public var delay = 0

  public init() {}

  func validate() throws {
    guard (0...0.95).contains(fidelity), (0...0.95).contains(compute), (0...40).contains(channel),
      (0...20).contains(delay)
    else {
      throw PeatError.badData(
        "uncertainty: fidelity and compute must be 0 to 0.95, channel 0 to 40 dB, delay 0 to 20 rounds."
      )
    }
  }
}

/// The coordinator's own part in the training, with the full middle and data of its own.
public struct EdgeServer: Sendable, Codable, Equatable {
  /// Its share W in the next adapter, (1 − W) · devices + W · server; 0: it takes no part.
  public var weight = 0.0
  /// In FLOP/s, and of a round's training in FLOP.
  public var compute = 1e13
  public var work = 1e14

  public init() {}

  func validate() throws {
    guard (0...1).contains(weight), weight < 1, (1e6...1e21).contains(compute),
      (0...1e24).contains(work)
    else {
      throw PeatError.badData(
        "server: weight must be at least 0 and below 1, compute 1e6 to 1e21 FLOP/s, work 0 to 1e24 FLOP; found \(weight), \(compute), \(work)."
      )
    }
  }

  /// Seconds that its part of a round takes.
  var seconds: Double { weight > 0 ? work / compute : 0 }

  /// What its part takes off the gap, as a share of it: its gradients are the full model's.
  func progress(_ learning: LearningModel, gap: Double) -> Double {
    weight * learning.progress(share: 1, fidelity: 1, age: 0, gap: gap)
  }

  /// What a round takes off the gap, as a share of it, with what the devices take off together.
  func progress(beside devices: Double, _ learning: LearningModel, gap: Double) -> Double {
    weight > 0 ? (1 - weight) * devices + progress(learning, gap: gap) : devices
  }
}

/// A federation at the mobile edge, to be simulated.
public struct EdgeConfiguration: Sendable, Codable, Equatable {
  public var devices = 10
  /// Rounds of an episode.
  public var rounds = 50
  public var radio = RadioConfiguration()
  public var mobility = MobilityConfiguration()
  public var classes: [DeviceClass]
  public var levels: [EmulatorLevel]
  /// What the levels' costs were measured for; empty: for no run in particular.
  public var calibration = EdgeCalibration()
  /// From when on copies of the levels lose fidelity.
  public var levelsAge = LevelAge.sinceSent
  /// What else planners may decide.
  public var work = WorkChoices()
  /// The adapter as it is sent, each way, in bytes.
  public var adapterBytes = 12e6
  /// The same to devices, where that takes other bytes.
  public var downloadBytes: Double?
  /// What updates take of which not all is sent, or not in 32 bits; others take bytes in proportion.
  public var uploads: [UploadSize] = []
  /// Blocks of the middle.
  public var middleBlocks: Int
  /// The share of the middle that a device may have seen at most.
  public var maxExposure = 1.0
  public var learning = LearningModel()
  public var objective = Objective()
  public var uncertainty = Uncertainty()
  public var server = EdgeServer()
  /// Seconds between rounds, and that a round lasts at most.
  public var aggregation = 1.0
  public var deadline = 720.0
  /// The gap that counts as reached.
  public var target = 0.2

  public init(classes: [DeviceClass], levels: [EmulatorLevel], middleBlocks: Int) {
    self.classes = classes
    self.levels = levels
    self.middleBlocks = middleBlocks
  }

  /// Throws `badData` where a number makes no sense, or no device can ever take part.
  public func validate() throws {
    try radio.validate()
    try mobility.validate()
    try learning.validate()
    try objective.validate()
    try uncertainty.validate()
    try server.validate()
    try work.validate()
    try uploads.validate()
    try calibration.validate()
    for item in classes { try item.validate() }
    func check(_ holds: Bool, _ what: String) throws {
      if !holds { throw PeatError.badData(what) }
    }
    try check((1...100_000).contains(devices), "devices is \(devices); it must be 1 to 100000.")
    try check((1...100_000).contains(rounds), "rounds is \(rounds); it must be 1 to 100000.")
    try check(!classes.isEmpty, "classes is empty; name a kind of device.")
    try check(
      classes.count <= 1000, "There are \(classes.count) classes of devices; 1000 can be.")
    try check((1...64).contains(levels.count), "There are \(levels.count) levels; 1 to 64 can be.")
    try check(
      (1...1e15).contains(adapterBytes), "adapterBytes is \(adapterBytes); it must be 1 to 1e15.")
    try check(
      downloadBytes.map((1...1e15).contains) ?? true, "downloadBytes must be 1 to 1e15.")
    try check(
      (0...1).contains(maxExposure), "maxExposure is \(maxExposure); it must be 0 to 1.")
    try check(
      target > 0 && target <= learning.startGap,
      "target is \(target); it must be above 0 and at most learning.startGap, \(learning.startGap)."
    )
    try check(
      (1...100_000).contains(middleBlocks),
      "middleBlocks is \(middleBlocks); it must be 1 to 100000.")
    try check(
      (0...1e6).contains(aggregation) && (1e-3...1e9).contains(deadline),
      "aggregation is \(aggregation), deadline \(deadline); they must be 0 to 1e6 and 0.001 to 1e9 seconds."
    )
    for level in levels { try level.validate(middleBlocks: middleBlocks) }
    let least = levels.map(\.memory).min() ?? 0
    let most = classes.map(\.memory.high).max() ?? 0
    try check(
      least <= most,
      "No device can hold an emulator: the smallest level takes \(Int(least)) bytes, the largest device has \(Int(most)). Add a smaller level."
    )
    func shows(_ level: EmulatorLevel) -> Double { level.exposure(ofBlocks: middleBlocks) }
    try check(
      levels.contains { shows($0) <= maxExposure + 1e-9 },
      "Every level gives away more than maxExposure, \(maxExposure), of the middle. Allow more, or add a level that gives away less."
    )
    try check(
      levels.contains { shows($0) <= maxExposure + 1e-9 && $0.memory <= most },
      "No device can hold an emulator that gives away no more than maxExposure, \(maxExposure): those levels take more than the largest device's \(Int(most)) bytes."
    )
    try check(
      classes.contains { $0.dropout < 1 && ($0.stays > 0 || $0.returns > 0) },
      "Every device fails in every round: lower dropout, or raise stays or returns, in a class.")
  }
}
