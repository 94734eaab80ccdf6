import PeatControl
import PeatTensor
import TestSupport
import Testing

@Suite("BranchDistributions") struct BranchDistributionsTests {
  private static let branches = try! ActionBranches.round(
    levels: 3, further: [ActionBranch("steps", choices: 2)])

  /// Random logits of some rows, and a mask that leaves each branch a choice.
  private struct Case {
    let rows: Int
    var logits: [Float]
    let mask: [UInt8]

    init(rows: Int, seed: UInt64, masks: Bool) {
      var random = SeededRandom(seed: seed)
      let width = branches.width
      self.rows = rows
      logits = (0..<rows * width).map { _ in 2 * random.normal() }
      var mask = Array(repeating: UInt8(1), count: rows * width)
      if masks {
        for row in 0..<rows {
          for (branch, offset) in zip(branches.list, branches.offsets) {
            let kept = random.integer(below: branch.choices)
            for choice in 0..<branch.choices where choice != kept {
              mask[row * width + offset + choice] = UInt8(random.integer(below: 2))
            }
          }
        }
      }
      self.mask = mask
    }

    func distributions(gated: Bool) -> BranchDistributions {
      let result = BranchDistributions(branches, gated: gated)
      result.update(logits: logits, mask: mask, rows: rows)
      return result
    }

    /// The probability of a branch's choice, from its definition.
    func probability(_ row: Int, _ branch: Int, _ choice: Int) -> Double {
      let first = row * branches.width + branches.offsets[branch]
      let terms = (0..<branches.list[branch].choices).map {
        mask[first + $0] == 0 ? 0 : exponential(Double(logits[first + $0]))
      }
      return terms[choice] / terms.reduce(0, +)
    }
  }

  /// All joint choices of a device.
  private static let actions: [[Int32]] = branches.list.reduce([[]]) { actions, branch in
    actions.flatMap { action in (0..<Int32(branch.choices)).map { action + [$0] } }
  }

  private static func isOpen(_ branch: Int, _ action: [Int32]) -> Bool {
    guard let gate = branches.list[branch].gate else { return true }
    return Int(action[gate.branch]) == gate.choice && isOpen(gate.branch, action)
  }

  /// log π and H of one row, and the gradient of `policy · log π + entropy · H`.
  private static func facts(
    _ distributions: BranchDistributions, _ row: Int, _ action: [Int32], policy: Float = 0,
    entropy: Float = 0
  ) -> (logProbability: Double, entropy: Double, gradient: [Float]) {
    let rows = distributions.rows
    // Of the other rows nothing is wanted.
    let actions = (0..<rows).flatMap { _ in action }
    var logs = [Float](repeating: 0, count: rows)
    distributions.logProbabilities(of: actions, into: &logs)
    func run(_ entropy: Float, _ policies: [Float]) -> (Double, [Float]) {
      var out = [Float](repeating: 7, count: rows * branches.width)
      let total = distributions.gradients(actions, policy: policies, entropy: entropy, into: &out)
      return (total, Array(out[row * branches.width..<(row + 1) * branches.width]))
    }
    var policies = [Float](repeating: 0, count: rows)
    policies[row] = policy
    let (total, gradient) = run(entropy, policies)
    return (Double(logs[row]), total, gradient)
  }

  @Test(arguments: [false, true], [false, true])
  func `probabilities and entropies are those of the definition`(gated: Bool, masks: Bool) {
    let example = Case(rows: 5, seed: 1, masks: masks)
    let distributions = example.distributions(gated: gated)
    var total = 0.0
    for row in 0..<example.rows {
      // What an action does: choices without effect are left out.
      var effective: [[Int32]: Double] = [:]
      var entropy = 0.0
      for action in Self.actions {
        let parts = action.indices.map { example.probability(row, $0, Int(action[$0])) }
        let counted = parts.indices.filter { !gated || Self.isOpen($0, action) }
        let expected = counted.reduce(0) { $0 + naturalLogarithm(parts[$1]) }
        let whole = parts.reduce(1, *)
        guard whole > 0 else { continue }
        #expect(abs(Self.facts(distributions, row, action).logProbability - expected) < 1e-5)
        let key = action.indices.map { counted.contains($0) ? action[$0] : -1 }
        effective[key, default: 0] += whole
      }
      for probability in effective.values { entropy -= probability * naturalLogarithm(probability) }
      total += entropy
    }
    let found = Self.facts(distributions, 0, Self.actions[0]).entropy
    #expect(abs(found - total) < 1e-5, "\(found), \(total)")
  }

