import PeatTensor

/// Gives clients different amounts, each a sample of everything: the numbers of documents are proportions drawn from a Dirichlet
/// distribution.
///
/// A small `beta` gives a few clients nearly all, a large one gives all about the same. A client that would get nothing receives one
/// document of the client that has most.
///
/// Source: Li, Diao, Chen, He 2022, section 4.3 (quantity skew), <https://arxiv.org/abs/2102.02079>.
public struct QuantityPartitioner: Partitioner {
  /// The concentration of the distribution, from 1e-6 to 1e9.
  public let beta: Double
  public let seed: UInt64

  public init(beta: Double, seed: UInt64) {
    self.beta = beta
    self.seed = seed
  }

  public func partition(_ documents: [Document], clients: Int) throws -> [[Int]] {
    try checkThereIsEnough(documents, clients: clients)
    guard (1e-6...1e9).contains(beta) else {
      throw PeatError.usage(
        "Quantity partition: beta is \(beta), a number from 0.000001 to 1e9 is expected.")
    }
    var random = SeededRandom(seed: seed, "quantity partition")
    let shares = random.dirichlet(alpha: beta, count: clients)
    let order = random.shuffled(Array(documents.indices))
    return order.cut(by: shares).givingEachOne().map { $0.sorted() }
  }
}

extension [Int] {
  /// Cuts the numbers into pieces with these shares, which sum to 1.
  func cut(by shares: [Double]) -> [[Int]] {
    var share = 0.0
    var start = 0
    return shares.indices.map { piece in
      share += shares[piece]
      let end =
        piece == shares.count - 1
        ? count : Swift.min(Swift.max(Int((share * Double(count)).rounded()), start), count)
      defer { start = end }
      return Array(self[start..<end])
    }
  }
}

extension [[Int]] {
  /// The same parts, with one number of the largest moved into each that is empty.
  func givingEachOne() -> [[Int]] {
    var parts = self
    while let empty = parts.firstIndex(where: \.isEmpty),
      let largest = parts.indices.max(by: { (parts[$0].count, $1) < (parts[$1].count, $0) }),
      let given = parts[largest].popLast()
    {
      parts[empty].append(given)
    }
    return parts
  }
}
