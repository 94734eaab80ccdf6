import PeatTensor

/// One of the choices that make up what a device is told to do in a round.
///
/// Source: Tavakoli, Pardo and Kormushev 2018, <https://arxiv.org/abs/1711.08946>: a joint action is one choice per branch, so that
/// a network's outputs grow with the sum of the choices instead of their product.
public struct ActionBranch: Sendable, Codable, Equatable {
  /// A choice of another branch without which this one has no effect.
  public struct Gate: Sendable, Codable, Equatable {
    public var branch: Int
    public var choice: Int

    public init(branch: Int, choice: Int) {
      self.branch = branch
      self.choice = choice
    }
  }

  public var name: String
  public var choices: Int
  public var gate: Gate?

  public init(_ name: String, choices: Int, gate: Gate? = nil) {
    self.name = name
    self.choices = choices
    self.gate = gate
  }
}

/// The branches of one device's action, each behind the one that gates it.
public struct ActionBranches: Sendable, Codable, Equatable {
  public let list: [ActionBranch]
  /// Where each branch's logits begin.
  public let offsets: [Int]
  /// Logits of a device.
  public let width: Int

  public var count: Int { list.count }

  /// - Throws: `badData` where a branch has no choice, or a gate names none that stands before it.
  public init(_ list: [ActionBranch]) throws {
    var offsets: [Int] = []
    var width = 0
    for (number, branch) in list.enumerated() {
      guard (1...4096).contains(branch.choices) else {
        throw PeatError.badData(
          "The branch '\(branch.name)' has \(branch.choices) choices; it needs 1 to 4096.")
      }
      if let gate = branch.gate {
        guard (0..<number).contains(gate.branch),
          (0..<list[gate.branch].choices).contains(gate.choice)
        else {
          throw PeatError.badData(
            "The branch '\(branch.name)' is gated by choice \(gate.choice) of branch \(gate.branch), which does not stand before it."
          )
        }
      }
      offsets.append(width)
      width += branch.choices
    }
    guard !list.isEmpty else { throw PeatError.badData("An action needs a branch.") }
    self.list = list
    self.offsets = offsets
    self.width = width
  }

  /// The place of each of a round's decisions in an action.
  public enum Place {
    public static let select = 0
    public static let exchange = 1
    public static let level = 2
    /// Of the first further one.
    public static let further = 3
  }

  /// Whether a device takes part; whether it is sent an emulator then; and of which level.
  ///
  /// - Parameter further: choices that matter where a device takes part, such as local steps.
  public static func round(levels: Int, further: [ActionBranch] = []) throws -> ActionBranches {
    let selected = ActionBranch.Gate(branch: Place.select, choice: 1)
    return try ActionBranches(
      [
        ActionBranch("select", choices: 2),
        ActionBranch("exchange", choices: 2, gate: selected),
        ActionBranch("level", choices: levels, gate: .init(branch: Place.exchange, choice: 1)),
      ] + further.map { ActionBranch($0.name, choices: $0.choices, gate: selected) })
  }

  public init(from decoder: any Decoder) throws {
    try self.init(decoder.singleValueContainer().decode([ActionBranch].self))
  }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    try container.encode(list)
  }
}
