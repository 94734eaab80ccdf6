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

  /// Whether the next adapter's values stand for the same as the old one's, so that a client can add to its next update what it did not send of the
  /// last: not where factors are made anew.
  var keepsFactors: Bool { get }

  /// An empty accumulator for one round.
  ///
  /// - Parameter current: the adapter the round began with.
  func makeAccumulator(into current: NamedTensors) -> any UpdateAccumulator
}

extension AggregationStrategy {
  public var freezesDown: Bool { false }
  public var keepsFactors: Bool { true }

  /// Whether updates may have other ranks than the adapter they make: not where they lack A.
  public var takesMixedRanks: Bool { !freezesDown }

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

  /// The next adapter. Throws where no update was added.
  func next() throws -> NamedTensors

  /// How far an adapter is from the exact weighted sum: see `AggregatedAdapter.relativeError`.
  func relativeError(of state: NamedTensors) throws -> Double
}

extension UpdateAccumulator {
  /// Takes an update whose products are scaled as the adapter's.
  public mutating func add(_ update: ClientUpdate) throws { try add(update, scales: [:]) }

  /// The next adapter, and how exact it is. Throws where no update was added.
  public func finish() throws -> AggregatedAdapter {
    let state = try next()
    return AggregatedAdapter(state: state, relativeError: try relativeError(of: state))
  }
}

/// What a rule makes of a round's updates.
public struct AggregatedAdapter: Sendable {
  /// The next adapter.
  public var state: NamedTensors
  /// ‖next − exact‖ / ‖exact‖, where `exact` is the weighted sum of all clients' low-rank products B · A, over all layers in the Frobenius norm;
  /// 0 where the adapter has no low-rank pairs: plain means are exact.
  public var relativeError: Double
}

extension AggregationStrategy {
  /// The next adapter from updates that are all at hand, added in the order given.
  public func aggregate(
    _ updates: some Sequence<ClientUpdate>, into current: NamedTensors
  ) throws -> AggregatedAdapter {
    var accumulator = makeAccumulator(into: current)
    for update in updates { try accumulator.add(update) }
    return try accumulator.finish()
  }
}

/// The strategies by name.
public enum Strategies {
  /// All of them.
  public static let all: [any AggregationStrategy] = [
    FedAvg(), FreezeA(), FedEx(), ProductFactors(), ProductFactors(keepsRemainder: true),
  ]

  public static var names: [String] { all.map(\.name) }

  /// The strategy of this name; an unknown one is an error that names the nearest.
  public static func named(_ name: String) throws -> any AggregationStrategy {
    guard let strategy = all.first(where: { $0.name == name }) else {
      throw PeatError.usage("Unknown strategy '\(name)'. \(suggestion(for: name, among: names))")
    }
    return strategy
  }
}
