import Foundation
import PeatData
import PeatTensor
import TestSupport
import Testing

@Suite("DocumentStream") struct DocumentStreamTests {
  private func all(_ stream: consuming DocumentStream) throws -> [Document] {
    var documents: [Document] = []
    while let document = try stream.next() { documents.append(document) }
    return documents
  }

  /// So many documents come one by one, as they come all at once.
  private func expectSame(_ url: URL, count: Int) throws {
    let expected = try DocumentReader.read(url)
    #expect(expected.count == count)
    let found = try all(DocumentStream(url))
    #expect(found == expected)
  }

  @Test func `lines of JSON are read as DocumentReader reads them`() throws {
    // Lines longer than a piece of the file (1 MB), blank ones, and CRLF.
    let long = String(repeating: "näher ", count: 300_000)
    let text =
      "\u{FEFF}{\"text\": \"one\", \"user\": \"ada\"}\r\n\n{\"text\": \"\(long)\"}\n"
      + "{\"instruction\": \"a\", \"output\": \"b\"}\n{\"text\": \"\"}\n\"plain\""
    try withFile(text, named: "data.jsonl") { url in
      try expectSame(url, count: 4)
    }
  }

  @Test func `elements of an array are read as DocumentReader reads them`() throws {
    // An element longer than a piece of the file, brackets and quotes in strings, records over several lines.
    let long = String(repeating: "näher ", count: 300_000)
    let text =
      "\u{FEFF}\n [{\"text\": \"one ] , \\\" [ {\", \"user\": \"ada\"},\r\n{\"text\":\n \"\(long)\"}\n,"
      + "{\"messages\": [{\"role\": \"assistant\", \"content\": \"a, b\"}]}, {\"text\": \"\"}, \"plain\" ]\n"
    try withFile(text, named: "data.json") { url in
      try expectSame(url, count: 4)
      #expect(
        try DocumentReader.read(url, keepsEmpty: true).map(\.text.isEmpty)
          == [false, false, false, true, false])
    }
    try withFile("[]", named: "data.json") { url in
      let found = try all(DocumentStream(url))
      #expect(found.isEmpty)
    }
  }

  @Test(arguments: [
    ("[\"a\",\n\"b\"", "line 2", "before the array does"),
    ("[\"a\",\n,\"b\"]", "line 2", "a value"),
    ("[\"a\"]\n, 1", "line 2", "after the end"),
    ("[\"a\",\n\"b]", "line 2", "before the array does"),
    ("[\"a\"}, 1]", "line 1", "array"), ("[\"a\",\n5]", "line 2", "a number"),
    ("[", "line 1", "array"),
  ])
  func `an array that is damaged is named with its line`(
    text: String, line: String, word: String
  ) throws {
    try withFile(text, named: "data.json") { url in
      expectError(.badData, line, word) { _ = try all(DocumentStream(url)) }
    }
  }

  @Test(arguments: ["", "the end without a break"])
  func `pieces of a text are whole lines, and together the text`(end: String) throws {
    let text = (0..<5000).map { "line \($0), in Zürich\n" }.joined() + end
    try withFile(text, named: "data.txt") { url in
      let pieces = try all(DocumentStream(url, pieceBytes: 1000))
      #expect(pieces.map(\.text).joined() == text)
      #expect(pieces.count > 50)
      #expect(pieces.dropLast().allSatisfy { $0.text.hasSuffix("\n") })
      #expect(pieces.allSatisfy { $0.text.utf8.count < 1100 })
    }
  }

  @Test func `what is wrong is named with its line`() throws {
    try withFile("{\"text\": \"a\"}\n{\"text\": \n", named: "data.jsonl") { url in
      expectError(.badData, "line 2", "malformed") { _ = try all(DocumentStream(url)) }
    }
    try withFolder { folder in
      let url = folder.appendingPathComponent("data.txt")
      try Data([0x61, 0x0A, 0xFF, 0x0A]).write(to: url)
      expectError(.badData, "line 2", "UTF-8") { _ = try all(DocumentStream(url)) }
      expectError(.inputOutput, "does not exist") {
        _ = try DocumentStream(folder.appendingPathComponent("absent.txt"))
      }
      expectError(.inputOutput, "folder") { _ = try DocumentStream(folder) }
      expectError(.usage, "csv") { _ = try DocumentStream(url, as: .csv) }
    }
  }
}

@Suite("TokenFile") struct TokenFileTests {
  private let text = (0..<400).map {
    #"{"prompt": "question \#($0): ", "completion": "answer \#($0 * 7)"}"# + "\n"
  }.joined()

  @Test func `a dataset on disk is the one in memory`() throws {
    try withFile(text, named: "data.jsonl") { url in
      let memory = try TokenDataset(
        DocumentReader.read(url), tokenizer: ByteTokenizer(), .stream(context: 31), addEnd: true)
      let file = try TokenFile(DocumentStream(url), tokenizer: ByteTokenizer(), addEnd: true)
      let disk = try TokenDataset(file, context: 31)
      #expect(disk.tokenCount == memory.tokenCount && disk.tokens == memory.tokens)
      #expect(disk.windowCount == memory.windowCount)
      #expect(disk.targetCount == memory.targetCount)
      #expect(disk.documentCount == 400 && disk.unusedDocuments == 0)
      #expect(disk.fingerprint == memory.fingerprint)
      for (one, other) in zip(disk.batches(rows: 7), memory.batches(rows: 7)) {
        #expect(one == other)
      }
    }
  }

  @Test func `of tokens on disk the end is held back`() throws {
    try withFile(text, named: "data.jsonl") { url in
      let file = try TokenFile(DocumentStream(url), tokenizer: ByteTokenizer(), addEnd: true)
      let all = try TokenDataset(file, context: 31)
      let parts = try all.split(validationShare: 0.1, seed: 3)
      #expect(parts.training.tokens + parts.validation.tokens == all.tokens)
      #expect(abs(parts.validation.tokenCount - all.tokenCount / 10) <= 1)
      // The document at the border is in both.
      #expect(
        (400...401).contains(parts.training.documentCount + parts.validation.documentCount))
      let first = try #require(Array(parts.validation.batches(rows: 1)).first)
      let border = parts.training.tokenCount
      #expect(first.tokens == Array(all.tokens[border..<border + 31]))
      #expect(file.part(border..<file.count).textBytes < file.textBytes / 9)
    }
  }

  @Test func `nothing is left on disk but what the system holds open`() throws {
    try withFile(text, named: "data.jsonl") { url in
      try withFolder { folder in
        let file = try TokenFile(DocumentStream(url), tokenizer: ByteTokenizer(), in: folder)
        #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path).isEmpty)
        #expect(file.sequence(0..<4).tokens == Array("ques".utf8.map { Int32($0) }))
        // Of bytes one is a token, so both are the answers' length.
        let answers = (0..<400).reduce(0) { $0 + "answer \($1 * 7)".utf8.count }
        #expect(file.learnedBytes == answers && file.learnedCount == answers)
        #expect(file.textBytes > answers)
      }
    }
  }

  @Test func `too little to learn is refused`() throws {
    try withFile("\"a\"\n", named: "data.jsonl") { url in
      expectError(.badData, "fewer than two tokens") {
        _ = try TokenFile(DocumentStream(url), tokenizer: ByteTokenizer())
      }
    }
  }
}
