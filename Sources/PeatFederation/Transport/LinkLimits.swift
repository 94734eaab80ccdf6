import PeatTensor

/// How much of a connection a client takes, in bytes per second; `nil`: all that there is.
public struct LinkLimits: Sendable, Equatable {
  public var download: Double?
  public var upload: Double?

  /// - Throws: `usage` where a limit is not above 0.
  public init(download: Double? = nil, upload: Double? = nil) throws {
    for (name, value) in [("download", download), ("upload", upload)] {
      guard let value else { continue }
      guard value >= 1, value.isFinite else {
        throw PeatError.usage(
          "The \(name) rate is \(value); it must be at least 1 byte per second.")
      }
    }
    self.download = download
    self.upload = upload
  }

  private init() {}

  public static let none = LinkLimits()
}

/// Holds a transfer to a rate: waits after each piece until it would have arrived.
package struct Pacer: Sendable {
  private let rate: Double?
  private let clock = ContinuousClock()
  private let start: ContinuousClock.Instant
  private var bytes = 0

  package init(_ rate: Double?) {
    self.rate = rate
    start = clock.now
  }

  /// The largest piece that does not make the rate jumpy.
  package static func chunk(_ bytes: Int, at rate: Double?) -> Int {
    guard let rate else { return bytes }
    return min(bytes, max(1024, Int(rate / 4)))
  }

  /// Throws where the task is cancelled.
  package mutating func pass(_ count: Int) async throws {
    guard let rate else { return }
    bytes += count
    try await clock.sleep(until: start + .seconds(Double(bytes) / rate))
  }
}
