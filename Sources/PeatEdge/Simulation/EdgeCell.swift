import PeatTensor

/// One cell with its devices, round by round: the physics of a simulated federation.
public struct EdgeCell: Sendable {
  /// What does not change: shared by all cells of a simulation.
  final class World: Sendable {
    let configuration: EdgeConfiguration
    let loss: PathLoss
    let rates: RadioRates
    /// Each level's blocks as bits.
    let blocks: [[UInt64]]

    init(_ configuration: EdgeConfiguration) {
      self.configuration = configuration
      loss = PathLoss(configuration.radio.scenario, carrier: configuration.radio.carrier)
      rates = RadioRates(configuration.radio)
      blocks = configuration.levels.map { level in
        var words = Array(repeating: UInt64(0), count: (configuration.middleBlocks + 63) / 64)
        for block in level.blocks { words[block / 64] |= 1 << UInt64(block % 64) }
        return words
      }
    }
  }

  let world: World
  public internal(set) var devices: [EdgeDevice] = []
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
    let gain = link.gain(world.loss)
    let depth = configuration.uncertainty.delay + 1
    let error = configuration.uncertainty.channel
    let bias = error == 0 ? 1 : ratio(decibels: random.fraction(-error, error))
    return EdgeDevice(
      kind: kind, position: position, link: link,
      compute: compute * vary(configuration.uncertainty.compute), believedCompute: compute,
      reportFactor: bias, memory: memory, share: share, battery: own.battery ?? .infinity,
      seen: Array(repeating: 0, count: (configuration.middleBlocks + 63) / 64),
      gains: Array(repeating: gain, count: depth),
      sightings: Array(repeating: link.hasLineOfSight, count: depth))
  }

  // MARK: What may be decided

  /// Whether a device has the memory for a level, and may see its blocks.
  func allows(_ level: Int, _ device: EdgeDevice) -> Bool {
    configuration.levels[level].memory <= device.memory
      && device.exposure(with: world.blocks[level], of: configuration.middleBlocks)
        <= configuration.maxExposure + 1e-9
  }

  /// Whether it can train on what it holds.
  func holdsUsable(_ device: EdgeDevice) -> Bool {
    device.held >= 0 && configuration.levels[device.held].memory <= device.memory
  }

  func canTakePart(_ device: EdgeDevice) -> Bool {
    device.isThere && device.battery > 0
      && (holdsUsable(device) || configuration.levels.indices.contains { allows($0, device) })
  }

  // MARK: What a round takes, as planners believe

  /// Seconds of a device's round where so many share the band equally.
  func believedSeconds(
    _ device: EdgeDevice, level: Int, isSent: Bool, participants: Double
  ) -> Double {
    let band = configuration.radio.bandwidth / max(participants, 1)
    let down = world.rates.downlink(
      gain: device.reportedGain, band: band, hasLineOfSight: device.reportedLineOfSight)
    let up = world.rates.uplink(
      gain: device.reportedGain, band: band, hasLineOfSight: device.reportedLineOfSight)
    let sent = configuration.adapterBytes + (isSent ? configuration.levels[level].bytes : 0)
    return 8 * sent / down + configuration.levels[level].work / device.believedCompute
      + 8 * configuration.adapterBytes / up
  }

  // MARK: A round

  /// Carries decisions out; those that can't be are as if they had not been made, and too little memory is counted.
  mutating func advance(_ decisions: [EdgeDecision]) -> EdgeOutcome {
    var outcome = EdgeOutcome()
    var parts: [(device: Int, level: Int, sent: Double)] = []
    for (number, decision) in decisions.enumerated() where decision.isSelected {
      let device = devices[number]
      guard device.isThere, device.battery > 0 else { continue }
      let level = decision.level ?? device.held
      guard level >= 0 else { continue }
      guard configuration.levels[level].memory <= device.memory else {
        outcome.violations += 1
        continue
      }
      if let sent = decision.level, !allows(sent, device) { continue }
      parts.append(
        (
          number, level,
          configuration.adapterBytes
            + (decision.level == nil ? 0 : configuration.levels[level].bytes)
        ))
      if decision.level != nil {
        devices[number].held = level
        devices[number].age = 0
        for word in devices[number].seen.indices {
          devices[number].seen[word] |= world.blocks[level][word]
        }
      }
    }
    outcome.participants = parts.count
    let (down, up) = bands(parts)
    var progress = 0.0
    var memory = 0.0
    for (place, part) in parts.enumerated() {
      let device = devices[part.device]
      let own = configuration.classes[device.kind]
      let downSeconds = 8 * part.sent / rate(device, down[place], isUp: false)
      let upSeconds = 8 * configuration.adapterBytes / rate(device, up[place], isUp: true)
      let compute = configuration.levels[part.level].work / device.compute
      var seconds = downSeconds + compute + upSeconds
      outcome.bytesDown += part.sent
      memory += configuration.levels[part.level].memory / device.memory
      var joules =
        own.receivePower * downSeconds + own.energyPerOperation
        * configuration.levels[part.level].work
      let fails = own.dropout > 0 && random.fraction() < own.dropout
      if fails {
        // It is waited for half as long again as it would have taken.
        seconds *= 1.5
      } else if seconds <= configuration.deadline {
        joules += own.sendPower * upSeconds
        outcome.bytesUp += configuration.adapterBytes
        outcome.delivered += 1
        progress += configuration.learning.progress(
          share: device.share, fidelity: fidelities[part.level], age: device.age, gap: gap)
      }
      devices[part.device].battery -= joules
      outcome.joules += joules
      outcome.seconds = max(outcome.seconds, seconds)
    }
    outcome.seconds = min(outcome.seconds, configuration.deadline) + configuration.aggregation
    gap *= 1 - min(progress, 1)
    let objective = configuration.objective
    outcome.cost =
      objective.gap * gap / configuration.learning.startGap
      + objective.time * outcome.seconds / objective.referenceTime
      + objective.memory * memory / Double(devices.count)
      + objective.energy * outcome.joules / objective.referenceEnergy
    move(outcome.seconds)
    round += 1
    time += outcome.seconds
    return outcome
  }

  private func rate(_ device: EdgeDevice, _ band: Double, isUp: Bool) -> Double {
    let (gain, sees) = (device.gains[0], device.sightings[0])
    return isUp
      ? world.rates.uplink(gain: gain, band: band, hasLineOfSight: sees)
      : world.rates.downlink(gain: gain, band: band, hasLineOfSight: sees)
  }

  /// The band of each participant, down and up.
  private func bands(
    _ parts: [(device: Int, level: Int, sent: Double)]
  ) -> (down: [Double], up: [Double]) {
    guard !parts.isEmpty else { return ([], []) }
    let band = configuration.radio.bandwidth
    let equal = Array(repeating: band / Double(parts.count), count: parts.count)
    guard configuration.radio.sharing == .optimal, parts.count > 1 else { return (equal, equal) }
    let compute = parts.map { configuration.levels[$0.level].work / devices[$0.device].compute }
    let upGuess = parts.indices.map {
      8 * configuration.adapterBytes / rate(devices[parts[$0].device], equal[$0], isUp: true)
    }
    let down = BandwidthAllocation.shortest(
      parts.indices.map { .init(beside: compute[$0] + upGuess[$0], bits: 8 * parts[$0].sent) },
      band: band
    ) { rate(devices[parts[$0].device], $1, isUp: false) }
    let downBands = down.seconds < .infinity ? down.bands : equal
    let up = BandwidthAllocation.shortest(
      parts.indices.map {
        .init(
          beside: compute[$0] + 8 * parts[$0].sent
            / rate(devices[parts[$0].device], downBands[$0], isUp: false),
          bits: 8 * configuration.adapterBytes)
      }, band: band
    ) { rate(devices[parts[$0].device], $1, isUp: true) }
    return (downBands, up.seconds < .infinity ? up.bands : equal)
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
      let gain = devices[index].link.gain(world.loss)
      for place in stride(from: devices[index].gains.count - 1, to: 0, by: -1) {
        devices[index].gains[place] = devices[index].gains[place - 1]
        devices[index].sightings[place] = devices[index].sightings[place - 1]
      }
      devices[index].gains[0] = gain
      devices[index].sightings[0] = devices[index].link.hasLineOfSight
    }
  }
}
