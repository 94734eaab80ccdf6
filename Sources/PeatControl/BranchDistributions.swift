import PeatTensor

/// The choice probabilities of many devices, from a network's logits.
///
/// `π_b` is the softmax of branch b's allowed logits. A joint action's log-probability and entropy are, where branches are
/// gated, those of what the action does:
///
///     log π(a) = Σ_b  open_b(a) · log π_b(a_b)          open_b: the choices that gate b were made
///     H        = Σ_b  reach_b · H(π_b)                  reach_b: the probability that they are
///
/// and without gating plain sums (`open = reach = 1`). Masked choices have probability 0 and take no gradient.
///
/// Sources: gates are our own; masks after Huang and Ontañón 2020, <https://arxiv.org/abs/2006.14171>.
package final class BranchDistributions {
  let branches: ActionBranches
  package private(set) var rows = 0
  /// `[rows, width]`.
  private var probabilities = Array2D<Float>(0, 1, 0)
  private var logProbabilities = Array2D<Float>(0, 1, 0)
  private var capacity = 0
  /// The branches' facts, where loops over thousands of rows read them without counting references.
  private let facts: Array2D<Facts>
  private let count: Int

  private struct Facts: BitwiseCopyable {
    /// Where its logits begin, and how many there are.
    var offset: Int
    var choices: Int
    /// -1: none.
    var gate: Int
    /// The logit of the choice that opens it.
    var opening: Int
    var openingChoice: Int32
  }

  package init(_ branches: ActionBranches, gated: Bool) {
    self.branches = branches
    count = branches.count
    facts = Array2D(
      branches.count, 1,
      Facts(offset: 0, choices: 0, gate: -1, opening: 0, openingChoice: 0))
    for (number, branch) in branches.list.enumerated() {
      facts.row(number)[0] = Facts(
        offset: branches.offsets[number], choices: branch.choices, gate: -1, opening: 0,
        openingChoice: 0)
      if gated, let gate = branch.gate {
        facts.row(number)[0].gate = gate.branch
        facts.row(number)[0].opening = branches.offsets[gate.branch] + gate.choice
        facts.row(number)[0].openingChoice = Int32(gate.choice)
      }
    }
  }

  /// Takes over new logits.
  ///
  /// - Parameters:
  ///   - logits: `[rows, width]`.
  ///   - mask: likewise, 0 where a choice is not allowed; each branch allows one.
  package func update(logits: UnsafePointer<Float>, mask: UnsafePointer<UInt8>, rows: Int) {
    let width = branches.width
    if capacity < rows {
      capacity = rows
      probabilities = Array2D(rows, width, 0)
      logProbabilities = Array2D(rows, width, 0)
    }
    self.rows = rows
    let p = probabilities.row(0)
    let logP = logProbabilities.row(0)
    let (facts, count) = (facts.row(0), count)
    for row in 0..<rows {
      for branch in 0..<count {
        let first = row &* width &+ facts[branch].offset
        let end = first &+ facts[branch].choices
        var top = -Float.infinity
        for j in first..<end { top = max(top, mask[j] != 0 ? logits[j] : -.infinity) }
        for j in first..<end { logP[j] = max(logits[j] - top, -1e30) }
      }
    }
    exponentials(rows * width, logP, into: p)
    for row in 0..<rows {
      for branch in 0..<count {
        let first = row &* width &+ facts[branch].offset
        let end = first &+ facts[branch].choices
        var sum: Float = 0
        for j in first..<end {
          p[j] = mask[j] == 0 ? 0 : p[j]
          sum += p[j]
        }
        let inverse = 1 / sum
        let logSum = logarithm(sum)
        for j in first..<end {
          p[j] *= inverse
          logP[j] -= logSum
        }
      }
    }
  }

  /// Draws each row's action.
  package func sample(into actions: UnsafeMutablePointer<Int32>, using random: inout SeededRandom) {
    choose(into: actions) { p, count in
      var left = random.uniform()
      var last = 0
      for j in 0..<count where p[j] > 0 {
        last = j
        left -= p[j]
        if left < 0 { break }
      }
      return last
    }
  }

  /// Each branch's likeliest choice.
  package func greedy(into actions: UnsafeMutablePointer<Int32>) {
    choose(into: actions) { p, count in
      var best = 0
      for j in 1..<max(count, 1) where p[j] > p[best] { best = j }
      return best
    }
  }

  @inline(__always) private func choose(
    into actions: UnsafeMutablePointer<Int32>, _ pick: (UnsafePointer<Float>, Int) -> Int
  ) {
    let p = UnsafePointer(probabilities.row(0))
    let (facts, count, width) = (facts.row(0), count, branches.width)
    for row in 0..<rows {
      for branch in 0..<count {
        actions[row &* count &+ branch] = Int32(
          pick(p + (row &* width &+ facts[branch].offset), facts[branch].choices))
      }
    }
  }

  /// Whether an action's other choices let a branch matter.
  @inline(__always) private static func isOpen(
    _ branch: Int, _ action: UnsafePointer<Int32>, _ facts: UnsafePointer<Facts>
  ) -> Bool {
    var branch = branch
    while facts[branch].gate >= 0 {
      if action[facts[branch].gate] != facts[branch].openingChoice { return false }
      branch = facts[branch].gate
    }
    return true
  }

  /// log π of each row's action.
  ///
  /// - Parameters:
  ///   - actions: `[rows, branches]`.
  ///   - result: `[rows]`.
  package func logProbabilities(
    of actions: UnsafePointer<Int32>, into result: UnsafeMutablePointer<Float>
  ) {
    let (facts, count, width) = (facts.row(0), count, branches.width)
    let logP = logProbabilities.row(0)
    for row in 0..<rows {
      let own = logP + row &* width
      let action = actions + row &* count
      var sum: Float = 0
      for branch in 0..<count where Self.isOpen(branch, action, facts) {
        sum += own[facts[branch].offset &+ Int(action[branch])]
      }
      result[row] = sum
    }
  }

  /// The sum of all rows' entropies, and the gradient of `Σ policy · log π(action) + weight · H` with respect to the logits.
  ///
  /// `H` of a branch with all that it gates is V_b = H(π_b) + Σ_c π_b(gate of c) · V_c, and
  ///
  ///     ∂log π_b(a) / ∂l_j = 1[j = a] − p_j
  ///     ∂V_b / ∂l_j = −p_j (log p_j + H(π_b)) + Σ_c V_c · π_b(gate of c) · (1[j = gate of c] − p_j).
  ///
  /// - Parameters:
  ///   - actions: `[rows, branches]`.
  ///   - policy: `[rows]`.
  ///   - out: `[rows, width]`, overwritten.
  package func gradients(
    _ actions: UnsafePointer<Int32>, policy: UnsafePointer<Float>, entropy weight: Float,
    into out: UnsafeMutablePointer<Float>
  ) -> Double {
    let (facts, count, width) = (facts.row(0), count, branches.width)
    let (p, logP) = (probabilities.row(0), logProbabilities.row(0))
    return withUnsafeTemporaryAllocation(of: Float.self, capacity: 2 &* count) { space in
      guard let whole = space.baseAddress else { return 0 }
      let reach = whole + count
      var total = 0.0
      for row in 0..<rows {
        total += Double(
          Self.gradient(
            p + row &* width, logP + row &* width, actions + row &* count, policy[row], weight,
            facts, count, whole, reach, into: out + row &* width))
      }
      return total
    }
  }

  @inline(__always) private static func gradient(
    _ p: UnsafePointer<Float>, _ logP: UnsafePointer<Float>, _ action: UnsafePointer<Int32>,
    _ policy: Float, _ weight: Float, _ facts: UnsafePointer<Facts>, _ count: Int,
    _ whole: UnsafeMutablePointer<Float>, _ reach: UnsafeMutablePointer<Float>,
    into out: UnsafeMutablePointer<Float>
  ) -> Float {
    for branch in 0..<count {
      let first = facts[branch].offset
      var sum: Float = 0
      // Masked choices have probability 0, and a logarithm that is a number.
      for j in first..<first &+ facts[branch].choices { sum -= p[j] * logP[j] }
      whole[branch] = sum
      let gate = facts[branch].gate
      reach[branch] = gate < 0 ? 1 : reach[gate] * p[facts[branch].opening]
    }
    var total: Float = 0
    for branch in stride(from: count &- 1, through: 0, by: -1) {
      let gate = facts[branch].gate
      if gate < 0 {
        total += whole[branch]
      } else {
        whole[gate] += p[facts[branch].opening] * whole[branch]
      }
    }
    for branch in 0..<count {
      let first = facts[branch].offset
      let g = isOpen(branch, action, facts) ? policy : 0
      let e = weight * reach[branch]
      // What the gated branches add comes with the choice that opens them, and is taken from all by their share.
      let base = g + e * whole[branch]
      for j in first..<first &+ facts[branch].choices { out[j] = -p[j] * (base + e * logP[j]) }
      out[first &+ Int(action[branch])] += g
    }
    if weight != 0 {
      for branch in 0..<count where facts[branch].gate >= 0 {
        let place = facts[branch].opening
        out[place] += weight * reach[facts[branch].gate] * p[place] * whole[branch]
      }
    }
    return total
  }
}
