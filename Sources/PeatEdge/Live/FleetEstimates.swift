import PeatFederation
import PeatTensor

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// What the devices of a live federation are believed to be able to, from what they report of their rounds.
///
/// Exponentially weighted means of the seconds that a bit and an operation take. A device that was not heard of for long, or never, is believed to be as the fleet's median.
/// Reports come from machines that are not ours: they are kept within what is physically possible, and within what the coordinator saw itself
/// (`Telemetry.bounded(by:)`). How fast an upload is, it sees best: bytes arrived.
struct FleetEstimates: Sendable, Codable {
  /// A quantity of one device.
  private struct Estimate: Sendable, Codable {
    var value: Double
    var round: Int
    /// Whether it is what the client says of itself: what its rounds say takes its place.
    var isClaim: Bool

    /// Means are of seconds per bit and per operation: what counts is how long a round takes.
    mutating func add(_ sample: Double, round: Int) {
      let old = isClaim ? sample : value
      value = 1 / (1 / old + FleetEstimates.weight * (1 / sample - 1 / old))
      self.round = round
      isClaim = false
    }
  }

  enum Quantity: String, CaseIterable, Codable, CodingKeyRepresentable {
    /// In bit/s.
    case down, up
    /// In FLOP/s.
    case compute

    /// What is believed while nobody has reported anything: a slow home connection, a telephone.
    var prior: Double {
      switch self {
      case .down: 8e6
      case .up: 2e6
      case .compute: 1e10
      }
    }

    var range: ClosedRange<Double> {
      switch self {
      case .down, .up: 100...1e12
      case .compute: 1e4...1e18
      }
    }
  }

  /// The weight of a new sample.
  private static let weight = 0.3
  /// What is left of the difference to the median, in orders of magnitude, after each round without a report.
  static let keeps = 0.95

  private var estimates: [Quantity: [ClientID: Estimate]] = [:]
  private var delivered: [ClientID: Int] = [:]
  private var failed: [ClientID: Int] = [:]
  /// Bytes of each client's last update.
  private var lastUpload: [ClientID: Int] = [:]

  /// Takes what a client measured of itself before it joined, until a round says better.
  mutating func begin(_ client: FederationState.ClientState, round: Int) {
    for (quantity, value) in [
      (Quantity.down, client.rates.download.map { 8 * $0 }),
      (.up, client.rates.upload.map { 8 * $0 }), (.compute, client.rates.compute),
    ] where estimates[quantity]?[client.client] == nil {
      add(quantity, value ?? 0, 1, client.client, round, isClaim: true)
    }
  }

  /// Takes what a client reported of its last round, if that is new. Returns whether it is.
  ///
  /// - Parameter work: FLOP of the round's training; `nil` where that is not known.
  mutating func take(_ client: FederationState.ClientState, work: Double?, round: Int) -> Bool {
    guard client.delivered > delivered[client.client] ?? 0, let telemetry = client.telemetry else {
      return false
    }
    delivered[client.client] = client.delivered
    add(.down, 8 * Double(telemetry.bytesDown), telemetry.downloadSeconds, client.client, round)
    if let seen = client.observed {
      add(.up, 8 * Double(seen.bytesUp), seen.uploadSeconds, client.client, round)
    } else if let sent = lastUpload[client.client] {
      // The duration of the upload before this one.
      add(.up, 8 * Double(sent), telemetry.uploadSeconds, client.client, round)
    }
    lastUpload[client.client] = telemetry.bytesUp
    // Who reports that it did not compute may have done so for all the time.
    let compute =
      telemetry.computeSeconds > 0 ? telemetry.computeSeconds : client.observed?.seconds ?? 0
    if let work { add(.compute, work, compute, client.client, round) }
    return true
  }

  /// Takes what the coordinator saw of a client's last part, if that is new and came to nothing: with all of it the client would have taken
  /// longer, so it is no quicker.
  ///
  /// - Parameter work: FLOP of the round's training; `nil` where that is not known.
  mutating func takeMiss(_ client: FederationState.ClientState, work: Double?, round: Int) {
    guard client.failed > failed[client.client] ?? 0 else { return }
    failed[client.client] = client.failed
    guard let seen = client.missed else { return }
    let rest = seen.seconds - seen.downloadSeconds - seen.uploadSeconds
    for (quantity, amount, seconds) in [
      (Quantity.down, 8 * Double(seen.bytesDown), seen.downloadSeconds),
      (.up, 8 * Double(seen.bytesUp), seen.uploadSeconds), (.compute, work ?? 0, rest),
    ] where amount > 0 && seconds > 0 {
      guard amount / seconds < believed(quantity, of: [client.client], round: round)[0] else {
        continue
      }
      add(quantity, amount, seconds, client.client, round)
    }
  }

  private mutating func add(
    _ quantity: Quantity, _ amount: Double, _ seconds: Double, _ client: ClientID, _ round: Int,
    isClaim: Bool = false
  ) {
    guard amount > 0, seconds > 0 else { return }
    let sample = min(max(amount / seconds, quantity.range.lowerBound), quantity.range.upperBound)
    if estimates[quantity]?[client]?.add(sample, round: round) == nil {
      estimates[quantity, default: [:]][client] = Estimate(
        value: sample, round: round, isClaim: isClaim)
    }
  }

  /// Whether a client's link and compute are known.
  func knows(_ client: ClientID) -> Bool {
    [Quantity.down, .compute].allSatisfy { estimates[$0]?[client] != nil }
  }

  /// What to believe of some clients in a round.
  func believed(_ quantity: Quantity, of clients: [ClientID], round: Int) -> [Double] {
    let known = estimates[quantity] ?? [:]
    let sorted = known.values.map(\.value).sorted()
    let median = sorted.isEmpty ? quantity.prior : sorted[sorted.count / 2]
    return clients.map { client in
      guard let estimate = known[client] else { return median }
      let old = Double(max(round - estimate.round - 1, 0))
      // Of magnitudes: a slow link is not half as fast as a quick one after a few rounds.
      return median * pow(estimate.value / median, pow(Self.keeps, old))
    }
  }
}
