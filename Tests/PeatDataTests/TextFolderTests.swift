import Foundation
import PeatData
import PeatTensor
import Testing

@Suite("Folders of texts") struct TextFolderTests {
  /// Files below a folder, by their paths in it.
  private func write(_ files: [String: String], to folder: URL) throws {
    for (path, content) in files {
      let place = folder.appending(path: path)
      try FileManager.default.createDirectory(
        at: place.deletingLastPathComponent(), withIntermediateDirectories: true)
      try Data(content.utf8).write(to: place)
    }
  }

  @Test func `each file is read as it is, in the order of the names`() throws {
    try withFolder { folder in
      try write(
        ["b.txt": "prose", "a.jsonl": "{\"text\": \"1\"}\n{\"text\": \"2\"}", ".hidden": "x"],
        to: folder)
      #expect(try DocumentReader.read(folder).map(\.text) == ["1", "2", "prose"])
      #expect(try DocumentReader.read(folder).allSatisfy { $0.fields.isEmpty })
      let groups = try DocumentReader.readGrouped(folder, by: "author")
      #expect(groups.map(\.name) == ["a", "b"])
      #expect(groups[0].documents.map(\.fields) == [["author": "a"], ["author": "a"]])
      #expect(try TextFolder(folder)?.byteCount == 5 + 27)
    }
  }

  @Test func `a folder in it is a group, and its texts' class`() throws {
    try withFolder { folder in
      try write(
        ["good/1.txt": "fine", "good/2.txt": "nice", "bad/1.csv": "sentence,n\npoor,1\nsad,2\n"],
        to: folder)
      let texts = try LabelledText.read(folder)
      #expect(texts.map(\.text) == ["poor", "sad", "fine", "nice"])
      #expect(texts.map(\.label) == ["bad", "bad", "good", "good"])
      #expect(texts[0].fields == ["n": "1"])
      #expect(
        try DocumentReader.read(folder).map { $0.fields["label"] } == [
          "bad", "bad", "good", "good",
        ])
      #expect(try DocumentReader.readGrouped(folder, by: "site").map(\.name) == ["bad", "good"])
    }
  }

  @Test func `tables of labelled texts lie beside one another`() throws {
    try withFolder { folder in
      try write(
        ["ann.csv": "text,label\na,x\nb,y\n", "bob.tsv": "text\tlabel\nc\tx\n"], to: folder)
      let texts = try LabelledText.read(folder, by: "client")
      #expect(texts.map(\.label) == ["x", "y", "x"])
      #expect(texts.map { $0.document.fields["client"] } == ["ann", "ann", "bob"])
    }
  }

  @Test func `prose beside folders of classes is passed over, tables are not`() throws {
    try withFolder { folder in
      let prose = "Reviews\n\nFilms, mostly old.\nWritten by many, as the list says: a, b, c.\n"
      try write(
        [
          "neg/1.txt": "poor", "pos/1.txt": "fine", "README": prose, "notes.txt": prose,
          "more": "text,label\nso so,neutral\n",
        ], to: folder)
      #expect(try LabelledText.read(folder).map(\.label) == ["neutral", "neg", "pos"])
      #expect(
        try LabelledText.filesPassedOver(in: folder).map(\.lastPathComponent) == [
          "README", "notes.txt",
        ])
    }
  }

  @Test(arguments: ["README", "a.txt"])
  func `prose alone is no data of classes`(name: String) throws {
    try withFolder { folder in
      let text = "Reviews\n\nFilms, mostly old.\n"
      try write([name: text], to: folder)
      for place in [folder, folder.appendingPathComponent(name)] {
        let error = #expect(throws: PeatError.self) { try LabelledText.read(place) }
        #expect(error?.message.contains("is plain text, which has no labels") == true)
      }
      #expect(try LabelledText.filesPassedOver(in: folder) == [])
    }
  }

  @Test func `a folder without texts says what is expected`() throws {
    try withFolder { folder in
      let error = #expect(throws: PeatError.self) { try DocumentReader.read(folder) }
      #expect(error?.code == .badData)
      #expect(error?.message.contains("holds no texts. Expected files of text") == true)
    }
  }

  @Test func `GLUE's columns are known as texts, and as pairs`() throws {
    let single = try withFile("sentence\tlabel\na fine film\t1\n", named: "sst2.tsv") {
      try LabelledText.read($0)
    }
    #expect(single.map(\.text) == ["a fine film"])
    let plain = try withFile(#"{"sentence": "It rained.", "idx": 3}"#, named: "cola.jsonl") {
      try DocumentReader.read($0)
    }
    #expect(plain == [Document("It rained.", fields: ["idx": "3"])])
    let pair = try withFile(
      "question\tsentence\tlabel\nWho?\tAnn did.\tentailment\n", named: "qnli.tsv"
    ) { try LabelledText.read($0) }
    #expect(pair.map(\.text) == ["Who?"] && pair.map(\.second) == ["Ann did."])
  }

  @Test func `every way to divide a play sees its speakers`() throws {
    let play = (1...12).map { "\($0 % 3 == 0 ? "ANN" : "BOB"):\nLine \($0).\n" }
      .joined(separator: "\n")
    try withFile(play, named: "play.txt") { url in
      #expect(try DocumentReader.read(url).count == 1)
      let turns = try DocumentReader.read(url, by: "speaker")
      #expect(turns.count == 12 && turns[2].fields == ["speaker": "ANN"])
      let parts = try PartitionRule("dirichlet=0.5:speaker").partitioner(seed: 1)
        .divide(turns, clients: 2)
      #expect(parts.map(\.count).reduce(0, +) == 12)
    }
  }
}
