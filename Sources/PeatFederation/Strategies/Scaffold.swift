import PeatTensor

/// FedAvg whose clients correct their gradients for what is peculiar to their own data: `g ← g − cₖ + c`.
///
/// `cₖ` is what client k last saw as its mean gradient, `c` the mean of all clients' cₖ. The server sends c beside the adapter, and each update brings `c + Δcₖ`, so
/// both take twice the bytes. With the clients S of a round, weights nₖ as of the adapters:
///
///     x ← x + η·(mean over S of xₖ − x)        c ← c + Σ_S nₖ·Δcₖ / Σ nₖ of all clients that were ever counted
///
/// cₖ⁺ is the mean of the gradients that the client computed on its way, which is the paper's option II, `cₖ − c + (x − xₖ) / (K·ηₖ)`, where the client steps by
/// plain gradient descent. With Adam there is no such formula, and no proof: corrections are made all the same, of the gradients that go into it.
///
/// A client keeps cₖ in its work folder. One that has lost it takes c for it: it corrects nothing in that round, and goes on from there.
///
/// Source: Karimireddy et al. 2020, Algorithm 1, <https://arxiv.org/abs/1910.06378>.
public struct Scaffold: AggregationStrategy {
  private let rule: any AggregationStrategy

  public init() { rule = FedAvg() }

  /// - Parameter rate: η of the server.
  package init(rate: Double) throws {
    rule = rate == 1 ? FedAvg() : try ServerOptimized(FedAvg(), FedAvgM(momentum: 0), rate: rate)
  }

  public var name: String { "scaffold" }
  public var summary: String {
    "fedavg with gradients corrected by control variates; twice the bytes"
  }
  public var takesMixedRanks: Bool { false }
  public var needsStart: Bool { true }
  public var usesControls: Bool { true }

  private static let prefix = "control."

  public func broadcast(_ adapter: NamedTensors, _ state: StrategyState) -> NamedTensors {
    adapter.settingControls(
      Dictionary(
        uniqueKeysWithValues: trained(of: adapter).map { name, tensor in
          (name, state.tensors[Self.prefix + name] ?? Tensor(zeros: tensor.shape))
        }))
  }

  public func makeAccumulator(
    into current: NamedTensors, _ round: AggregationRound
  ) throws -> any UpdateAccumulator {
    try round.state.check(isOf: name)
    var inner = round
    inner.state = StrategyState()
    return Accumulator(
      adapter: try rule.makeAccumulator(into: current.withoutControls, inner),
      controls: FedAvg().makeAccumulator(
        into: current.filter { ControlNames.isControl($0.key) }, AggregationRound()),
      current: current.controls, before: round.state)
  }

  private struct Accumulator: UpdateAccumulator {
    private var adapter: any UpdateAccumulator
    private var controls: any UpdateAccumulator
    /// c as clients read it, and as it was to be sent.
    private let current: NamedTensors
    private var whole: NamedTensors?
    private(set) var state: StrategyState
    private var examples = 0

    init(
      adapter: any UpdateAccumulator, controls: any UpdateAccumulator, current: NamedTensors,
      before: StrategyState
    ) {
      self.adapter = adapter
      self.controls = controls
      self.current = current
      state = before
      state.owner = "scaffold"
      state.rounds += 1
    }

    mutating func add(_ update: ClientUpdate, scales: [String: Double]) throws {
      var part = update
      part.tensors = update.tensors.filter { ControlNames.isControl($0.key) }
      try controls.add(part, scales: [:])
      part.tensors = update.tensors.withoutControls
      try adapter.add(part, scales: scales)
      state.clients[update.client.name] = update.exampleCount
      examples += update.exampleCount
    }

    mutating func add(server tensors: NamedTensors, share: Double) throws {
      guard share > 0 else { return }
      throw PeatError.usage(
        "By scaffold the server has no part of its own in the training: it has no control variate.")
    }

    mutating func restore(_ whole: NamedTensors) throws {
      try adapter.restore(whole.withoutControls)
      self.whole = whole.controls
    }

    mutating func next() throws -> NamedTensors {
      let next = try adapter.next()
      let means = try controls.next().controls
      let all = state.clients.values.reduce(0.0) { $0 + Double($1) }
      let share = min(Double(examples) / all, 1)
      for (name, mean) in means {
        guard let read = current[name]?.scalars else { continue }
        let (new, start) = (mean.scalars, whole?[name]?.scalars ?? read)
        state.tensors[Scaffold.prefix + name] = Tensor(
          new.indices.map {
            Float(Double(start[$0]) + share * (Double(new[$0]) - Double(read[$0])))
          }, shape: mean.shape)
      }
      return next
    }

    var notes: [String: Double] { adapter.notes }

    func relativeError(of state: NamedTensors) throws -> Double {
      try adapter.relativeError(of: state.withoutControls)
    }
  }
}
