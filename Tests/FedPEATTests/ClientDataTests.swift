import FedPEAT
import Foundation
import TestSupport
import Testing

@Suite("Client data") struct ClientDataTests {
  /// Documents that can be told apart, of five users with 12 each.
  private func write(_ count: Int, to folder: URL) throws -> URL {
    let file = folder.appendingPathComponent("documents.jsonl")
    let lines = (0..<count).map {
      "{\"text\": \"document number \($0)\", \"user\": \"u\($0 % 5)\"}"
    }
    try Data(lines.joined(separator: "\n").utf8).write(to: file)
    return file
  }

  private func configuration(_ data: URL) -> RunConfiguration {
    var configuration = RunConfiguration()
    configuration.data = data.path
    return configuration
  }

  @Test(arguments: [nil, "user"] as [String?])
  func `every document goes to one client or is held back`(field: String?) throws {
    try withTemporaryFolder { folder in
      var configuration = configuration(try write(60, to: folder))
      configuration.clientsBy = field
      configuration.clients = 3
      configuration.validationShare = 0.2
      let parts = try ClientData(configuration)
      #expect(parts.groups.map(\.name) == ["client-1", "client-2", "client-3"])
      let kept = parts.groups.flatMap(\.documents).map(\.text)
      let held = parts.evaluation.map(\.text)
      #expect(Set(kept).isDisjoint(with: held))
      #expect((kept + held).sorted() == (0..<60).map { "document number \($0)" }.sorted())
      #expect(parts.groups.allSatisfy { !$0.documents.isEmpty })
      #expect((9...14).contains(held.count))
      if field != nil {
        let users = parts.groups.map { Set($0.documents.compactMap { $0.fields["user"] }) }
        #expect(users.reduce(0) { $0 + $1.count } == 5)
        #expect(Set(users.flatMap { $0 }).count == 5)
      }
      #expect(try ClientData(configuration).groups == parts.groups)
      configuration.seed = 1
      #expect(try ClientData(configuration).evaluation != parts.evaluation)
    }
  }

  @Test func `a plain text is divided by its paragraphs or lines`() throws {
    try withTemporaryFolder { folder in
      let file = folder.appendingPathComponent("text.txt")
      var configuration = configuration(file)
      configuration.clients = 3
      let paragraphs = (1...30).map { "Paragraph number \($0) begins,\nand here it ends." }
      try Data(paragraphs.joined(separator: "\n\n").utf8).write(to: file)
      let parts = try ClientData(configuration)
      #expect(
        (parts.groups.flatMap(\.documents) + parts.evaluation).map(\.text).sorted()
          == paragraphs.map { $0 + "\n" }.sorted())
      #expect(Set(parts.groups.map(\.documents.count)).isSubset(of: [8, 9]))
      // One paragraph of many lines.
      let lines = (1...30).map { "This is the line with the number \($0)" }
      try Data(lines.joined(separator: "\n").utf8).write(to: file)
      let byLines = try ClientData(configuration)
      #expect(
        (byLines.groups.flatMap(\.documents) + byLines.evaluation).map(\.text).sorted()
          == lines.map { $0 + "\n" }.sorted())
      try Data("Two lines,\nno more.".utf8).write(to: file)
      expectError(.badData, "2 lines") { _ = try ClientData(configuration) }
      configuration.partition = "dirichlet=0.5:label"
      expectError(.badData, "can't be divided by 'label'") { _ = try ClientData(configuration) }
    }
  }

  @Test func `a word divides otherwise, and says what came of it`() throws {
    try withTemporaryFolder { folder in
      var configuration = configuration(try write(600, to: folder))
      configuration.partition = "dirichlet=0.3:user"
      configuration.clients = 3
      let parts = try ClientData(configuration)
      #expect(parts.partition.clients.map(\.name) == ["client-1", "client-2", "client-3"])
      #expect(parts.partition.labels.values.allSatisfy { $0 == 120 })
      #expect((parts.partition.meanLabelDistance ?? 0) > 0.1)
      configuration.clientsBy = "user"
      expectError(.usage, "name one of them") { _ = try ClientData(configuration) }
      configuration.partition = "field=user"
      let named = try ClientData(configuration)
      configuration.partition = nil
      #expect(try ClientData(configuration).groups == named.groups)
      configuration.model = "model"
      configuration.partition = "dirichlet"
      expectError(.usage, "ALPHA") { try configuration.validate() }
    }
  }

  @Test func `with a text to evaluate on nothing is held back`() throws {
    try withTemporaryFolder { folder in
      var configuration = configuration(try write(20, to: folder))
      let own = folder.appendingPathComponent("own.txt")
      try Data("something else".utf8).write(to: own)
      configuration.evaluationData = own.path
      let parts = try ClientData(configuration)
      #expect(parts.groups.flatMap(\.documents).count == 20)
      #expect(parts.evaluation.map(\.text) == ["something else"])
    }
  }

  @Test func `of one long text the end is held back`() throws {
    try withTemporaryFolder { folder in
      let text = (0..<100).map { "word\($0)" }.joined(separator: " ")
      let file = folder.appendingPathComponent("one.txt")
      try Data(text.utf8).write(to: file)
      var configuration = configuration(file)
      configuration.clients = 1
      let parts = try ClientData(configuration)
      let kept = try #require(parts.groups.first?.documents.first?.text)
      let held = try #require(parts.evaluation.first?.text)
      #expect(kept + held == text)
      #expect(held.count == text.count / 10)
    }
  }

  @Test func `too little text, too few documents, no data`() throws {
    try withTemporaryFolder { folder in
      let file = folder.appendingPathComponent("short.txt")
      try Data("short".utf8).write(to: file)
      var configuration = configuration(file)
      #expect(throws: PeatError.self) { try ClientData(configuration) }
      configuration.clients = 1
      #expect(throws: PeatError.self) { try ClientData(configuration) }
      configuration.data = nil
      #expect(throws: PeatError.self) { try ClientData(configuration) }
    }
  }
}
