import PeatControl
import PeatTensor

/// Two devices, three emulator levels, channels that are good or bad: small enough that the optimum is known exactly.
///
/// A device holds a level or none, of an age of 0 to 2; a global progress of 0 to 120 brings the gap down. A device idles, trains
/// on what it holds, or downloads a level and trains: 69,696 states, 25 joint actions, discount 0.95.
struct TwoDeviceProcess {
  struct Device: Equatable {
    var held = -1
    var age = 2
    var isGood = 0
  }

  static let kept = [1.0, 0.5, 0.25]
  static let quality = [1.0, 0.83, 0.5]
  static let staleness = [1.0, 0.8, 0.5]
  static let speed = [1e12, 0.4e12]
  /// The second device can't hold the whole emulator.
  static let firstLevel = [0, 1]
  static let rates = [8e6, 40e6]
  static let emulatorBits = 8 * 300e6
  static let adapterBits = 8 * 10e6
  static let stays = 0.8
  static let maximum = 120
  static let discount = 0.95
  static let gaps = (0...maximum).map { power(0.97, Double($0)) }

  /// Options of a device: 0 idles, 1 trains on what it holds, 2 + k downloads level k and trains.
  static let options = 5
  static let devices: [Device] = (-1...2).flatMap { held in
    (0..<3).flatMap { age in (0..<2).map { Device(held: held, age: age, isGood: $0) } }
  }

  static func index(_ device: Device) -> Int {
    ((device.held + 1) * 3 + device.age) * 2 + device.isGood
  }

  /// What one device adds to a round that so many take part in.
  static func result(
    _ number: Int, _ device: Device, _ option: Int, participants: Int
  ) -> (time: Double, gain: Double, after: Device, fails: Bool) {
    var after = device
    after.age = min(device.age + 1, 2)
    if option == 0 { return (0, 0, after, false) }
    let level = option == 1 ? device.held : option - 2
    let rate = rates[device.isGood] / Double(participants)
    var time = adapterBits / rate
    if option > 1 { time += emulatorBits * kept[level] / rate }
    if level < 0 || level < firstLevel[number] { return (time, 0, after, true) }
    let age = option > 1 ? 0 : device.age
    time += (10e12 + 40e12 * kept[level]) / speed[number] + adapterBits / rate
    after.held = level
    after.age = min(age + 1, 2)
    return (time, 0.5 * quality[level] * staleness[age], after, false)
  }

  /// Cost of a round, and where it leads but for the channels.
  static func round(
    _ first: Device, _ second: Device, _ progress: Int, _ options: (Int, Int)
  ) -> (cost: Double, first: Device, second: Device, progress: Int) {
    let participants = max((options.0 > 0 ? 1 : 0) + (options.1 > 0 ? 1 : 0), 1)
    let a = result(0, first, options.0, participants: participants)
    let b = result(1, second, options.1, participants: participants)
    let step = Int((10 * (a.gain + b.gain)).rounded(.toNearestOrEven))
    let next = min(progress + step, maximum)
    let cost =
      gaps[next] + 0.06 * max(a.time, b.time) / 100
      + 0.5 * ((a.fails ? 1 : 0) + (b.fails ? 1 : 0))
    return (cost, a.after, b.after, next)
  }

  // MARK: Exactly

  private static let count = devices.count
  private static let width = maximum + 1

  /// The cost of every action in every state, and what follows with both channels bad.
  private static let table: (costs: [Double], next: [Int32]) = {
    let actions = options * options
    var costs = Array(repeating: 0.0, count: actions * count * count * width)
    var next = Array(repeating: Int32(0), count: costs.count)
    for action in 0..<actions {
      for (i, first) in devices.enumerated() {
        for (j, second) in devices.enumerated() {
          for progress in 0..<width {
            let result = round(first, second, progress, (action / options, action % options))
            var (a, b) = (result.first, result.second)
            (a.isGood, b.isGood) = (0, 0)
            let place = ((action * count + i) * count + j) * width + progress
            costs[place] = result.cost
            next[place] = Int32((index(a) * count + index(b)) * width + result.progress)
          }
        }
      }
    }
    return (costs, next)
  }()

