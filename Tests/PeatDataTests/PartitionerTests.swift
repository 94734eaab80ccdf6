import Foundation
import PeatData
import PeatTensor
import Testing

@Suite("Partitioners") struct PartitionerTests {
  private let documents = (0..<97).map { n in
    Document(
      String(repeating: "x", count: 1 + n % 7),
      fields: ["speaker": "s\(n % 8)", "label": "l\(n % 5)"])
  }

  private var all: [(String, any Partitioner)] {
    [
      ("field", FieldPartitioner(field: "speaker")), ("iid", IIDPartitioner(seed: 3)),
      ("dirichlet 0.01", DirichletPartitioner(field: "label", alpha: 0.01, seed: 3)),
      ("dirichlet 1e-6", DirichletPartitioner(field: "label", alpha: 1e-6, seed: 3)),
      ("dirichlet 1", DirichletPartitioner(field: "label", alpha: 1, seed: 3)),
      ("dirichlet 1e9", DirichletPartitioner(field: "label", alpha: 1e9, seed: 3)),
    ]
  }

  @Test(arguments: [1, 2, 4, 8])
  func `give every document to exactly one client, and every client something`(clients: Int) throws
  {
    for (name, partitioner) in all {
      let parts = try partitioner.partition(documents, clients: clients)
      #expect(parts.count == clients, "\(name)")
      #expect(parts.allSatisfy { !$0.isEmpty && $0 == $0.sorted() }, "\(name)")
      #expect(parts.flatMap { $0 }.sorted() == Array(documents.indices), "\(name)")
      #expect(try partitioner.partition(documents, clients: clients) == parts, "\(name)")
    }
  }

  @Test func `give each of as many clients as documents one`() throws {
    for (name, partitioner) in all where name != "field" {
      let parts = try partitioner.partition(Array(documents.prefix(9)), clients: 9)
      #expect(parts.map(\.count) == Array(repeating: 1, count: 9), "\(name)")
    }
  }

  @Test func `refuse more clients than documents, and none`() {
    for (_, partitioner) in all {
      #expect(errorOf { try partitioner.partition(documents, clients: 98) }?.code == .badData)
      #expect(errorOf { try partitioner.partition(documents, clients: 0) }?.code == .usage)
    }
  }

  @Test func `keep groups whole and balance them by size`() throws {
    // Sizes 10, 9, 6, 5: the largest first, each to the client with less: 10 + 5 and 9 + 6.
    let sized = [("a", 5), ("b", 10), ("c", 6), ("d", 9)].map { name, size in
      Document(String(repeating: "x", count: size), fields: ["who": name])
    }
    #expect(
      try FieldPartitioner(field: "who").partition(sized, clients: 2) == [[0, 1], [2, 3]])
    let parts = try FieldPartitioner(field: "speaker").divide(documents, clients: 4)
    let owners = parts.map { Set($0.compactMap { $0.fields["speaker"] }) }
    #expect(owners.map(\.count) == [2, 2, 2, 2])
    #expect(owners.reduce(into: Set()) { $0.formUnion($1) }.count == 8)
  }

  @Test func `name the fields found where one is missing, and the values where they are too few`() {
    let missing = errorOf {
      try FieldPartitioner(field: "spaeker").partition(documents, clients: 2)
    }
    #expect(missing?.message.contains("Did you mean 'speaker'? Known: label, speaker.") == true)
    let few = errorOf { try FieldPartitioner(field: "label").partition(documents, clients: 6) }
    #expect(few?.message.contains("5 values (l0, l1, l2, l3, l4)") == true)
  }

  @Test func `deal evenly where clients are to be alike`() throws {
    #expect(
      try IIDPartitioner(seed: 1).partition(documents, clients: 4).map(\.count) == [25, 24, 24, 24])
    let one = try IIDPartitioner(seed: 1).partition(documents, clients: 4)
    #expect(one != (try IIDPartitioner(seed: 2).partition(documents, clients: 4)))
  }

  @Test func `skew labels the more the smaller alpha is`() throws {
    let many = (0..<2000).map { Document("x", fields: ["label": "l\($0 % 5)"]) }
    /// The largest share of one label in a client, averaged over the clients.
    func skew(_ alpha: Double) throws -> Double {
      let parts = try DirichletPartitioner(field: "label", alpha: alpha, seed: 11).divide(
        many, clients: 5)
      let shares = parts.map { part in
        let counts = Dictionary(grouping: part) { $0.fields["label"] ?? "" }.mapValues(\.count)
        return Double(counts.values.max() ?? 0) / Double(part.count)
      }
      return shares.reduce(0, +) / 5
    }
    #expect(try skew(1000) < 0.25)
    #expect(try skew(0.05) > 0.6)
  }

  @Test(arguments: [0.0, -1, .nan, .infinity, 1e-300])
  func `refuse an alpha that makes no distribution`(alpha: Double) {
    let error = errorOf {
      try DirichletPartitioner(field: "label", alpha: alpha, seed: 1).partition(
        documents, clients: 2)
    }
    #expect(error?.code == .usage)
  }

  @Test(arguments: [0.3, 1.0, 2.5, 20.0])
  func `draw gamma numbers with the right mean and variance`(shape: Double) {
    var random = SeededRandom(seed: 5)
    let count = 40_000
    var draws: [Double] = []
    for _ in 0..<count { draws.append(exp(random.logGamma(shape: shape))) }
    let mean = draws.reduce(0, +) / Double(count)
    let variance = draws.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(count)
    // Both are the shape; five standard errors.
    #expect(abs(mean - shape) < 5 * (shape / Double(count)).squareRoot())
    #expect(
      abs(variance - shape) < 5 * ((2 * shape * shape + 6 * shape) / Double(count)).squareRoot())
  }

  @Test func `draw proportions that sum to one`() {
    var random = SeededRandom(seed: 5)
    for alpha in [1e-6, 0.1, 1, 1e9] {
      let shares = random.dirichlet(alpha: alpha, count: 7)
      #expect(abs(shares.reduce(0, +) - 1) < 1e-9)
      #expect(shares.allSatisfy { $0 >= 0 })
    }
  }
}
