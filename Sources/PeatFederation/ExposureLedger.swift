import PeatTensor

/// Which blocks of the middle each client was sent, and what share of the middle's weights it could put together from them.
///
/// Who was sent two levels has the blocks of both. Of a block of which both show the same share, it is the same copy, and counts once; where they show different shares, such
/// as one that was thinned out and one that was made narrower, one may show what the other does not: both count, up to the whole block. So a share is
/// what could be put together at most.
public struct ExposureLedger: Sendable, Equatable {
  /// For each level the blocks of the middle that it shows, each with the share of the middle's weights that it shows of it.
  public private(set) var contents: [[Int: Double]]
  /// What levels were before they were made anew.
  private var formerContents: [[[Int: Double]]]
  /// The share of the middle's weights in one of its blocks.
  private let wholeBlock: Double
  /// The share that a client may have seen at most.
  public let limit: Double
  /// The levels whose blocks each has seen, and those that it was sent.
  private var seen: [ClientID: Set<Int>] = [:]
  private var sent: [ClientID: Set<Int>] = [:]

  /// - Parameter wholeBlock: the share of the middle's weights in one of its blocks, which are all alike.
  /// - Throws: `usage` where the limit is outside of 0…1, or every level passes it.
  public init(contents: [[Int: Double]], limit: Double = 1, wholeBlock: Double = 1) throws {
    guard (0...1).contains(limit) else {
      throw PeatError.usage("maxExposure is \(limit); it must be between 0 and 1.")
    }
    self.contents = contents
    formerContents = contents.map { _ in [] }
    self.wholeBlock = wholeBlock
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
    formerContents = contents.map { _ in [] }
    wholeBlock = 1
    limit = 1
  }

  /// A level is made anew: who saw the old one may have what either shows, and being sent the new one is not yet allowed to anybody.
  public mutating func renew(_ level: Int, contents new: [Int: Double]) {
    formerContents[level].append(contents[level])
    contents[level] = new
    for client in sent.keys { sent[client]?.remove(level) }
  }

  /// A level is sent.
  public mutating func note(_ level: Int, for client: ClientID) {
    noteClaim(level, for: client)
    sent[client, default: []].insert(level)
  }

  /// A client says that it has a level from before. It is counted, and allows nothing: it may not be true.
  public mutating func noteClaim(_ level: Int, for client: ClientID) {
    seen[client, default: []].insert(level)
  }

  /// The share of the middle that a client has seen, or would have with one more level.
  public func exposure(of client: ClientID, with level: Int? = nil) -> Double {
    var levels = seen[client] ?? []
    if let level { levels.insert(level) }
    return exposure(ofLevels: levels)
  }

  /// The share of the middle that all clients could put together from all that they were sent, or said that they had from before.
  public var exposureTogether: Double {
    exposure(ofLevels: seen.values.reduce(into: []) { $0.formUnion($1) })
  }

  /// The share that the clients who could put together the most could, if they gave each other what they have: of one, of two, … until one more adds nothing.
  ///
  /// Who joins next is who adds most, which is at least 1 − 1/e of the most that so many could (Nemhauser et al. 1978, <https://doi.org/10.1007/BF01588971>).
  public var exposureOfColluders: [Double] {
    var levels: Set<Int> = []
    var left = Set(seen.values)
    var result: [Double] = []
    while let (own, next) = left.map({ ($0, exposure(ofLevels: levels.union($0))) })
      .max(by: { $0.1 < $1.1 }), next > (result.last ?? 0) + Self.tolerance
    {
      levels.formUnion(own)
      left.remove(own)
      result.append(next)
    }
    return result
  }

  /// The share of the middle that some levels show together.
  public func exposure(ofLevels levels: Set<Int>) -> Double {
    var shown: [Int: [Double]] = [:]
    // In one order, so that the sum is always the same.
    for level in levels.sorted() {
      for copy in formerContents[level] + [contents[level]] {
        for (block, share) in copy
        where !(shown[block] ?? []).contains(where: { abs($0 - share) <= Self.tolerance }) {
          shown[block, default: []].append(share)
        }
      }
    }
    return shown.sorted { $0.key < $1.key }.reduce(0) { sum, block in
      sum + max(block.value.max() ?? 0, min(wholeBlock, block.value.reduce(0, +)))
    }
  }

  /// Whether a level may be sent to a client that has seen nothing.
  public func allowsNewcomers(_ level: Int) -> Bool {
    exposure(ofLevels: [level]) <= limit + Self.tolerance
  }

  /// Whether a client may be sent a level: it stays within the limit, or was sent it before.
  public func allows(_ level: Int, for client: ClientID) -> Bool {
    limit >= 1 || contents[level].isEmpty || sent[client]?.contains(level) == true
      || exposure(of: client, with: level) <= limit + Self.tolerance
  }

  // MARK: What is kept of it

  /// What levels show now, and what they showed before they were made anew.
  package struct Levels: Sendable, Codable, Equatable {
    var contents: [[Int: Double]]
    var formerContents: [[[Int: Double]]]
  }

  /// The levels that one client has seen, and that it was sent.
  package struct Sights: Sendable, Codable, Equatable {
    var seen: [Int] = []
    var sent: [Int] = []
  }

  package var levels: Levels {
    get { Levels(contents: contents, formerContents: formerContents) }
    set { (contents, formerContents) = (newValue.contents, newValue.formerContents) }
  }

  package subscript(client: ClientID) -> Sights {
    get {
      Sights(seen: (seen[client] ?? []).sorted(), sent: (sent[client] ?? []).sorted())
    }
    set {
      seen[client] = newValue.seen.isEmpty ? nil : Set(newValue.seen)
      sent[client] = newValue.sent.isEmpty ? nil : Set(newValue.sent)
    }
  }
}
