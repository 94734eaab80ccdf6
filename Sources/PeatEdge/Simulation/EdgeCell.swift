import PeatTensor

/// One cell with its devices, round by round: the physics of a simulated federation.
public struct EdgeCell: Sendable {
  /// What does not change: shared by all cells of a simulation.
  final class World: Sendable {
    let configuration: EdgeConfiguration
    let loss: PathLoss
    let rates: RadioRates
    /// What each level shows of each of the middle's blocks, level after level.
    let shown: [Double]
    let bandwidth: Double
    /// Levels without their names.
    let costs: [Cost]

    struct Cost: Sendable {
      let bits: Double
      let work: Double
      let memory: Double
    }

    init(_ configuration: EdgeConfiguration) {
      self.configuration = configuration
      loss = PathLoss(configuration.radio.scenario, carrier: configuration.radio.carrier)
      rates = RadioRates(configuration.radio)
      bandwidth = configuration.radio.bandwidth
      costs = configuration.levels.map {
        Cost(bits: 8 * $0.bytes, work: $0.work, memory: $0.memory)
      }
      shown = configuration.levels.flatMap { $0.shown(ofBlocks: configuration.middleBlocks) }
    }
  }

  let world: World
  public internal(set) var devices: [EdgeDevice] = []
  /// Channels of the last rounds, as many as reports are late: those of a round after those of the other.
  private var channels: [EdgeDevice.Channel] = []
  /// How much of each level a device was sent at most, device after device; and the share of the middle that it could put together from that.
  private var received: [Double]
  private var exposures: [Double]
  /// Rounds that changed the adapter since each level was made.
  private var levelAges: [Double]
  /// The devices whose updates arrived in the last round.
  private(set) var delivered: [Int] = []
  /// In nats over the loss that is never passed.
  public internal(set) var gap: Double
  public internal(set) var round = 0
  /// Seconds since the beginning.
  public internal(set) var time = 0.0
  /// What the levels are truly worth here, and what is believed of them.
  var fidelities: [Double]
  private var random: SeededRandom

  var configuration: EdgeConfiguration { world.configuration }

  init(_ world: World, seed: UInt64, number: Int) {
    self.world = world
    random = SeededRandom(seed: seed, "cell \(number)")
    let configuration = world.configuration
    gap = configuration.learning.startGap
    received = Array(repeating: 0, count: configuration.levels.count * configuration.devices)
    exposures = Array(repeating: 0, count: configuration.devices)
    levelAges = Array(repeating: 0, count: configuration.levels.count)
    fidelities = []
    var shares = 0.0
    fidelities = configuration.levels.map { level in
      min(max(level.fidelity * vary(configuration.uncertainty.fidelity), 0), 1)
    }
    for _ in 0..<configuration.devices {
      devices.append(makeDevice())
      shares += devices[devices.count - 1].share
    }
    for index in devices.indices { devices[index].share /= shares }
    for _ in 0..<configuration.uncertainty.delay { channels += devices.map(reportable) }
  }

  /// A factor that differs from 1 by up to a share.
  private mutating func vary(_ share: Double) -> Double {
    share == 0 ? 1 : random.fraction(1 - share, 1 + share)
  }

  private mutating func makeDevice() -> EdgeDevice {
    let configuration = world.configuration
    let total = configuration.classes.reduce(0) { $0 + $1.share }
    var ticket = random.fraction() * total
    var kind = 0
    while kind + 1 < configuration.classes.count, ticket >= configuration.classes[kind].share {
      ticket -= configuration.classes[kind].share
      kind += 1
    }
    let own = configuration.classes[kind]
    let position = Position(
      configuration.mobility, least: world.loss.leastDistance, radius: configuration.radio.radius,
      &random)
    let link = RadioLink(
      world.loss, distance: position.distance, configuration.radio, &random)
    let compute = own.compute.draw(&random)
    let memory = own.memory.draw(&random)
    let share = random.fraction(0.2, 1)
    let channel = EdgeDevice.Channel(
      gain: link.gain(world.loss), hasLineOfSight: link.hasLineOfSight)
    let known = link.largeScaleGain(world.loss)
    let error = configuration.uncertainty.channel
    let bias = error == 0 ? 1 : ratio(decibels: random.fraction(-error, error))
    return EdgeDevice(
      kind: kind, position: position, link: link,
      compute: compute * vary(configuration.uncertainty.compute), believedCompute: compute,
      reportFactor: bias, memory: memory, share: share, battery: own.battery ?? .infinity,
      channel: channel,
      report: .init(gain: known * bias, hasLineOfSight: channel.hasLineOfSight))
  }

