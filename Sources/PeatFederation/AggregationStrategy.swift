import PeatTensor

/// A rule that makes the next adapter from the updates of a round.
///
/// Updates stream through an accumulator, so memory does not grow with the number of clients.
public protocol AggregationStrategy: Sendable {
  /// The name a configuration calls the rule by.
  static var name: String { get }

  /// An empty accumulator for one round.
  func makeAccumulator() -> any UpdateAccumulator
}

/// Takes the updates of one round one after the other, then gives the next adapter.
public protocol UpdateAccumulator {
  /// Takes one update. Throws where it does not fit those before it.
  mutating func add(_ update: ClientUpdate) throws

  /// The next adapter. `current` is the adapter the round began with. Throws where no update was added.
  func finish(into current: NamedTensors) throws -> NamedTensors
}

extension AggregationStrategy {
  /// The next adapter from updates that are all at hand, added in the order given.
  public func aggregate(
    _ updates: some Sequence<ClientUpdate>, into current: NamedTensors
  ) throws -> NamedTensors {
    var accumulator = makeAccumulator()
    for update in updates { try accumulator.add(update) }
    return try accumulator.finish(into: current)
  }
}

/// The strategies by name.
public enum Strategies {
  private static let known: [String: @Sendable () -> any AggregationStrategy] = [
    FedAvg.name: { FedAvg() }
  ]

  public static var names: [String] { known.keys.sorted() }

  /// The strategy of this name; an unknown one is an error that names the nearest.
  public static func named(_ name: String) throws -> any AggregationStrategy {
    guard let make = known[name] else {
      throw PeatError.usage("Unknown strategy '\(name)'. \(suggestion(for: name, among: names))")
    }
    return make()
  }
}
