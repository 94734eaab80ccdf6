import PeatTensor

/// Deals documents like cards: shuffled by `seed`, then one to each client in turn, so that all clients are alike.
public struct IIDPartitioner: Partitioner {
  public let seed: UInt64

  public init(seed: UInt64) { self.seed = seed }

  public func partition(_ documents: [Document], clients: Int) throws -> [[Int]] {
    try checkThereIsEnough(documents, clients: clients)
    var random = SeededRandom(seed: seed, "IID partition")
    var parts = Array(repeating: [Int](), count: clients)
    for (turn, number) in random.shuffled(Array(documents.indices)).enumerated() {
      parts[turn % clients].append(number)
    }
    return parts.map { $0.sorted() }
  }
}