  /// The channel as far as it can be reported: what lasts for a round, without the fading of its moment.
  private func reportable(_ device: EdgeDevice) -> EdgeDevice.Channel {
    .init(gain: device.link.largeScaleGain(world.loss), hasLineOfSight: device.link.hasLineOfSight)
  }

  // MARK: What may be decided

  /// Whether a device has the memory for a level, and may see its blocks.
  func allows(_ level: Int, _ number: Int) -> Bool {
    world.costs[level].memory <= devices[number].memory
      && (configuration.maxExposure >= 1
        || exposure(of: number, with: level) <= configuration.maxExposure + 1e-9)
  }

  /// The share of the middle that a device could put together from all it was sent, or could with a level.
  func exposure(of number: Int, with level: Int? = nil) -> Double {
    let first = number * configuration.levels.count
    guard let level, received[first + level] < 1 else { return exposures[number] }
    return exposure(of: number) { $0 == level ? 1 : received[first + $0] }
  }

  /// As `ExposureLedger` counts it: what levels show of a block adds up, up to all of it, but equal shares are the same copy.
  ///
  /// - Parameter share: how much of each level it has.
  private func exposure(of number: Int, share: (Int) -> Double) -> Double {
    let blocks = configuration.middleBlocks
    let levels = configuration.levels.indices
    func isCopy(_ level: Int, of other: Int, _ block: Int) -> Bool {
      abs(world.shown[level * blocks + block] - world.shown[other * blocks + block]) <= 1e-9
    }
    var total = 0.0
    for block in 0..<blocks {
      var (sum, most) = (0.0, 0.0)
      for level in levels {
        let whole = world.shown[level * blocks + block]
        guard whole > 0, !(0..<level).contains(where: { isCopy($0, of: level, block) }) else {
          continue
        }
        // Of copies the one of which it has the most.
        var part = 0.0
        for other in level..<levels.count where isCopy(other, of: level, block) {
          part = max(part, share(other))
        }
        sum += part * whole
        most = max(most, part * whole)
      }
      total += max(most, min(1, sum))
    }
    return total / Double(blocks)
  }

  /// A device was sent a level, or the beginning of one.
  private mutating func note(_ level: Int, share: Double, for number: Int) {
    let first = number * configuration.levels.count
    guard share > received[first + level] else { return }
    received[first + level] = share
    exposures[number] = exposure(of: number) { received[first + $0] }
  }

  /// The share of all data that was used lately.
  var coverage: Double { devices.reduce(0) { $0 + $1.share * $1.recency } }

  // MARK: A round

