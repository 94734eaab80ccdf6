import PeatControl
import PeatTensor

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// A small fixed environment of ten devices in a cell, of which returns of other people's learners are known.
///
/// One step is one round of a federation. A device has a distance, a shadowing, a speed of computing, a memory and a share of
/// the data; a decision gives it an emulator level, selects it, and sends the emulator again. Rates are Shannon's over an
/// equal share of the band; the loss falls by what the chosen devices' emulators are good for. It is simpler than
/// `EdgeEnvironment` and exists to be compared with: constants and arithmetic are those of the peers' script in numpy.
public final class AnchorCell: ControlEnvironment {
  /// Shares of the emulator's layers that levels keep, and what an update made on them is worth.
  static let kept = [1, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125]
  static let quality = [1, 0.985, 0.955, 0.905, 0.83, 0.70, 0.50, 0.22]
  static let levels = kept.count
  /// In GB: adapter and optimizer, emulator weights and activations.
  static let needed = kept.map { 0.15 + 0.9 * $0 }
  /// Rounds of an episode.
  public static let horizon = 50

  static let bandwidth = 20e6
  /// −174 dBm/Hz and a noise figure of 9 dB, in watts per hertz.
  static let noise = pow(10, (-174 - 30 + 9) / 10.0)
  /// 43 dBm of the base station, 23 dBm of a device, in watts.
  static let downlinkPower = pow(10, 1.3)
  static let uplinkPower = pow(10, -0.7)
  static let emulatorBits = 8 * 320e6
  static let adapterBits = 8 * 12e6
  static let emulatorWork = 60e12
  static let adapterWork = 12e12
  static let timeWeight = 0.08
  static let memoryWeight = 0.05
  static let penalty = 0.5
  /// In seconds; a round lasts six times as long at most.
  static let referenceTime = 120.0
  static let startPerplexity = 40.0
  static let finalPerplexity = 15.0

  /// What is known of a device.
  public struct Device: Sendable, Equatable {
    var distance = 0.0
    var speed = 0.0
    var shadowing = 0.0
    /// Of the channel's power.
    var gain = 1e-12
    /// In FLOP/s.
    var compute = 1e12
    /// In GB.
    var memory = 1.0
    /// Of all data.
    var share = 0.1
    /// -1: none.
    var held = -1
    var age = 0.0
  }

  /// One federation.
  public struct Process: Sendable, Equatable {
    public var devices: [Device]
    package var perplexity = AnchorCell.startPerplexity
    var round = 0

    /// From 1 at the start towards 0.
    package var gap: Double {
      (perplexity - AnchorCell.finalPerplexity)
        / (AnchorCell.startPerplexity - AnchorCell.finalPerplexity)
    }
  }

  public let shape: ControlShape
  public private(set) var processes: [Process]
  public var count: Int { processes.count }
  private var random: SeededRandom

  /// As it was measured with others.
  public static let deviceCount = 10

  public init(count: Int, devices: Int = deviceCount, seed: UInt64) {
    do {
      shape = ControlShape(
        devices: devices, deviceFeatures: 6, globalFeatures: 2,
        branches: try .round(levels: Self.levels))
    } catch {
      preconditionFailure("The anchor's branches are well formed: \(error)")
    }
    random = SeededRandom(seed: seed, "anchor")
    processes = Array(
      repeating: Process(devices: Array(repeating: Device(), count: devices)), count: count)
    for index in processes.indices { begin(index) }
  }

  /// Processes in given states.
  init(_ processes: [Process], like other: AnchorCell) {
    shape = other.shape
    random = other.random
    self.processes = processes
  }

  // MARK: Chance

  private func uniform(_ low: Double, _ high: Double) -> Double {
    low + (high - low) * Double(random.next() >> 11) * 0x1p-53
  }

  private func begin(_ index: Int) {
    var total = 0.0
    for number in processes[index].devices.indices {
      var device = Device()
      device.distance = 500 * uniform(0.005, 1).squareRoot()
      device.shadowing = 6 * Double(random.normal())
      device.compute = pow(10, uniform(11.3, 12.3))
      device.memory = uniform(0.35, 2.2)
      device.share = uniform(0.2, 1)
      total += device.share
      fade(&device)
      processes[index].devices[number] = device
    }
    for number in processes[index].devices.indices {
      processes[index].devices[number].share /= total
    }
    processes[index].perplexity = Self.startPerplexity
    processes[index].round = 0
  }

  /// Path loss of TR 38.901 UMa without line of sight at 3.5 GHz, shadowing, and Rayleigh fading averaged over four blocks.
  private func fade(_ device: inout Device) {
    let distance = max(device.distance, 35)
    let loss = Self.lossAtOneMetre + 19.54 * log10(distance * distance + 23.5 * 23.5)
    // A gamma variable of shape 4 and mean 1.
    let product =
      (1 - uniform(0, 1)) * (1 - uniform(0, 1)) * (1 - uniform(0, 1)) * (1 - uniform(0, 1))
    let fading = max(-0.25 * log(product), 1e-3)
    device.gain = exp(-(loss + device.shadowing) * 0.1 * Self.ln10) * fading
  }

