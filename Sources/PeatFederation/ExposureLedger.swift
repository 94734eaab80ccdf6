import PeatTensor

/// Which blocks of the middle each client was sent, and what share of the middle's weights it could put together from them.
///
/// Emulators of layer drop are original blocks: who was sent two levels has the blocks of both.
public struct ExposureLedger: Sendable, Equatable {
  /// For each level the blocks of the middle that it holds as they are, each with its share of the middle's weights.
  public let contents: [[Int: Double]]
  /// The share that a client may have seen at most.
  public let limit: Double
  private var seen: [ClientID: Set<Int>] = [:]
  /// The levels that each was sent.
  private var sent: [ClientID: Set<Int>] = [:]

  /// - Throws: `usage` where the limit is outside of 0…1, or every level passes it.
  public init(contents: [[Int: Double]], limit: Double = 1) throws {
    guard (0...1).contains(limit) else {
      throw PeatError.usage("maxExposure is \(limit); it must be between 0 and 1.")
    }
    self.contents = contents
    self.limit = limit
    let least = contents.map { $0.values.reduce(0, +) }.min() ?? 0
    guard contents.isEmpty || contents.indices.contains(where: allowsNewcomers) else {
      throw PeatError.usage(
        "maxExposure is \(limit), but the level that gives away least gives away \(least) of the middle. Allow more, or add a smaller emulator."
      )
    }
  }

  private static let tolerance = 1e-9

  /// What levels hold that nobody said anything of: nothing of the middle.
  public static func empty(levels: Int) -> ExposureLedger {
    ExposureLedger(unlimited: Array(repeating: [:], count: levels))
  }

  private init(unlimited contents: [[Int: Double]]) {
    self.contents = contents
    limit = 1
  }

  /// A level is sent.
  public mutating func note(_ level: Int, for client: ClientID) {
    noteClaim(level, for: client)
    sent[client, default: []].insert(level)
  }

  /// A client says that it has a level from before. It is counted, and allows nothing: it may not be true.
  public mutating func noteClaim(_ level: Int, for client: ClientID) {
    seen[client, default: []].formUnion(contents[level].keys)
  }

  /// The share of the middle that a client has seen, or would have with one more level.
  public func exposure(of client: ClientID, with level: Int? = nil) -> Double {
    var blocks = seen[client] ?? []
    if let level { blocks.formUnion(contents[level].keys) }
    var shares: [Int: Double] = [:]
    for content in contents { shares.merge(content) { first, _ in first } }
    // In one order, so that the sum is always the same.
    return blocks.sorted().reduce(0) { $0 + (shares[$1] ?? 0) }
  }

  /// Whether a level may be sent to a client that has seen nothing.
  public func allowsNewcomers(_ level: Int) -> Bool {
    contents[level].values.reduce(0, +) <= limit + Self.tolerance
  }

  /// Whether a client may be sent a level: it stays within the limit, or was sent it before.
  public func allows(_ level: Int, for client: ClientID) -> Bool {
    limit >= 1 || contents[level].isEmpty || sent[client]?.contains(level) == true
      || exposure(of: client, with: level) <= limit + Self.tolerance
  }
}
