import PeatTensor

/// Divides documents among clients.
public protocol Partitioner: Sendable {
  /// For each client the numbers of its documents, in order. Every document belongs to exactly one client, and every client
  /// has at least one.
  ///
  /// - Throws: `PeatError.badData` where the documents can't be divided so.
  func partition(_ documents: [Document], clients: Int) throws -> [[Int]]
}

extension Partitioner {
  /// The documents of each client.
  public func divide(_ documents: [Document], clients: Int) throws -> [[Document]] {
    try partition(documents, clients: clients).map { $0.map { documents[$0] } }
  }

  func checkThereIsEnough(_ documents: [Document], clients: Int) throws {
    guard clients >= 1 else {
      throw PeatError.usage("\(clients) clients: at least one is needed.")
    }
    guard documents.count >= clients else {
      throw PeatError.badData(
        "\(documents.count) documents can't be divided among \(clients) clients. Use fewer clients."
      )
    }
  }
}
