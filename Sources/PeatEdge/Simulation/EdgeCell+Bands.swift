/// How a cell's band is divided among those who take part in a round.
extension EdgeCell {
  /// What a device's part in a round asks of the cell.
  struct Demand {
    var channel: EdgeDevice.Channel
    /// Of training.
    var seconds: Double
    /// Bytes that it is sent, and that it sends.
    var sent: Double
    var received: Double
  }

  /// The band of each part, down and up, in hertz.
  func bands(_ parts: [Demand]) -> (down: [Double], up: [Double]) {
    guard !parts.isEmpty else { return ([], []) }
    let band = world.bandwidth
    let isDedicated = configuration.radio.sharing == .dedicated
    let share = band / Double(isDedicated ? devices.count : parts.count)
    let equal = Array(repeating: share, count: parts.count)
    guard configuration.radio.sharing == .optimal, parts.count > 1 else { return (equal, equal) }
    let channels = parts.map(\.channel)
    let rates = world.rates
    var beside: [Double] = []
    for (place, part) in parts.enumerated() {
      let up = rates.uplink(
        gain: channels[place].gain, band: share, hasLineOfSight: channels[place].hasLineOfSight)
      beside.append(
        part.seconds + 8 * part.received / up)
    }
    // A flat spectrum: the rate is the band times what a hertz carries.
    let efficiencies = channels.map {
      rates.downlink(gain: $0.gain, band: 1, hasLineOfSight: $0.hasLineOfSight)
    }
    let down = BandwidthAllocation.shortest(
      parts.indices.map { .init(beside: beside[$0], bits: 8 * parts[$0].sent) }, band: band,
      rate: { efficiencies[$0] * $1 }, need: { $1 / efficiencies[$0] })
    let downBands = down.seconds < .infinity ? down.bands : equal
    for (place, part) in parts.enumerated() {
      beside[place] =
        part.seconds + 8 * part.sent
        / (efficiencies[place] * downBands[place])
    }
    let up = BandwidthAllocation.shortest(
      parts.indices.map { .init(beside: beside[$0], bits: 8 * parts[$0].received) }, band: band
    ) {
      rates.uplink(
        gain: channels[$0].gain, band: $1, hasLineOfSight: channels[$0].hasLineOfSight)
    }
    return (downBands, up.seconds < .infinity ? up.bands : equal)
  }

  /// Seconds of each device's part in a round, by the channel and the compute that it reported, with the band divided as the cell will divide it
  /// among these very devices; 0 where it takes no part.
  func believedSeconds(of decisions: [EdgeDecision]) -> [Double] {
    var seconds = Array(repeating: 0.0, count: decisions.count)
    var numbers: [Int] = []
    var parts: [Demand] = []
    for (number, decision) in decisions.enumerated() where decision.isSelected {
      let device = devices[number]
      let level = decision.level ?? device.held
      guard level >= 0 else { continue }
      numbers.append(number)
      parts.append(
        Demand(
          channel: device.report,
          seconds: world.costs[level].work * decision.work.steps / device.believedCompute,
          sent: adapterDownBytes
            + (decision.level.map { bytesToSend($0, to: number) } ?? 0),
          received: uploadBytes(decision.work)))
    }
    let (down, up) = bands(parts)
    for (place, part) in parts.enumerated() {
      let (gain, isInSight) = (part.channel.gain, part.channel.hasLineOfSight)
      seconds[numbers[place]] =
        8 * part.sent
        / world.rates.downlink(gain: gain, band: down[place], hasLineOfSight: isInSight)
        + part.seconds + 8 * part.received
        / world.rates.uplink(gain: gain, band: up[place], hasLineOfSight: isInSight)
    }
    return seconds
  }
}
