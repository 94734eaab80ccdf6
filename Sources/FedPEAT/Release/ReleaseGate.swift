import Foundation

/// What an adapter must not be worse than to be released.
public enum ReleaseGate: String, Sendable, Codable, CaseIterable {
  /// Nothing is asked.
  case none
  /// The full model as it came.
  case zeroShot = "zero-shot"
  /// The adapter that was released last (`lastReleased`).
  case lastReleased = "last-released"
}

/// Whether a run's adapter was released: by the owner's own test set.
public struct ReleaseVerdict: Sendable, Codable, Equatable {
  public var gate: ReleaseGate
  public var released: Bool
  /// What plug-in was compared with, and what it was.
  public var reference: Double?
  public var plugIn: Double?
  public var reason: String

  private enum CodingKeys: String, CodingKey { case gate, released, reference, plugIn, reason }

  /// Says every key, also those that are null.
  public func encode(to encoder: any Encoder) throws {
    var table = encoder.container(keyedBy: CodingKeys.self)
    try table.encode(gate, forKey: .gate)
    try table.encode(released, forKey: .released)
    try table.encode(reference, forKey: .reference)
    try table.encode(plugIn, forKey: .plugIn)
    try table.encode(reason, forKey: .reason)
  }

  /// - Parameters:
  ///   - reference: of the model as it came, or of the adapter that was released last.
  ///   - plugIn: of the adapter that is judged.
  public init(_ gate: ReleaseGate, metric: Metric, reference: Double?, plugIn: Double?) {
    self.gate = gate
    self.reference = reference?.finite
    self.plugIn = plugIn?.finite
    let what =
      gate == .lastReleased ? "of the adapter that was released last" : "of the model as it came"
    guard let reference, let plugIn else {
      released = false
      reason = "plug-in \(metric.rawValue) was not measured, so nothing says that it is no worse"
      return
    }
    released = plugIn.isFinite && metric.isAsGood(plugIn, as: reference)
    let (own, other) = (Self.said(plugIn), Self.said(reference))
    reason =
      "plug-in \(metric.rawValue) \(own) is \(released ? "no worse" : "worse") than the \(other) \(what)"
  }

  private static func said(_ value: Double) -> String { String(format: "%.4g", value) }
}

extension FederatedTuning {
  /// The folder, in that of the results, of an adapter that was not released.
  public static let withheldFolder = "withheld"

  /// What an adapter that was released earlier is worth on the same texts, where a release is measured by that.
  func gateReference() async throws -> Double? {
    guard configuration.releaseGate == .lastReleased, let folder = configuration.lastReleased else {
      return nil
    }
    return try await owner.onThread { owner in
      let (adapter, _) = try AdapterFolder.read(
        URL(fileURLWithPath: folder), for: owner.model)
      return try owner.quality(adapter)
    }
  }

  /// Judges a run's adapter; `nil` where nothing is asked.
  func verdict(_ numbers: FiveNumbers, reference: Double?) -> ReleaseVerdict? {
    let gate = configuration.releaseGate
    guard gate != .none else { return nil }
    return ReleaseVerdict(
      gate, metric: configuration.metric,
      reference: gate == .lastReleased ? reference : numbers[.fullZeroShot],
      plugIn: numbers[.plugIn])
  }
}