  /// One application of the Bellman operator: with the best action, or with a policy's.
  private static func sweep(_ values: [Double], policy: [UInt8]?, best: inout [UInt8]) -> [Double] {
    // E of what follows, by the channels now: `values` with both channels bad is the place that the table names.
    let states = count * count * width
    let (costs, next) = table
    var expected = Array(repeating: 0.0, count: 4 * states)
    for c0 in 0..<2 {
      for c1 in 0..<2 {
        let p0 = c0 == 1 ? stays : 1 - stays
        let p1 = c1 == 1 ? stays : 1 - stays
        for i in stride(from: 0, to: count, by: 2) {
          for j in stride(from: 0, to: count, by: 2) {
            for progress in 0..<width {
              func value(_ a: Int, _ b: Int) -> Double {
                values[((i + a) * count + j + b) * width + progress]
              }
              expected[(c0 * 2 + c1) * states + (i * count + j) * width + progress] =
                (1 - p0) * (1 - p1) * value(0, 0) + p0 * (1 - p1) * value(1, 0)
                + (1 - p0) * p1 * value(0, 1) + p0 * p1 * value(1, 1)
            }
          }
        }
      }
    }
    var result = values
    for i in 0..<count {
      for j in 0..<count {
        let channels = (i % 2 * 2 + j % 2) * states
        for progress in 0..<width {
          let state = (i * count + j) * width + progress
          func cost(_ action: Int) -> Double {
            let place = action * states + state
            return costs[place] + discount * expected[channels + Int(next[place])]
          }
          if let policy {
            result[state] = cost(Int(policy[state]))
          } else {
            var least = Double.infinity
            for action in 0..<options * options {
              let value = cost(action)
              if value < least { (least, best[state]) = (value, UInt8(action)) }
            }
            result[state] = least
          }
        }
      }
    }
    return result
  }

  /// The optimum's costs from every state, and its actions.
  static func optimum() -> (values: [Double], actions: [UInt8]) {
    var values = Array(repeating: 0.0, count: count * count * width)
    var actions = Array(repeating: UInt8(0), count: values.count)
    while true {
      let next = sweep(values, policy: nil, best: &actions)
      let change = zip(values, next).reduce(0) { max($0, abs($1.0 - $1.1)) }
      values = next
      if change < 1e-10 { return (values, actions) }
    }
  }

  /// A policy's costs from every state.
  static func costs(of policy: [UInt8]) -> [Double] {
    var values = Array(repeating: 0.0, count: count * count * width)
    var unused = policy
    for _ in 0..<600 { values = sweep(values, policy: policy, best: &unused) }
    return values
  }

  /// Costs from the beginning, by the channels of the first and the second device.
  static func start(_ values: [Double]) -> [Double] {
    [(0, 0), (0, 1), (1, 0), (1, 1)].map { channels in
      let first = index(Device(isGood: channels.0))
      let second = index(Device(isGood: channels.1))
      return values[(first * count + second) * width]
    }
  }
}

/// The same process to be learned in.
final class TwoDeviceEnvironment: ControlEnvironment {
  let shape: ControlShape
  let count: Int
  private var states:
    [(first: TwoDeviceProcess.Device, second: TwoDeviceProcess.Device, progress: Int, round: Int)]
  private var random: SeededRandom
  /// Rounds after which an episode is cut short.
  private let horizon = 60

  init(count: Int, seed: UInt64) throws {
    self.count = count
    shape = ControlShape(
      devices: 2, deviceFeatures: 9, globalFeatures: 2, branches: try .round(levels: 3))
    random = SeededRandom(seed: seed, "two devices")
    states = Array(
      repeating: (TwoDeviceProcess.Device(), TwoDeviceProcess.Device(), 0, 0), count: count)
    for process in 0..<count { reset(process) }
  }

  static func observe(
    _ first: TwoDeviceProcess.Device, _ second: TwoDeviceProcess.Device, _ progress: Int,
    into place: UnsafeMutablePointer<Float>
  ) {
    for (number, device) in [first, second].enumerated() {
      let own = place + number * 9
      for i in 0..<9 { own[i] = 0 }
      own[device.held + 1] = 1
      own[4 + device.age] = 1
      own[7] = Float(device.isGood)
      own[8] = Float(number)
    }
    place[18] = Float(TwoDeviceProcess.gaps[progress])
    place[19] = Float(progress) / Float(TwoDeviceProcess.maximum)
  }

