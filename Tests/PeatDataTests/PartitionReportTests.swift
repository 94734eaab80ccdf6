import PeatData
import PeatTensor
import TestSupport
import Testing

@Suite("PartitionReport") struct PartitionReportTests {
  private func group(_ name: String, _ labels: [String]) -> DocumentGroup {
    DocumentGroup(name: name, documents: labels.map { Document("abc", fields: ["label": $0]) })
  }

  @Test func `counts sizes and labels, and how far each client is from all`() throws {
    // Pooled: a 3/4, b 1/4. One: a 1, distance (1/4 + 1/4)/2. Two: a 1/2, b 1/2, the same.
    let report = try PartitionReport(
      [group("one", ["a", "a"]), group("two", ["a", "b"])], field: "label")
    #expect(report.labels == ["a": 3, "b": 1])
    #expect(report.clients[1].labels == ["a": 1, "b": 1])
    #expect(report.clients.map(\.labelDistance) == [0.25, 0.25])
    #expect(report.meanLabelDistance == 0.25)
    #expect(report.bytes.least == 6 && report.bytes.median == 6)
    let uneven = try PartitionReport([
      group("one", ["a"]), group("two", ["a", "a", "a"]), group("three", ["a", "a", "a", "a"]),
    ])
    #expect(uneven.documents.least == 1 && uneven.documents.most == 4)
    #expect(uneven.documents.median == 3 && uneven.documents.largestShare == 0.5)
    #expect(uneven.meanLabelDistance == nil && uneven.labels.isEmpty)
    #expect(
      uneven.rows(limit: 2).map { $0[0] } == [
        "client", "one", "two", "… 1 more", "least", "median", "most",
      ])
  }

  @Test func `disjoint labels are as far as can be, equal ones not at all`() throws {
    let disjoint = try PartitionReport(
      [group("one", ["a"]), group("two", ["b"])], field: "label")
    #expect(disjoint.meanLabelDistance == 0.5)
    let equal = try PartitionReport(
      [group("one", ["a", "b"]), group("two", ["b", "a"])], field: "label")
    #expect(equal.meanLabelDistance == 0)
    expectError(.usage) { _ = try PartitionReport([]) }
  }

  @Test func `Dirichlet's α shows in the distance, and quantity's β in the sizes`() throws {
    let documents = (0..<2000).map { Document("x", fields: ["label": "\($0 % 10)"]) }
    func report(_ rule: String) throws -> PartitionReport {
      let rule = try PartitionRule(rule)
      let parts = try rule.partitioner(seed: 1).divide(documents, clients: 10)
      return try PartitionReport(
        parts.enumerated().map { DocumentGroup(name: "\($0)", documents: $1) }, field: "label")
    }
    let distances = try ["dirichlet=0.1:label", "dirichlet=1:label", "dirichlet=100:label", "iid"]
      .map { try report($0).meanLabelDistance ?? 0 }
    // A sample of everything is near, too; how near is chance.
    let drawn = Array(distances.prefix(3))
    #expect(drawn == drawn.sorted(by: >))
    #expect(distances[0] > 0.5 && distances[3] < 0.1)
    let shares = try ["quantity=0.1", "quantity=1", "quantity=1000"]
      .map { try report($0).documents.largestShare }
    #expect(shares[0] > shares[1] && shares[1] > shares[2])
    #expect(shares[2] < 0.12)
  }
}

@Suite("QuantityPartitioner") struct QuantityPartitionerTests {
  private let documents = (0..<500).map { Document("\($0)") }

  @Test func `every document belongs to one client, and none is without`() throws {
    for beta in [1e-6, 0.05, 1, 1e9] {
      for seed in UInt64(0)..<5 {
        let parts = try QuantityPartitioner(beta: beta, seed: seed)
          .partition(documents, clients: 20)
        #expect(parts.count == 20 && parts.allSatisfy { !$0.isEmpty })
        #expect(parts.flatMap { $0 }.sorted() == Array(0..<500))
      }
    }
  }

  @Test func `the same seed divides alike, and wrong settings are refused`() throws {
    func parts(_ seed: UInt64) throws -> [[Int]] {
      try QuantityPartitioner(beta: 0.5, seed: seed).partition(documents, clients: 7)
    }
    #expect(try parts(3) == parts(3))
    #expect(try parts(3) != parts(4))
    for beta in [0, -1, Double.nan, .infinity] {
      expectError(.usage, "beta") {
        _ = try QuantityPartitioner(beta: beta, seed: 0).partition(documents, clients: 2)
      }
    }
    expectError(.badData, "500 documents") {
      _ = try QuantityPartitioner(beta: 1, seed: 0).partition(documents, clients: 501)
    }
  }
}

@Suite("PartitionRule") struct PartitionRuleTests {
  @Test func `words name ways to divide`() throws {
    #expect(try PartitionRule("iid") == .iid)
    #expect(try PartitionRule("field=user") == .field("user"))
    #expect(try PartitionRule("dirichlet=0.5:label") == .dirichlet(alpha: 0.5, field: "label"))
    #expect(try PartitionRule("quantity=2") == .quantity(beta: 2))
    for text in ["iid", "field=user", "dirichlet=0.5:label", "quantity=2.0"] {
      #expect(try PartitionRule(text).description == text)
    }
  }

  @Test(arguments: [
    "", "iid=1", "field=", "field", "dirichlet=0.5", "dirichlet=x:label", "quantity", "quantity=a",
    "quantity=1:b", "other=1",
  ])
  func `other words are refused with those that there are`(text: String) {
    expectError(.usage, "dirichlet=ALPHA:LABEL") { _ = try PartitionRule(text) }
  }
}
