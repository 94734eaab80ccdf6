import Foundation
import PeatTensor

/// A rule that makes the next adapter from the updates of a round.
///
/// Updates stream through an accumulator, so memory does not grow with the number of clients.
public protocol AggregationStrategy: Sendable {
  /// The name a configuration calls the rule by.
  var name: String { get }

  /// What it does, in one line.
  var summary: String { get }

  /// Whether A of each low-rank pair stays as it is: it does not train, and updates leave it out.
  var freezesDown: Bool { get }

  /// μ of the client's proximal term, `μ/2 · ‖w − w₀‖²` beside its loss; 0: none.
  var proximal: Double { get }

  /// Whether clients correct their gradients by control variates, which the adapter brings and updates send back.
  var usesControls: Bool { get }

  /// Whether the next adapter's values stand for the same as the old one's, so that a client can add to its next update what it did not send of the
  /// last: not where factors are made anew.
  var keepsFactors: Bool { get }

  /// Whether what is beyond the adapter's rank is kept as a remainder, so that it has the rank of all updates together.
  var keepsRemainders: Bool { get }

  /// Whether it looks at all updates of a round together, and counts each alike.
  var comparesUpdates: Bool { get }

  /// Whether updates may have other ranks than the adapter they make.
  var takesMixedRanks: Bool { get }

  /// Whether it matters which adapter the updates began with, beyond its shapes: rules of differences need it.
  var needsStart: Bool { get }

  /// Whether the next adapter stands for a mean of the updates, so that it can be off from that.
  var approximatesMean: Bool { get }

  /// Why the rule does not do what it is for with so many updates; `nil` where it does.
  func caution(updates: Int) -> String?

  /// What clients are sent: the adapter, and beside it what the strategy needs them to have.
  func broadcast(_ adapter: NamedTensors, _ state: StrategyState) -> NamedTensors

  /// An empty accumulator for one round.
  ///
  /// - Parameters:
  ///   - current: what clients were sent.
  ///   - round: what else is to be known of the round.
  /// - Throws: `badData` where the strategy's state is not of this strategy and adapter.
  func makeAccumulator(
    into current: NamedTensors, _ round: AggregationRound
  ) throws -> any UpdateAccumulator
}

/// What a strategy is told of a round beside its adapter.
public struct AggregationRound: Sendable {
  /// What the strategy remembers of the rounds before.
  public var state: StrategyState
  /// What the server's learning rate is multiplied with in this round.
  public var rateFactor: Double
  /// What the adapter multiplies each low-rank layer's product with, α / r; 1 where a layer is not named.
  public var scales: [String: Double]
  /// Where updates are kept that a rule needs all together; `nil`: the system's folder for temporary files.
  public var folder: URL?

  public init(
    state: StrategyState = StrategyState(), rateFactor: Double = 1,
    scales: [String: Double] = [:], folder: URL? = nil
  ) {
    self.state = state
    self.rateFactor = rateFactor
    self.scales = scales
    self.folder = folder
  }
}

extension AggregationStrategy {
  public var freezesDown: Bool { false }
  public var proximal: Double { 0 }
  public var usesControls: Bool { false }
  public var keepsFactors: Bool { true }
  public var keepsRemainders: Bool { false }
  public var comparesUpdates: Bool { false }

  /// Not where updates lack A.
  public var takesMixedRanks: Bool { !freezesDown }
  public var needsStart: Bool { false }

  public var approximatesMean: Bool { true }
  public func caution(updates: Int) -> String? { nil }

  public func broadcast(_ adapter: NamedTensors, _ state: StrategyState) -> NamedTensors { adapter }

  public func makeAccumulator(into current: NamedTensors) throws -> any UpdateAccumulator {
    try makeAccumulator(into: current, AggregationRound())
  }

  /// Why updates that began with an older adapter can't be taken; `nil`: they can.
  public var staleRefusal: String? {
    if usesControls {
      return
        "its control variates are of clients that all began with the same adapter. Take fedavg, fedprox or a server optimizer."
    }
    if !keepsFactors {
      return
        "it makes A and B anew in each round, so what changed since an older one can't be added to them. Take fedavg, fedprox, ffa or a server optimizer."
    }
    if comparesUpdates {
      return
        "it compares the updates of a round, one of each client, all from one adapter, and counts each alike. Take fedavg, fedprox, norm-bound or a server optimizer."
    }
    return nil
  }

  /// The tensors of an adapter that clients train and send.
  public func trained(of adapter: NamedTensors) -> NamedTensors {
    adapter.filter {
      !LowRankNames.isRemainder($0.key)
        && !(freezesDown && LowRankNames.layer(ofDown: $0.key) != nil)
    }
  }
}

/// Takes the updates of one round one after the other, then gives the next adapter.
public protocol UpdateAccumulator {
  /// Takes one update. Throws where it does not fit the adapter.
  ///
  /// - Parameter scales: what multiplies a layer's low-rank product, where it is scaled otherwise (α / r) than the adapter's; 1 where a layer is
  ///   not named.
  mutating func add(_ update: ClientUpdate, scales: [String: Double]) throws

  /// Takes the server's own adapter. Throws, and changes nothing, where it does not fit.
  ///
  /// - Parameter share: W, of the next adapter: (1 − W) · clients + W · server, 0 ≤ W < 1. With W = 0 nothing is taken.
  mutating func add(server tensors: NamedTensors, share: Double) throws

  /// Adds what of the round's adapter clients did not get, since it was sent in fewer bits: it is not lost, but comes back in the next one.
  ///
  /// - Parameter whole: what was to be sent; the adapter that the round began with is what clients read of it.
  mutating func restore(_ whole: NamedTensors) throws

  /// The next adapter. Throws where no update was added. Nothing is added after it.
  mutating func next() throws -> NamedTensors

  /// What the strategy remembers, once the next adapter is made.
  var state: StrategyState { get }

  /// What there is to say of the round, by name: `momentumCut`, `clipped`, `medianNorm`, `largestNorm`, `taken`.
  var notes: [String: Double] { get }

  /// How far an adapter is from the exact weighted sum: see `AggregatedAdapter.relativeError`.
  func relativeError(of state: NamedTensors) throws -> Double
}

extension UpdateAccumulator {
  /// Takes an update whose products are scaled as the adapter's.
  public mutating func add(_ update: ClientUpdate) throws { try add(update, scales: [:]) }

  /// The next adapter, and how exact it is. Throws where no update was added.
  public mutating func finish() throws -> AggregatedAdapter {
    let adapter = try next()
    return AggregatedAdapter(
      state: adapter, relativeError: try relativeError(of: adapter), memory: state, notes: notes)
  }
}

/// What a rule makes of a round's updates.
public struct AggregatedAdapter: Sendable {
  /// The next adapter.
  public var state: NamedTensors
  /// ‖next − exact‖ / ‖exact‖, where `exact` is the weighted sum of all clients' low-rank products B · A, over all layers in the Frobenius norm;
  /// 0 where the adapter has no low-rank pairs: plain means are exact.
  public var relativeError: Double
  /// What the strategy remembers for the next round.
  public var memory: StrategyState
  public var notes: [String: Double]
}

extension AggregationStrategy {
  /// The next adapter from updates that are all at hand, added in the order given.
  public func aggregate(
    _ updates: some Sequence<ClientUpdate>, into current: NamedTensors,
    _ round: AggregationRound = AggregationRound()
  ) throws -> AggregatedAdapter {
    var accumulator = try makeAccumulator(into: current, round)
    for update in updates { try accumulator.add(update) }
    return try accumulator.finish()
  }
}