  /// Carries decisions out; those that can't be are as if they had not been made, and too little memory is counted.
  mutating func advance(_ decisions: [EdgeDecision]) -> EdgeOutcome {
    var outcome = EdgeOutcome()
    delivered.removeAll(keepingCapacity: true)
    var parts: [Part] = []
    for (number, decision) in decisions.enumerated() where decision.isSelected {
      let device = devices[number]
      guard device.isThere, device.battery > 0 else { continue }
      let level = decision.level ?? device.held
      guard level >= 0 else { continue }
      guard world.costs[level].memory <= device.memory else {
        outcome.violations += 1
        continue
      }
      if let sent = decision.level, !allows(sent, number) { continue }
      let isSent = decision.level != nil && !hasCopy(number, of: level)
      let work = configuration.work.effective(decision.work)
      parts.append(
        Part(
          device: number, level: level, isSent: isSent, work: work,
          sent: adapterDownBytes + (isSent ? configuration.levels[level].bytes : 0),
          received: uploadBytes(work),
          seconds: world.costs[level].work * work.steps / device.compute))
    }
    outcome.participants = parts.count
    let (down, up) = bands(
      parts.map {
        Demand(
          channel: devices[$0.device].channel, seconds: $0.seconds, sent: $0.sent,
          received: $0.received)
      })
    var progress = 0.0
    var share = 0.0
    var memory = 0.0
    for (place, part) in parts.enumerated() {
      let device = devices[part.device]
      let own = configuration.classes[device.kind]
      let downSeconds = 8 * part.sent / rate(device, down[place], isUp: false)
      let upSeconds = 8 * part.received / rate(device, up[place], isUp: true)
      var seconds = downSeconds + part.seconds + upSeconds
      memory += configuration.levels[part.level].memory / device.memory
      let drops = own.dropout > 0 && random.fraction() < own.dropout
      // What it gets to before the round is over.
      let deadline = configuration.deadline
      let receives = min(downSeconds, deadline)
      let trains = min(part.seconds, deadline - receives)
      let isWhole = seconds <= deadline
      let sends = drops ? 0 : isWhole ? upSeconds : min(upSeconds, deadline - receives - trains)
      let receiving = own.receivePower * receives
      let training =
        own.energyPerOperation * world.costs[part.level].work * part.work.steps
        * (part.seconds > 0 ? trains / part.seconds : 1)
      var joules = receiving + training
      // One whose battery does not last stops where that is empty.
      let runsOut = joules + own.sendPower * sends > device.battery
      var got = receives < downSeconds ? receives / downSeconds : 1
      if runsOut {
        if receiving > device.battery { got *= device.battery / receiving }
        joules = device.battery
      }
      if part.isSent {
        // Of what it has of a level it can't be of use; but it has seen it.
        devices[part.device].held = got < 1 ? -1 : part.level
        devices[part.device].age = 0
        note(part.level, share: got, for: part.device)
      }
      let sent = got * part.sent
      outcome.bytesDown += sent
      if drops || runsOut {
        // It is waited for half as long again as it would have taken.
        seconds *= 1.5
      } else {
        joules += own.sendPower * sends
        let bytes = isWhole ? part.received : part.received * (sends / upSeconds)
        outcome.bytesUp += bytes
        devices[part.device].spent.bytesUp += bytes
        if isWhole {
          delivered.append(part.device)
          devices[part.device].work = part.work
          share += device.share
          progress += configuration.learning.progress(
            share: device.share, fidelity: fidelities[part.level],
            age: part.isSent ? ageWhenSent(part.level) : age(ofHeldBy: part.device), gap: gap,
            work: part.work)
        }
      }
      devices[part.device].battery -= joules
      devices[part.device].spent.bytesDown += sent
      devices[part.device].spent.joules += joules
      if got == 1 {
        devices[part.device].spent.memory = max(
          devices[part.device].spent.memory, configuration.levels[part.level].memory)
      }
      devices[part.device].spent.seconds += min(seconds, deadline)
      outcome.joules += joules
      outcome.seconds = max(outcome.seconds, seconds)
    }
    outcome.delivered = delivered.count
    if !delivered.isEmpty || server.weight > 0 {
      for level in levelAges.indices { levelAges[level] += 1 }
    }
    for index in devices.indices { devices[index].recency *= LearningModel.retained }
    for index in delivered { devices[index].recency = 1 }
    progress = self.progress(
      ofDevices: progress, share: share, coverage: coverage, gap: gap)
    outcome.seconds = max(outcome.seconds, configuration.server.seconds)
    outcome.seconds = min(outcome.seconds, configuration.deadline) + configuration.aggregation
    gap *= 1 - min(progress, 1)
    let objective = configuration.objective
    outcome.cost =
      aimCost(outcome.seconds, delivered: outcome.delivered)
      + objective.memory * memory / Double(devices.count)
      + objective.energy * outcome.joules / objective.referenceEnergy
    move(outcome.seconds)
    round += 1
    time += outcome.seconds
    return outcome
  }

  // MARK: How old levels are

  /// Rounds that a level is old which is sent now.
  func ageWhenSent(_ level: Int) -> Double {
    configuration.levelsAge == .sinceMade ? levelAges[level] : 0
  }

  /// Rounds that the level is old which a device holds; it must hold one.
  func age(ofHeldBy number: Int) -> Double {
    let device = devices[number]
    return configuration.levelsAge == .sinceMade ? levelAges[device.held] : device.age
  }

  /// Whether a device holds what it would be sent: bytes that do not change are not sent again.
  private func hasCopy(_ number: Int, of level: Int) -> Bool {
    configuration.levelsAge == .sinceMade && devices[number].held == level
  }

  /// A level was made anew: copies of the old one are of no use.
  mutating func renew(_ level: Int) {
    levelAges[level] = 0
    for index in devices.indices where devices[index].held == level {
      devices[index].held = -1
      devices[index].age = 0
    }
  }

  /// As if the updates since then had never come: time has passed, and what was sent is there.
  mutating func takeBack(to before: EdgeCell) {
    (gap, round) = (before.gap, before.round)
    levelAges = before.levelAges
    for index in devices.indices { devices[index].recency = before.devices[index].recency }
  }

  /// What a round's duration and the gap that it left cost.
  private func aimCost(_ seconds: Double, delivered: Int) -> Double {
    let objective = configuration.objective
    let start = configuration.learning.startGap
    switch objective.aim {
    case .weighted:
      return objective.gap * gap / start + objective.time * seconds / objective.referenceTime
    case .timeToTarget:
      let time = seconds / objective.referenceTime
      let isMissed = round + 1 >= configuration.rounds && gap > configuration.target
      // Waiting for better times is no way to get there.
      return (delivered > 0 ? time : max(time, 1))
        + (isMissed
          ? Double(configuration.rounds) * (1 + (gap - configuration.target) / start) : 0)
    }
  }

