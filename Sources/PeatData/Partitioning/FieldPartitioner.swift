import PeatTensor

/// Keeps documents with the same value of a field together: one speaker or user is one client's.
///
/// Where there are more groups than clients, the groups are dealt from the largest to the smallest, each to the client with
/// the least text so far, so that clients end up about the same size (Graham 1969, <https://doi.org/10.1137/0117039>).
public struct FieldPartitioner: Partitioner {
  public let field: String

  public init(field: String) { self.field = field }

  public func partition(_ documents: [Document], clients: Int) throws -> [[Int]] {
    try checkThereIsEnough(documents, clients: clients)
    // Checks that every document has the field, and orders the groups.
    let groups = try DocumentReader.groups(of: documents, by: field)
    let dealt = try Self.deal(groups, clients: clients, field: field)
    var owner: [String: Int] = [:]
    for (client, numbers) in dealt.enumerated() {
      for number in numbers { owner[groups[number].name] = client }
    }
    var parts = Array(repeating: [Int](), count: clients)
    for (number, document) in documents.enumerated() {
      if let value = document.fields[field], let client = owner[value] {
        parts[client].append(number)
      }
    }
    return parts
  }

  /// For each client the numbers of its groups, in order.
  ///
  /// - Throws: `PeatError.badData` where there are fewer groups than clients.
  public static func deal(
    _ groups: [DocumentGroup], clients: Int, field: String
  ) throws -> [[Int]] {
    guard clients >= 1 else {
      throw PeatError.usage("\(clients) clients: at least one is needed.")
    }
    guard groups.count >= clients else {
      throw PeatError.badData(
        """
        '\(field)' has \(groups.count) values (\(DocumentReader.list(groups.map(\.name)))), too few for \
        \(clients) clients. Use at most \(groups.count) clients, or another field.
        """)
    }
    let sizes = groups.map(\.byteCount)
    let order = groups.indices.sorted { (sizes[$1], $0) < (sizes[$0], $1) }
    var loads = Array(repeating: 0, count: clients)
    var parts = Array(repeating: [Int](), count: clients)
    for (turn, group) in order.enumerated() {
      // The first groups go to a client each, so that none stays empty even where texts are.
      let client =
        turn < clients
        ? turn : loads.indices.min { (loads[$0], $0) < (loads[$1], $1) } ?? 0
      parts[client].append(group)
      loads[client] += sizes[group]
    }
    return parts.map { $0.sorted() }
  }
}