  @Test(arguments: [false, true], [false, true])
  func `gradients agree with differences`(gated: Bool, masks: Bool) {
    let example = Case(rows: 3, seed: 2, masks: masks)
    var random = SeededRandom(seed: 3)
    for row in 0..<example.rows {
      var action = [Int32](repeating: 0, count: Self.branches.count)
      let all = example.distributions(gated: gated)
      var drawn = [Int32](repeating: 0, count: example.rows * Self.branches.count)
      all.sample(into: &drawn, using: &random)
      action = Array(drawn[row * Self.branches.count..<(row + 1) * Self.branches.count])
      let analytic = Self.facts(all, row, action, policy: 0.7, entropy: -0.3).gradient
      for place in 0..<Self.branches.width {
        func value(_ step: Float) -> Double {
          var moved = example
          moved.logits[row * Self.branches.width + place] += step
          let facts = Self.facts(moved.distributions(gated: gated), row, action)
          return 0.7 * facts.logProbability - 0.3 * facts.entropy
        }
        let wanted = (value(0.01) - value(-0.01)) / 0.02
        #expect(abs(Double(analytic[place]) - wanted) < 2e-4, "\(place): \(analytic), \(wanted)")
        if example.mask[row * Self.branches.width + place] == 0 { #expect(analytic[place] == 0) }
      }
    }
  }

  @Test func `draws are as frequent as their probability, and never masked`() {
    let example = Case(rows: 4, seed: 5, masks: true)
    let distributions = example.distributions(gated: true)
    var random = SeededRandom(seed: 6)
    let count = Self.branches.count
    var counts = Array(repeating: 0, count: example.rows * Self.branches.width)
    let draws = 40_000
    var actions = [Int32](repeating: 0, count: example.rows * count)
    for _ in 0..<draws {
      distributions.sample(into: &actions, using: &random)
      for row in 0..<example.rows {
        for branch in 0..<count {
          counts[
            row * Self.branches.width + Self.branches.offsets[branch]
              + Int(actions[row * count + branch])] += 1
        }
      }
    }
    distributions.greedy(into: &actions)
    for row in 0..<example.rows {
      for branch in 0..<count {
        let choices = 0..<Self.branches.list[branch].choices
        let expected = choices.map { example.probability(row, branch, $0) }
        for choice in choices {
          let place = row * Self.branches.width + Self.branches.offsets[branch] + choice
          if example.mask[place] == 0 { #expect(counts[place] == 0) }
          let p = expected[choice]
          let deviation = (p * (1 - p) / Double(draws)).squareRoot()
          #expect(abs(Double(counts[place]) / Double(draws) - p) <= 5 * deviation + 1e-9)
        }
        #expect(expected[Int(actions[row * count + branch])] == expected.max())
      }
    }
  }

  @Test func `huge logits are no trouble`() {
    var example = Case(rows: 1, seed: 7, masks: false)
    example.logits = example.logits.indices.map { $0 % 2 == 0 ? 1e30 : -1e30 }
    let distributions = example.distributions(gated: true)
    let (_, entropy, out) = Self.facts(distributions, 0, [0, 0, 0, 0], policy: 1, entropy: 1)
    #expect(entropy.isFinite && out.allSatisfy { $0.isFinite })
  }

  @Test(arguments: [Float.nan, .infinity, -.infinity])
  func `of logits that are no numbers what is allowed is equally likely`(bad: Float) {
    var example = Case(rows: 40, seed: 9, masks: true)
    example.logits = example.logits.map { _ in bad }
    let distributions = example.distributions(gated: false)
    var random = SeededRandom(seed: 1)
    let count = Self.branches.count
    var actions = [Int32](repeating: 0, count: example.rows * count)
    func check() {
      for row in 0..<example.rows {
        for (branch, offset) in Self.branches.offsets.enumerated() {
          let choice = offset + Int(actions[row * count + branch])
          #expect(example.mask[row * Self.branches.width + choice] == 1)
        }
      }
    }
    distributions.greedy(into: &actions)
    check()
    distributions.sample(into: &actions, using: &random)
    check()
    var logs = [Float](repeating: 0, count: example.rows)
    distributions.logProbabilities(of: actions, into: &logs)
    #expect(logs.allSatisfy { $0.isFinite && $0 <= 0 })
  }

  @Test func `a gate must stand before what it opens`() {
    expectError(.badData, "does not stand before it") {
      _ = try ActionBranches([
        ActionBranch("a", choices: 2, gate: .init(branch: 1, choice: 0)),
        ActionBranch("b", choices: 2),
      ])
    }
    expectError(.badData, "0 choices") { _ = try ActionBranches([ActionBranch("a", choices: 0)]) }
  }
}