  /// Whether an episode is over.
  var isOver: Bool {
    round >= configuration.rounds
      || configuration.objective.aim == .timeToTarget && gap <= configuration.target
  }

  /// A device's part in a round.
  private struct Part {
    var device: Int
    var level: Int
    /// Whether it is sent the level.
    var isSent: Bool
    var work: EdgeWork
    /// Bytes that it is sent, and that it sends.
    var sent: Double
    var received: Double
    /// Of training.
    var seconds: Double
  }

  private func rate(_ device: EdgeDevice, _ band: Double, isUp: Bool) -> Double {
    let channel = device.channel
    return isUp
      ? world.rates.uplink(
        gain: channel.gain, band: band, hasLineOfSight: channel.hasLineOfSight)
      : world.rates.downlink(
        gain: channel.gain, band: band, hasLineOfSight: channel.hasLineOfSight)
  }

  /// Time passes: devices move, come and go, and their channels change.
  private mutating func move(_ seconds: Double) {
    let configuration = world.configuration
    for index in devices.indices {
      devices[index].age += 1
      let own = configuration.classes[devices[index].kind]
      let moved = devices[index].position.advance(
        seconds, configuration.mobility, least: world.loss.leastDistance,
        radius: configuration.radio.radius, &random)
      devices[index].link.advance(
        world.loss, distance: devices[index].position.distance, moved: moved, configuration.radio,
        &random)
      if own.stays < 1 {
        devices[index].isThere =
          random.fraction() < (devices[index].isThere ? own.stays : own.returns)
      }
      devices[index].channel = .init(
        gain: devices[index].link.gain(world.loss),
        hasLineOfSight: devices[index].link.hasLineOfSight)
    }
    // What is reported is some rounds old.
    channels += devices.map(reportable)
    for (index, channel) in channels.prefix(devices.count).enumerated() {
      devices[index].report = .init(
        gain: channel.gain * devices[index].reportFactor, hasLineOfSight: channel.hasLineOfSight)
    }
    channels.removeFirst(devices.count)
  }
}

// MARK: What planners know

extension EdgeCell: PlanningView {
  var levels: [EmulatorLevel] { configuration.levels }
  var objective: Objective { configuration.objective }
  var learning: LearningModel { configuration.learning }
  var server: EdgeServer { configuration.server }
  var adapterBytes: Double { configuration.adapterBytes }
  var adapterDownBytes: Double { configuration.downloadBytes ?? configuration.adapterBytes }
  var choices: WorkChoices { configuration.work }
  var uploads: [UploadSize] { configuration.uploads }
  var deadline: Double { configuration.deadline }
  var aggregation: Double { configuration.aggregation }
  var target: Double { configuration.target }
  var rounds: Int { configuration.rounds }
  var deviceCount: Int { devices.count }

  func device(_ number: Int) -> PlannedDevice {
    let device = devices[number]
    let own = configuration.classes[device.kind]
    return PlannedDevice(
      share: device.share, held: device.held,
      heldFidelity: device.held >= 0 ? configuration.levels[device.held].fidelity : 0,
      age: device.held >= 0 ? age(ofHeldBy: number) : device.age, recency: device.recency,
      compute: device.believedCompute, memory: device.memory,
      dropout: own.dropout, energyPerOperation: own.energyPerOperation,
      charge: own.battery.map { max(device.battery / $0, 0) } ?? 1, isThere: device.isThere)
  }

  var sharesBand: Bool { configuration.radio.sharing != .dedicated }

  func isStale(_ number: Int) -> Bool {
    configuration.levelsAge == .sinceSent && devices[number].age >= 10
  }

  var levelsAge: LevelAge { configuration.levelsAge }

  func bytesToSend(_ level: Int, to number: Int) -> Double {
    hasCopy(number, of: level) ? 0 : configuration.levels[level].bytes
  }

  func believedRates(_ number: Int, participants: Double) -> (down: Double, up: Double) {
    let isDedicated = configuration.radio.sharing == .dedicated
    let band = world.bandwidth / (isDedicated ? Double(devices.count) : max(participants, 1))
    let report = devices[number].report
    return (
      world.rates.downlink(
        gain: report.gain, band: band, hasLineOfSight: report.hasLineOfSight),
      world.rates.uplink(gain: report.gain, band: band, hasLineOfSight: report.hasLineOfSight)
    )
  }
}