  private static let ln10 = log(10.0)
  private static let lossAtOneMetre = 13.54 + 20 * log10(3.5)

  private func move(_ device: inout Device) {
    device.speed = 0.8 * device.speed + 4.8 * Double(random.normal())
    device.distance = min(max(abs(device.distance + device.speed), 35), 500)
    let correlation = exp(-abs(device.speed) / 50)
    device.shadowing =
      correlation * device.shadowing
      + (1 - correlation * correlation).squareRoot() * 6 * Double(random.normal())
  }

  // MARK: What is seen

  public func observe(into observations: UnsafeMutablePointer<Float>) {
    var place = observations
    for process in processes {
      for device in process.devices {
        place[0] = Float((10 * log10(device.gain) + 110) / 20)
        place[1] = Float(log10(device.compute) - 11.8)
        place[2] = Float(device.memory - 1.2)
        place[3] = device.held < 0 ? -1 : Float(device.held) / 7
        place[4] = Float(min(device.age, 20) / 10)
        place[5] = Float(device.share * Double(shape.devices) - 1)
        place += 6
      }
      place[0] = Float(process.gap)
      place[1] = Float(process.round) / Float(Self.horizon)
      place += 2
    }
  }

  public func mask(into mask: UnsafeMutablePointer<UInt8>) {
    let width = shape.branches.width
    var place = mask
    for process in processes {
      for device in process.devices {
        let fits = Self.needed.map { $0 <= device.memory }
        let anyFits = fits.contains(true)
        place[0] = 1
        place[1] = anyFits ? 1 : 0
        // Without an emulator that fits, one must be sent.
        place[2] = device.held >= 0 && fits[device.held] ? 1 : 0
        place[3] = 1
        for level in 0..<Self.levels { place[4 + level] = fits[level] || !anyFits ? 1 : 0 }
        place += width
      }
    }
  }

  // MARK: What a round costs

  /// Rates in bit/s where so many share the band.
  static func rates(_ gain: Double, participants: Double) -> (down: Double, up: Double) {
    let band = bandwidth / max(participants, 1)
    // The base station spreads its power evenly over the band.
    return (
      band * log2(1 + downlinkPower / bandwidth * gain / noise),
      band * log2(1 + uplinkPower * gain / (noise * band))
    )
  }

  /// A joint action's cost, and what the process is after it but for movement. A pure function: the search uses it too.
  package static func cost(
    _ process: Process, _ actions: UnsafePointer<Int32>, branches: Int
  ) -> (cost: Double, after: Process, duration: Double) {
    var after = process
    let count = process.devices.count
    var participants = 0
    for device in 0..<count where actions[device * branches] != 0 { participants += 1 }
    var longest = 0.0
    var gain = 0.0
    var memory = 0.0
    var failures = 0
    for number in 0..<count {
      let action = actions + number * branches
      let device = process.devices[number]
      let isSelected = action[ActionBranches.Place.select] != 0
      let isSent = action[ActionBranches.Place.exchange] != 0
      let level = isSent ? Int(action[ActionBranches.Place.level]) : device.held
      after.devices[number].age += 1
      guard isSelected else { continue }
      let rate = rates(device.gain, participants: Double(participants))
      var time = (adapterBits + (isSent ? emulatorBits * kept[level] : 0)) / rate.down
      if isSent {
        after.devices[number].held = level
        after.devices[number].age = 0
      }
      if level >= 0, needed[level] <= device.memory {
        time += (adapterWork + emulatorWork * kept[level]) / device.compute + adapterBits / rate.up
        gain += quality[level] * exp(-0.06 * (isSent ? 0 : device.age)) * device.share
        memory += needed[level] / device.memory
      } else {
        failures += 1
      }
      longest = max(longest, time)
    }
    let duration = min(longest, 6 * referenceTime)
    after.perplexity =
      finalPerplexity + (process.perplexity - finalPerplexity) * (1 - 0.25 * gain)
    let cost =
      after.gap + timeWeight * duration / referenceTime + memoryWeight * memory / Double(count)
      + penalty * Double(failures) / Double(count)
    return (cost, after, duration)
  }

  public func step(
    _ actions: UnsafePointer<Int32>, into outcomes: UnsafeMutablePointer<ControlOutcome>
  ) {
    for index in processes.indices {
      let result = Self.cost(
        processes[index], actions + index * shape.choices, branches: shape.branches.count)
      processes[index] = result.after
      for number in processes[index].devices.indices {
        move(&processes[index].devices[number])
      }
      processes[index].round += 1
      // How far it is can be seen, so the end is an end.
      let isLast = processes[index].round >= Self.horizon
      outcomes[index] = ControlOutcome(
        reward: Float(-result.cost), duration: Float(result.duration / Self.referenceTime),
        ending: isLast ? .isOver : .goesOn)
      if isLast { continue }
      for number in processes[index].devices.indices {
        fade(&processes[index].devices[number])
      }
    }
  }

  public func reset(_ process: Int) { begin(process) }
}
