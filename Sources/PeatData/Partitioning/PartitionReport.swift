import PeatTensor

/// What a division of data gave: how much each client has, and how far its labels are from those of all.
public struct PartitionReport: Sendable, Equatable, Codable {
  public struct Client: Sendable, Equatable, Codable {
    public var name: String
    public var documents: Int
    /// Of text, in UTF-8.
    public var bytes: Int
    /// How often each label is there; empty where no field was named.
    public var labels: [String: Int]
    /// Total variation between its labels and all clients' labels together: half the sum of |p − q|, 0 alike, 1 disjoint.
    public var labelDistance: Double?
  }

  public struct Sizes: Sendable, Equatable, Codable {
    public var least: Int
    public var median: Double
    public var most: Int
    /// The largest share of all that one client has.
    public var largestShare: Double
  }

  /// The field that was counted.
  public var field: String?
  public var clients: [Client]
  public var documents: Sizes
  public var bytes: Sizes
  /// Of all clients together.
  public var labels: [String: Int]
  /// Mean and largest of the clients' distances, each client counting once.
  public var meanLabelDistance: Double?
  public var largestLabelDistance: Double?

  /// - Parameters:
  ///   - field: the field whose values count as labels; documents without it count as none.
  /// - Throws: `usage` where there are no clients.
  public init(_ groups: [DocumentGroup], field: String? = nil) throws {
    guard !groups.isEmpty else { throw PeatError.usage("A division has at least one client.") }
    self.field = field
    clients = groups.map { group in
      var labels: [String: Int] = [:]
      if let field {
        for label in group.documents.compactMap({ $0.fields[field] }) {
          labels[label, default: 0] += 1
        }
      }
      return Client(
        name: group.name, documents: group.documents.count, bytes: group.byteCount, labels: labels)
    }
    labels = clients.reduce(into: [:]) { $0.merge($1.labels, uniquingKeysWith: +) }
    documents = Sizes(clients.map(\.documents))
    bytes = Sizes(clients.map(\.bytes))
    let pooled = PartitionReport.shares(labels)
    for index in clients.indices where !clients[index].labels.isEmpty {
      let own = PartitionReport.shares(clients[index].labels)
      // In a fixed order: sums must not depend on a dictionary's.
      clients[index].labelDistance =
        pooled.keys.sorted().reduce(0) { $0 + abs((own[$1] ?? 0) - (pooled[$1] ?? 0)) } / 2
    }
    let distances = clients.compactMap(\.labelDistance)
    if !distances.isEmpty {
      meanLabelDistance = distances.reduce(0, +) / Double(distances.count)
      largestLabelDistance = distances.max()
    }
  }

  private static func shares(_ counts: [String: Int]) -> [String: Double] {
    let sum = Double(counts.values.reduce(0, +))
    return counts.mapValues { Double($0) / sum }
  }
}

extension PartitionReport.Sizes {
  /// - Precondition: there is at least one.
  init(_ counts: [Int]) {
    let sorted = counts.sorted()
    precondition(!sorted.isEmpty, "sizes of no clients")
    least = sorted[0]
    most = sorted[sorted.count - 1]
    median = Double(sorted[(sorted.count - 1) / 2] + sorted[sorted.count / 2]) / 2
    let sum = counts.reduce(0, +)
    largestShare = sum == 0 ? 0 : Double(most) / Double(sum)
  }
}

extension PartitionReport {
  /// Rows for a table: a heading, at most `limit` clients, and what holds for all. Of pictures, which have no text, there are no bytes.
  public func rows(limit: Int = 20) -> [[String]] {
    func rounded(_ value: Double?) -> String {
      value.map { "\(Double(Int(($0 * 1000).rounded())) / 1000)" } ?? ""
    }
    let hasText = bytes.most > 0
    func row(_ name: String, _ documents: String, _ bytes: String, _ more: String...) -> [String] {
      [name, documents] + (hasText ? [bytes] : []) + more
    }
    var rows = [row("client", "documents", "bytes", "labels", "distance")]
    for client in clients.prefix(limit) {
      rows.append(
        row(
          client.name, "\(client.documents)", "\(client.bytes)",
          client.labels.isEmpty ? "" : "\(client.labels.count)", rounded(client.labelDistance)))
    }
    if clients.count > limit { rows.append(["… \(clients.count - limit) more"]) }
    rows.append(row("least", "\(documents.least)", "\(bytes.least)"))
    rows.append(row("median", rounded(documents.median), rounded(bytes.median)))
    rows.append(row("most", "\(documents.most)", "\(bytes.most)"))
    if let meanLabelDistance {
      rows.append(row("mean", "", "", "", rounded(meanLabelDistance)))
    }
    return rows
  }
}
