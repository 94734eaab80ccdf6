import PeatTensor

/// Asks those whose data still teaches the most for the time that they take.
///
///     utility = (nₖ · lossₖ, at most the 95th percentile, as a share of it  +  √(0.1 · ln R / Lₖ)) · (T / tₖ)^2, the last factor where tₖ > T
///
/// `nₖ` examples and `lossₖ` what the client's last update said of them: the mean loss stands for the root of the mean square that the paper takes over single
/// examples, which do not leave a device here. `R` is the round, `Lₖ` the last one that it was asked in: what was said long ago is trusted less, so all get
/// their turn again. `tₖ` are the seconds of its last part as the coordinator saw them, T the third quartile of all (in the paper a pacer moves T).
///
/// A share ε of the places, max(0.2, 0.9 · 0.98^(R − 1)), goes to clients that never delivered, drawn at random; of the others those are drawn, in
/// proportion to their utility, who reach 95 % of the last one that would be chosen by it.
///
/// Source: Lai et al. 2021, *Oort*, Algorithm 1, <https://arxiv.org/abs/2010.06081>.
public struct UtilityPlanner: RoundPlanner {
  public static let name = "utility"
  public let size: SampleSize
  public let seed: UInt64

  public init(size: SampleSize, seed: UInt64) {
    self.size = size
    self.seed = seed
  }

  public func plan(_ state: FederationState) async throws -> RoundPlan {
    var random = SeededRandom(
      seed: seed, "utilities of round \(state.round), attempt \(state.attempt)")
    let (known, unknown) = (
      state.clients.filter { $0.statisticalUtility != nil },
      state.clients.filter { $0.statisticalUtility == nil }
    )
    let utilities = Self.utilities(of: known, round: state.round)
    let asked = size.asked(of: state.clients.count)
    let explore = 0.9 * power(0.98, Double(state.round - 1))
    var places = min(Int((max(0.2, explore) * Double(asked)).rounded()), unknown.count)
    places = max(places, asked - known.count)
    let newcomers = random.shuffled(unknown)
    let veterans = Self.draw(
      zip(known, utilities).map { ($0, $1) }, chosen: asked - places, &random)
    func said(_ veteran: (client: FederationState.ClientState, utility: Double)) -> String {
      "utility: \((veteran.utility * 1000).rounded() / 1000)"
    }
    let first = newcomers.prefix(places).map { ($0, "utility: not known yet") }
    let rest = newcomers.dropFirst(places).map { ($0, "utility: not known yet") }
    let order = first + veterans.map { ($0.client, said($0)) } + rest
    return state.plan(
      order.map { (client: $0.0, level: nil, reason: $0.1) }, size: size, name: Self.name)
  }

  /// The utility of each client, of which it is known.
  package static func utilities(of clients: [FederationState.ClientState], round: Int) -> [Double] {
    let statistical = clients.map { $0.statisticalUtility ?? 0 }
    let clip = quantile(0.95, of: statistical)
    let seconds = clients.map { ($0.missed ?? $0.observed)?.seconds ?? 0 }
    let preferred = quantile(0.75, of: seconds)
    return clients.indices.map { place in
      let share = clip > 0 ? min(statistical[place], clip) / clip : 0
      let last = Double(max(clients[place].lastAsked ?? 1, 1))
      let doubt = (0.1 * naturalLogarithm(Double(max(round, 1))) / last).squareRoot()
      let speed = seconds[place] > preferred && preferred > 0 ? preferred / seconds[place] : 1
      return (share + doubt) * speed * speed
    }
  }

  /// The smallest value that so large a share of all does not pass.
  private static func quantile(_ share: Double, of values: [Double]) -> Double {
    let sorted = values.sorted()
    guard !sorted.isEmpty else { return 0 }
    return sorted[min(Int((share * Double(sorted.count)).rounded(.up)), sorted.count) - 1]
  }

  private typealias Weighted = (client: FederationState.ClientState, utility: Double)

  /// All in the order in which they are drawn: first those that reach 95 % of the last that would be chosen, in proportion to their utility, then the others by it.
  private static func draw(
    _ clients: [Weighted], chosen: Int, _ random: inout SeededRandom
  ) -> [Weighted] {
    let sorted = clients.sorted {
      ($1.utility, $0.client.client) < ($0.utility, $1.client.client)
    }
    guard chosen > 0, chosen < sorted.count else { return sorted }
    let bound = 0.95 * sorted[chosen - 1].utility
    let pool = sorted.filter { $0.utility >= bound }
    // Efraimidis and Spirakis 2006: the smallest −ln(u) / w are a draw without replacement by weights w.
    let drawn = pool.map { entry in
      let u = max(Double(random.uniform()), 1e-9)
      return (entry: entry, key: -naturalLogarithm(u) / max(entry.utility, 1e-9))
    }.sorted { $0.key < $1.key }.map(\.entry)
    return drawn + sorted.dropFirst(pool.count)
  }
}

extension FederationState.ClientState {
  /// nₖ · lossₖ; `nil` where it never said.
  var statisticalUtility: Double? {
    guard let exampleCount, let loss, loss.isFinite else { return nil }
    return Double(exampleCount) * max(loss, 0)
  }
}