  static func mask(
    _ first: TwoDeviceProcess.Device, _ second: TwoDeviceProcess.Device,
    into place: UnsafeMutablePointer<UInt8>
  ) {
    for (number, device) in [first, second].enumerated() {
      let own = place + number * 7
      (own[0], own[1]) = (1, 1)
      own[2] = device.held >= TwoDeviceProcess.firstLevel[number] ? 1 : 0
      own[3] = 1
      for level in 0..<3 { own[4 + level] = level >= TwoDeviceProcess.firstLevel[number] ? 1 : 0 }
    }
  }

  /// The option that a device's branches mean.
  static func option(_ action: UnsafePointer<Int32>) -> Int {
    action[ActionBranches.Place.select] == 0
      ? 0
      : action[ActionBranches.Place.exchange] == 0 ? 1 : 2 + Int(action[ActionBranches.Place.level])
  }

  func observe(into observations: UnsafeMutablePointer<Float>) {
    for (process, state) in states.enumerated() {
      Self.observe(
        state.first, state.second, state.progress,
        into: observations + process * shape.observationSize)
    }
  }

  func mask(into mask: UnsafeMutablePointer<UInt8>) {
    for (process, state) in states.enumerated() {
      Self.mask(state.first, state.second, into: mask + process * shape.logits)
    }
  }

  func step(
    _ actions: UnsafePointer<Int32>, into outcomes: UnsafeMutablePointer<ControlOutcome>
  ) {
    for process in 0..<count {
      let action = actions + process * shape.choices
      let state = states[process]
      let result = TwoDeviceProcess.round(
        state.first, state.second, state.progress,
        (Self.option(action), Self.option(action + shape.branches.count)))
      states[process] = (result.first, result.second, result.progress, state.round + 1)
      // Channels stay as they are, four times of five.
      if random.uniform() < 0.2 { states[process].first.isGood = 1 - state.first.isGood }
      if random.uniform() < 0.2 { states[process].second.isGood = 1 - state.second.isGood }
      outcomes[process] = ControlOutcome(
        reward: Float(-result.cost),
        ending: state.round + 1 >= horizon ? .isCutShort : .goesOn)
    }
  }

  func reset(_ process: Int) {
    states[process] = (
      .init(isGood: random.integer(below: 2)), .init(isGood: random.integer(below: 2)), 0, 0
    )
  }
}

/// A network's decisions in every state.
func tabulate(_ network: any ActorCritic) -> [UInt8] {
  let devices = TwoDeviceProcess.devices
  let width = TwoDeviceProcess.maximum + 1
  let shape = network.shape
  let distributions = BranchDistributions(shape.branches, gated: true)
  let tape = Tape()
  var policy: [UInt8] = []
  var observations = Tensor(zeros: [devices.count * width, shape.observationSize])
  var masks = [UInt8](repeating: 0, count: devices.count * width * shape.logits)
  var actions = [Int32](repeating: 0, count: devices.count * width * shape.choices)
  for first in devices {
    observations = Tensor(zeros: observations.shape)
    for (j, second) in devices.enumerated() {
      for progress in 0..<width {
        let row = j * width + progress
        TwoDeviceEnvironment.observe(
          first, second, progress, into: observations.pointer + row * shape.observationSize)
        masks.withUnsafeMutableBufferPointer {
          TwoDeviceEnvironment.mask(first, second, into: $0.baseAddress! + row * shape.logits)
        }
      }
    }
    let (logits, _) = network(observations, on: tape)
    distributions.update(
      logits: logits.pointer, mask: masks, rows: devices.count * width * shape.devices)
    distributions.greedy(into: &actions)
    for row in 0..<devices.count * width {
      actions.withUnsafeBufferPointer {
        let action = $0.baseAddress! + row * shape.choices
        policy.append(
          UInt8(
            TwoDeviceEnvironment.option(action) * TwoDeviceProcess.options
              + TwoDeviceEnvironment.option(action + shape.branches.count)))
      }
    }
  }
  return policy
}
