import Foundation

/// Where a released adapter comes from: which updates, of whom, made it what it is. `lineage.json` lies beside it.
public struct Lineage: Sendable, Codable, Equatable {
  public static let file = "lineage.json"
  static let currentFormat = 1

  public var formatVersion = Lineage.currentFormat
  public var run: RunID
  public var method: String
  /// Of the full model.
  public var sourceDigest: Digest
  /// Of the adapter's file beside this one, and the round that it is of.
  public var adapter: Digest
  public var round: Int
  /// Of what was released before, where the run was measured against it.
  public var previous: Digest?
  /// The rounds up to that one.
  public var rounds: [Round]
  public var metric: Metric
  /// Of the full model as it came, and with the adapter; absent where it was not measured, or is no number.
  public var zeroShot: Double?
  public var plugIn: Double?
  public var gate: ReleaseGate
  /// When it was written, in ISO 8601.
  public var date: String

  /// One round: which adapter its tasks began with, which one it gave, and from what.
  public struct Round: Sendable, Codable, Equatable {
    public var round: Int
    /// The digest of the adapter as clients read it, which updates state; and of the one that the round gave.
    public var base: Digest
    public var adapter: Digest
    public var updates: [Update]
  }

  /// An update that was aggregated.
  public struct Update: Sendable, Codable, Equatable {
    public var client: ClientID
    /// Of its task: earlier than the round where it came late.
    public var round: Int
    public var exampleCount: Int
    /// What its client signed; null where the connection knew nobody by certificate.
    public var signature: UpdateSignature?
  }
}

/// A lineage with its coordinator's signature.
public struct LineageFile: Sendable, Codable, Equatable {
  public var lineage: Lineage
  /// null where the coordinator had no certificate: without TLS, or in one process.
  public var seal: DocumentSeal?

  private enum CodingKeys: String, CodingKey { case lineage, seal }

  public func encode(to encoder: any Encoder) throws {
    var table = encoder.container(keyedBy: CodingKeys.self)
    try table.encode(lineage, forKey: .lineage)
    try table.encode(seal, forKey: .seal)
  }

  /// The bytes that are signed: the lineage as JSON with sorted keys and nothing between them.
  static func bytes(of lineage: Lineage) throws -> Data {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    return try encoder.encode(lineage)
  }

  /// - Parameter identity: of the coordinator.
  init(_ lineage: Lineage, by identity: Identity?) throws {
    self.lineage = lineage
    seal = try identity.map { try DocumentSeal(Self.bytes(of: lineage), by: $0) }
  }
}

extension RunResult {
  /// The lineage of this run's adapter as it is after a round.
  ///
  /// - Parameters:
  ///   - digest: of its file.
  ///   - plugIn: of the full model with it.
  func lineage(
    of digest: Digest, after round: Int, plugIn: Double?, source: Digest, previous: Digest?,
    date: Date
  ) -> Lineage {
    let rounds = report.rounds.filter { $0.round <= round }.compactMap { record -> Lineage.Round? in
      guard let base = record.baseDigest, let adapter = record.adapterDigest else { return nil }
      return Lineage.Round(
        round: record.round, base: base, adapter: adapter,
        updates: record.outcomes.filter { $0.result == .delivered }.map {
          Lineage.Update(
            client: $0.client, round: record.round - $0.staleness,
            exampleCount: $0.exampleCount ?? 0, signature: $0.signature)
        })
    }
    return Lineage(
      run: report.run, method: configuration.method, sourceDigest: source, adapter: digest,
      round: round, previous: previous, rounds: rounds, metric: configuration.metric,
      zeroShot: fiveNumbers[.fullZeroShot]?.finite,
      plugIn: plugIn?.finite, gate: configuration.releaseGate,
      date: ISO8601DateFormatter().string(from: date))
  }
}
