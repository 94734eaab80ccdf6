import Foundation
import PeatData
import PeatTensor
import Testing

@Suite("DocumentReader") struct DocumentReaderTests {
  private func read(
    _ contents: String, named name: String = "data.txt", as format: DataFormat? = nil
  ) throws -> [Document] {
    try withFile(contents, named: name) { try DocumentReader.read($0, as: format) }
  }

  @Test func `takes plain text as one document, as it is`() throws {
    #expect(try read("Hello,\r\nworld.\n") == [Document("Hello,\r\nworld.\n")])
    #expect(try read("[Enter a ghost.]\nBoo.") == [Document("[Enter a ghost.]\nBoo.")])
  }

  @Test func `drops a byte order mark`() throws {
    #expect(try read("\u{FEFF}abc") == [Document("abc")])
    #expect(try read("\u{FEFF}[\"abc\"]", named: "data.json") == [Document("abc")])
  }

  @Test func `reads an array of strings whatever the file is called`() throws {
    for name in ["data.json", "data.txt", "data"] {
      #expect(try read("[\"one\", \"two\"]", named: name) == [Document("one"), Document("two")])
    }
  }

  @Test func `reads records under text, story and content with their fields`() throws {
    let documents = try read(
      #"[{"text": "a", "n": 3}, {"story": "b", "ok": true, "x": null}, {"content": "c", "tags": [1]}]"#
    )
    #expect(
      documents == [
        Document("a", fields: ["n": "3"]), Document("b", fields: ["ok": "true"]), Document("c"),
      ])
  }

  @Test func `reads JSON lines by name and by content, with CRLF and blank lines`() throws {
    let lines = "{\"text\": \"a\"}\r\n\r\n{\"text\": \"b\"}\r\n"
    for name in ["data.jsonl", "data.txt", "data.json"] {
      #expect(try read(lines, named: name) == [Document("a"), Document("b")])
    }
    #expect(try read("\"a\"\n\"b\"", named: "data.jsonl") == [Document("a"), Document("b")])
  }

  @Test func `reads a single record spread over lines`() throws {
    #expect(try read("{\n \"text\":\n \"a\"}") == [Document("a")])
  }

  @Test func `lays instructions out under their headings`() throws {
    let documents = try read(
      #"""
      [{"instruction": "Add.", "input": "1 2", "output": "3", "source": "s"},
       {"instruction": "Greet.", "input": "", "output": "Hello"},
       {"instruction": "Wave.", "output": "~", "text": "all of it"}]
      """#)
    #expect(
      documents == [
        Document(
          prompt: "### Instruction:\nAdd.\n\n### Input:\n1 2\n\n### Response:\n", completion: "3",
          fields: ["source": "s"]),
        Document(prompt: "### Instruction:\nGreet.\n\n### Response:\n", completion: "Hello"),
        Document(prompt: "### Instruction:\nWave.\n\n### Response:\n", completion: "~"),
      ])
    #expect(documents[1].text == "### Instruction:\nGreet.\n\n### Response:\nHello")
  }

  @Test func `reads prompts with completions, and a prompt beside a text as a field`() throws {
    #expect(
      try read(#"{"prompt": "1+1=", "completion": "2"}"#)
        == [Document(prompt: "1+1=", completion: "2")])
    #expect(try read(#"{"prompt": "p", "text": "t"}"#) == [Document("t", fields: ["prompt": "p"])])
  }

  @Test func `leaves out records with nothing to learn`() throws {
    #expect(
      try read(#"["", "a", {"text": ""}, {"instruction": "x", "output": ""}]"#) == [Document("a")])
    #expect(errorOf { try read(#"["", ""]"#) }?.message.contains("none of its 2 records") == true)
  }

  @Test func `says what is wrong with a record, and on which line`() throws {
    let missing = errorOf { try read("[{\"text\": \"a\"},\n{\"instruction\": \"x\"}]") }
    #expect(missing?.code == .badData)
    #expect(missing?.message.contains("line 2: an instruction without 'output'") == true)

    let unknown = errorOf { try read("{\"text\": \"a\"}\n{\"b\": 1, \"a\": 2}", named: "d.jsonl") }
    #expect(unknown?.message.contains("line 2") == true)
    #expect(unknown?.message.contains("Found the keys a, b.") == true)
    #expect(unknown?.message.contains("{prompt, completion}") == true)

    #expect(errorOf { try read("[{\"text\": 3}]") }?.message.contains("'text' is a number") == true)
    #expect(
      errorOf { try read("[3]", named: "a.json") }?.message.contains("a number is not") == true)
    #expect(
      errorOf { try read(#"{"prompt": "p"}"#) }?.message.contains("without 'completion'") == true)
    #expect(errorOf { try read("[]") }?.message.contains("empty array") == true)
  }

  @Test func `names the line of malformed JSON`() throws {
    let array = errorOf { try read("[\"a\",\n\"b\"\n\"c\"]") }
    #expect(array?.code == .badData)
    #expect(array?.message.contains("line 3: malformed JSON:") == true)
    let lines = errorOf { try read("{\"text\": \"a\"}\n\n{\"text\": ", named: "a.jsonl") }
    #expect(lines?.message.contains("line 3: malformed JSON lines:") == true)
  }

  @Test func `tells missing, folder, empty and binary apart`() throws {
    try withFolder { folder in
      let missing = errorOf { try DocumentReader.read(folder.appending(path: "none.txt")) }
      #expect(missing?.code == .inputOutput)
      #expect(missing?.message.contains("does not exist") == true)
      let isFolder = errorOf { try DocumentReader.read(folder) }
      #expect(isFolder?.code == .badData)
      #expect(isFolder?.message.contains("holds no texts") == true)
    }
    for empty in ["", " \n\r\n", "\u{FEFF}"] {
      #expect(errorOf { try read(empty) }?.message.contains("is empty") == true)
    }
    let zero = try withFile([65, 66, 0, 67]) { url in errorOf { try DocumentReader.read(url) } }
    #expect(zero?.code == .badData)
    #expect(zero?.message.contains("byte 2 is NUL") == true)
    let invalid = try withFile([0xC3, 0xA9, 0x41, 0xFF, 0x42]) { url in
      errorOf { try DocumentReader.read(url) }
    }
    #expect(invalid?.message.contains("byte 3 (0xFF)") == true)
    let cut = try withFile([0xEF, 0xBB, 0xBF, 0x41, 0xE2, 0x82]) { url in
      errorOf { try DocumentReader.read(url) }
    }
    #expect(cut?.message.contains("byte 4 (0xE2)") == true)
    let wide = try withFile([0xFF, 0xFE, 0x41, 0x00]) { url in
      errorOf { try DocumentReader.read(url) }
    }
    #expect(wide?.message.contains("UTF-16") == true)
  }

  @Test func `refuses a device that never ends`() {
    let device = errorOf { try DocumentReader.read(URL(filePath: "/dev/zero")) }
    #expect(device?.code == .inputOutput)
  }

  @Test func `survives random bytes and cut or damaged files`() throws {
    let whole = [UInt8](
      #"[{"instruction": "a\u00e9 é", "input": "", "output": "b", "n": 1e5}, {"text": "x"}, "y"]"#
        .utf8)
    let table = [UInt8]("text,label\r\n\"a, \"\"b\"\"\",c\r\nd,e\r\n".utf8)
    var random = SeededRandom(seed: 1, "hostile files")
    var refused = 0
    func tryAll(_ bytes: [UInt8]) {
      for format in [nil] + DataFormat.allCases.map(Optional.some) {
        for name in ["json", "jsonl", "csv", "txt"] {
          guard let file = try? TextFile(name: "x", fileExtension: name, bytes: bytes) else {
            refused += 1
            continue
          }
          if (try? DocumentReader.read(file, as: format)) == nil { refused += 1 }
          if (try? LabelledText.read(file, as: format)) == nil { refused += 1 }
          if (try? ChoiceQuestion.read(file)) == nil { refused += 1 }
        }
      }
    }
    for length in 0...whole.count { tryAll(Array(whole.prefix(length))) }
    for length in 0...table.count { tryAll(Array(table.prefix(length))) }
    for _ in 0..<1500 {
      var bytes = random.integer(below: 2) == 0 ? whole : table
      for _ in 0...random.integer(below: 4) {
        bytes[random.integer(below: bytes.count)] = UInt8(random.integer(below: 256))
      }
      tryAll(bytes)
      tryAll((0..<random.integer(below: 40)).map { _ in UInt8(random.integer(below: 256)) })
      let marks = [UInt8]("[]{}\",:\\u0123e-.tn \n\r".utf8)
      tryAll((0..<random.integer(below: 40)).map { _ in marks[random.integer(below: marks.count)] })
    }
    #expect(refused > 0)
  }
}

@Suite("Groups of documents") struct DocumentGroupTests {
  @Test func `groups records by a field in the order of first appearance`() throws {
    let lines = """
      {"speaker": "B", "text": "1"}
      {"speaker": "A", "text": "2"}
      {"speaker": "B", "text": "3"}
      """
    let groups = try withFile(lines) { try DocumentReader.readGrouped($0, by: "speaker") }
    #expect(groups.map(\.name) == ["B", "A"])
    #expect(groups.map { $0.documents.map(\.text) } == [["1", "3"], ["2"]])
    #expect(groups[0].byteCount == 2)
  }

  @Test func `names the fields that are there when one is missing`() throws {
    let error = try withFile(#"[{"speaker": "B", "n": 1, "text": "1"}]"#) { url in
      errorOf { try DocumentReader.readGrouped(url, by: "speeker") }
    }
    #expect(error?.code == .badData)
    #expect(error?.message.contains("Did you mean 'speaker'? Known: n, speaker.") == true)
    let plain = try withFile("Just text.") { url in
      errorOf { try DocumentReader.readGrouped(url, by: "speaker") }
    }
    #expect(plain?.message.contains("plain text without fields") == true)
  }

  @Test func `takes a folder with one file per group`() throws {
    try withFolder { folder in
      try Data("hello".utf8).write(to: folder.appending(path: "Zoe.txt"))
      try Data("[\"a\", \"b\"]".utf8).write(to: folder.appending(path: "Adam.json"))
      try Data("no".utf8).write(to: folder.appending(path: ".hidden"))
      let groups = try DocumentReader.readGrouped(folder, by: "speaker")
      #expect(groups.map(\.name) == ["Adam", "Zoe"])
      #expect(groups.map(\.documents.count) == [2, 1])
      #expect(groups[1].documents[0].fields == ["speaker": "Zoe"])
    }
    let empty = try withFolder { folder in
      errorOf { try DocumentReader.readGrouped(folder, by: "speaker") }
    }
    #expect(empty?.message.contains("holds no texts") == true)
  }

  static let play = """
    First Guard:
    Who goes there?

    Traveller:
    A friend,
    and a tired one.

    First Guard:
    Pass.

    """

  @Test func `reads a play turn by turn`() throws {
    #expect(PlayScriptReader.looksLikePlay(Self.play))
    #expect(
      !PlayScriptReader.looksLikePlay("One paragraph.\n\nAnother:\nlist\n\nAnd more.\n\nEnd."))
    let crlf = Self.play.replacing("\n", with: "\r\n")
    for text in [Self.play, crlf] {
      let groups = try withFile(text) { try DocumentReader.readGrouped($0, by: "speaker") }
      #expect(groups.map(\.name) == ["First Guard", "Traveller"])
      #expect(groups[0].documents.map(\.text) == ["Who goes there?\n", "Pass.\n"])
      #expect(groups[1].documents.map(\.text) == ["A friend,\nand a tired one.\n"])
    }
    let turns = try withFile(Self.play) { try DocumentReader.read($0, as: .play) }
    #expect(turns.count == 3)
    #expect(errorOf { try withFile("prose") { try DocumentReader.read($0, as: .play) } } != nil)
  }
}

/// The corpora that lie beside the project on some machines.
enum Assets {
  static let folder: URL? = {
    let named = ProcessInfo.processInfo.environment["FEDPEAT_ASSETS"].map { URL(filePath: $0) }
    let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .deletingLastPathComponent()
    let beside = root.deletingLastPathComponent().appending(path: "shared/assets")
    let folder = named ?? beside
    return FileManager.default.fileExists(atPath: folder.path(percentEncoded: false)) ? folder : nil
  }()
}

@Suite(
  "Corpora", .enabled(if: Assets.folder != nil, "the assets folder is not beside the project"))
struct CorpusTests {
  private func corpus(_ path: String) throws -> URL {
    try #require(Assets.folder).appending(path: "corpora").appending(path: path)
  }

  @Test func `finds the 299 speakers of tinyshakespeare`() throws {
    let url = try corpus("tinyshakespeare/input.txt")
    let whole = try DocumentReader.read(url)
    #expect(whole.count == 1)
    #expect(whole[0].text.utf8.count == 1_115_394)
    let groups = try DocumentReader.readGrouped(url, by: "speaker")
    #expect((295...299).contains(groups.count))
    #expect(groups.count { $0.byteCount >= 2000 } > 90)
  }

  @Test func `reads stories, instructions and intents`() throws {
    #expect(try DocumentReader.read(corpus("tinystories-1000/tinystories_1000.json")).count == 1000)
    let instructions = try DocumentReader.read(corpus("instruct-1100/instruction-data.json"))
    #expect(instructions.count == 1100)
    #expect(instructions.allSatisfy { $0.prompt != nil })
    let intents = try LabelledText.read(corpus("banking77/train.csv"))
    #expect(intents.count == 10003)
    #expect(Set(intents.map(\.label)).count == 77)
  }
}
