/// The best joint decision of one round, exactly, in polynomial time.
///
/// Where a device's rate depends on how many take part and not on who they are, each device has a few options of fixed delay and
/// fixed cost, and the round takes as long as its slowest participant:
///
///     min over K, chosen options   Σ_i cost_i + price(max_i delay_i)
///
/// For each K the bound T on the delays is raised over all delays there are; below it each device has a cheapest option, and the K
/// cheapest devices take part. Their costs plus price(T) are at least the objective and equal it at the optimum, so
/// the least of them is the optimum, as brute force finds it. O(N · M log M), M = N × options, for all K together O(N² · …).
public struct OneRoundSearch {
  /// What a device can do in a round.
  public struct Option: Sendable {
    /// In seconds.
    public var delay: Double
    /// What it adds to the objective, beside the round's duration; negative where it gains.
    public var cost: Double

    public init(delay: Double, cost: Double) {
      self.delay = delay
      self.cost = cost
    }
  }

  public struct Solution: Sendable, Equatable {
    public var value: Double
    /// The option of each device; -1: it does not take part.
    public var choices: [Int]
  }

  private var events: [(delay: Double, device: Int32, option: Int32, cost: Double)] = []
  private var best: [Double] = []
  private var bestOption: [Int] = []
  /// The best costs so far, the least first.
  private var sorted: [Double] = []

  public init() {}

  /// - Parameters:
  ///   - devices: N.
  ///   - idle: the objective where nobody takes part.
  ///   - price: what a round of so many seconds costs; it must not fall.
  ///   - options: appends the options of a device where so many take part; one that can't be had has an infinite cost.
  public mutating func solve(
    devices: Int, idle: Double, price: (Double) -> Double,
    options: (_ device: Int, _ participants: Int, _ into: inout [Option]) -> Void
  ) -> Solution {
    var solution = Solution(value: idle, choices: Array(repeating: -1, count: devices))
    var found: (participants: Int, bound: Double)?
    var list: [Option] = []
    for participants in 1...max(devices, 1) {
      collect(devices, participants, options, &list)
      sorted.removeAll(keepingCapacity: true)
      best = Array(repeating: .infinity, count: devices)
      var sum = 0.0
      for (number, event) in events.enumerated() {
        let device = Int(event.device)
        guard event.cost < best[device] else { continue }
        sum += replace(best[device], by: event.cost, among: participants)
        best[device] = event.cost
        // All options of this delay first.
        let isLast = number + 1 == events.count || events[number + 1].delay > event.delay
        guard sorted.count >= participants, isLast || sum < .infinity else { continue }
        let value = idle + sum + price(event.delay)
        if value < solution.value - 1e-12 {
          solution.value = value
          found = (participants, event.delay)
        }
      }
    }
    if let found { choose(found.participants, found.bound, devices, options, &solution, &list) }
    return solution
  }

  private mutating func collect(
    _ devices: Int, _ participants: Int,
    _ options: (Int, Int, inout [Option]) -> Void, _ list: inout [Option]
  ) {
    events.removeAll(keepingCapacity: true)
    for device in 0..<devices {
      list.removeAll(keepingCapacity: true)
      options(device, participants, &list)
      for (number, option) in list.enumerated()
      where option.cost < .infinity && option.delay < .infinity {
        events.append((option.delay, Int32(device), Int32(number), option.cost))
      }
    }
    events.sort { ($0.delay, $0.device, $0.option) < ($1.delay, $1.device, $1.option) }
  }

  /// Puts a cost in the place of a device's former one; returns by how much the sum of the `count` least changes.
  private mutating func replace(_ old: Double, by new: Double, among count: Int) -> Double {
    var change = 0.0
    if old < .infinity {
      let place = index(of: old)
      if place < count {
        change -= old
        if count < sorted.count { change += sorted[count] }
      }
      sorted.remove(at: place)
    }
    let place = index(of: new)
    if place < count {
      change += new
      if sorted.count >= count { change -= sorted[count - 1] }
    }
    sorted.insert(new, at: place)
    return change
  }

  /// The first place whose cost is at least this.
  private func index(of cost: Double) -> Int {
    var (low, high) = (0, sorted.count)
    while low < high {
      let middle = (low + high) / 2
      if sorted[middle] < cost { low = middle + 1 } else { high = middle }
    }
    return low
  }

  /// The decisions behind the best bound.
  private mutating func choose(
    _ participants: Int, _ bound: Double, _ devices: Int,
    _ options: (Int, Int, inout [Option]) -> Void, _ solution: inout Solution,
    _ list: inout [Option]
  ) {
    collect(devices, participants, options, &list)
    best = Array(repeating: .infinity, count: devices)
    bestOption = Array(repeating: -1, count: devices)
    for event in events where event.delay <= bound && event.cost < best[Int(event.device)] {
      best[Int(event.device)] = event.cost
      bestOption[Int(event.device)] = Int(event.option)
    }
    let order = (0..<devices).sorted { (best[$0], $0) < (best[$1], $1) }
    for device in order.prefix(participants) { solution.choices[device] = bestOption[device] }
  }
}
