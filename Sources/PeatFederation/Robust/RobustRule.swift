import PeatTensor

/// A rule that looks at all updates of a round together, so that a few that are wrong can't lead the adapter away. Every update counts alike: the number of examples
/// is a client's own word.
///
/// Updates are kept on disk until the round is over (`UpdateStack`).
protocol RobustRule: AggregationStrategy {
  /// What the clients' updates come to, and what there is to say of it.
  ///
  /// - Parameter current: the adapter the round began with.
  func combine(
    _ stack: UpdateStack, from current: NamedTensors
  ) throws -> (tensors: NamedTensors, notes: [String: Double])
}

extension RobustRule {
  public var takesMixedRanks: Bool { false }
  public var approximatesMean: Bool { false }
  public var comparesUpdates: Bool { true }

  public func makeAccumulator(
    into current: NamedTensors, _ round: AggregationRound
  ) throws -> any UpdateAccumulator {
    try StackAccumulator(current, round, rule: self)
  }
}

/// Keeps updates, then lets a rule combine them.
private struct StackAccumulator: UpdateAccumulator {
  private let current: NamedTensors
  private let trained: NamedTensors
  private let rule: any RobustRule
  private let stack: UpdateStack
  private var server: (tensors: NamedTensors, share: Double)?
  private var whole: NamedTensors?
  private(set) var notes: [String: Double] = [:]
  let state = StrategyState()

  init(_ current: NamedTensors, _ round: AggregationRound, rule: any RobustRule) throws {
    self.current = current
    self.rule = rule
    trained = rule.trained(of: current)
    stack = try UpdateStack(trained.mapValues(\.shape), in: round.folder)
  }

  mutating func add(_ update: ClientUpdate, scales: [String: Double]) throws {
    guard update.exampleCount > 0 else {
      throw PeatError.badData("The update of '\(update.client)' has no examples.")
    }
    let what = "The update of '\(update.client)'"
    try check(update.tensors, what)
    guard scales.values.allSatisfy({ $0 == 1 }) else {
      throw PeatError.badData(
        "\(what) scales its products otherwise than the adapter. By '\(rule.name)' all scale alike."
      )
    }
    try stack.append(update.tensors)
  }

  mutating func add(server tensors: NamedTensors, share: Double) throws {
    precondition(share >= 0 && share < 1, "the server's share \(share) lies outside of 0..<1")
    if share == 0 { return }
    let own = tensors.filter { trained[$0.key] != nil }
    try check(own, "The server's adapter")
    server = (own, share)
  }

  mutating func restore(_ whole: NamedTensors) throws {
    try check(whole.filter { trained[$0.key] != nil }, "The adapter that was to be sent")
    self.whole = whole
  }

  private func check(_ tensors: NamedTensors, _ what: String) throws {
    guard let name = Set(trained.keys).symmetricDifference(tensors.keys).min() else {
      for (name, tensor) in tensors.sorted(by: { $0.key < $1.key })
      where tensor.shape != trained[name]?.shape {
        throw PeatError.badData(
          "\(what) has '\(name)' with the shape \(tensor.shape), which does not fit the adapter's \(trained[name]?.shape ?? []). "
            + "By '\(rule.name)' all updates have the same ranks.")
      }
      if let name = tensors.firstNotFinite {
        throw PeatError.badData("\(what) holds a value that is not finite in '\(name)'.")
      }
      return
    }
    throw PeatError.badData(
      trained[name] == nil
        ? "\(what) has '\(name)', which does not train in this adapter. Aggregate updates of one and the same adapter."
        : "\(what) lacks '\(name)', which the adapter has. Aggregate updates of one and the same adapter."
    )
  }

  mutating func next() throws -> NamedTensors {
    guard stack.count > 0 else { throw PeatError.badData("There is no update to aggregate.") }
    let (made, notes) = try rule.combine(stack, from: current)
    self.notes = notes
    var next = whole ?? current
    for (name, tensor) in made {
      guard let old = current[name] else { continue }
      if server == nil, whole == nil {
        next[name] = tensor
        continue
      }
      let (values, before) = (tensor.scalars, old.scalars)
      let own = server?.tensors[name]?.scalars
      let sent = whole?[name]?.scalars
      next[name] = Tensor(
        values.indices.map { place in
          var value = Double(values[place])
          if let own, let share = server?.share {
            value = (1 - share) * value + share * Double(own[place])
          }
          if let sent { value += Double(sent[place]) - Double(before[place]) }
          return Float(value)
        }, shape: old.shape)
    }
    return next
  }

  /// Such a rule is no mean: there is none to be off from.
  func relativeError(of state: NamedTensors) -> Double { 0 }
}
