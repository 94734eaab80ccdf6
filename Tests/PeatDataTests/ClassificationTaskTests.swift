import PeatData
import PeatModels
import PeatTensor
import PeatTokenizers
import TestSupport
import Testing

@Suite("ClassificationTask") struct ClassificationTaskTests {
  private func document(_ text: String, _ label: String?) -> Document {
    Document(text, fields: label.map { ["label": $0] } ?? [:])
  }

  private func tokenizer() throws -> Tokenizer {
    try ByteLevelBPETrainer(
      vocabularySize: 300, specialTokens: ["<s>"], beginToken: "<s>", endToken: nil
    ).train(on: ["aaa bbb ccc"])
  }

  @Test(arguments: [true, false])
  func `each text is a window whose only target is its class, first or last`(atFirst: Bool) throws {
    let task = ClassificationTask(labels: ["no", "yes"], atFirst: atFirst)
    let data = try task.dataset(
      [
        document("abc", "yes"), document("z", "no"),
        document(String(repeating: "q", count: 50), "yes"),
      ],
      tokenizer: tokenizer(), context: 6)
    #expect(data.windowCount == 3 && data.targetCount == 3)
    let batch = Array(data.batches(rows: 3))[0]
    // "<s>" and three bytes, "<s>" and one, and as many as fit.
    #expect(batch.windowStarts == [0, 4, 6, 12])
    var expected = Array(repeating: TokenBatch.ignored, count: 12)
    for (place, label) in zip(atFirst ? [0, 4, 6] : [3, 5, 11], [1, 0, 1]) {
      expected[place] = Int32(label)
    }
    #expect(batch.targets == expected)
    #expect(data.shortenedDocuments == 1)
    // Classes' numbers are no tokens.
    #expect(data.inputTokens.count == 12)
  }

  @Test func `data of one class says what it is of`() throws {
    func message(_ documents: [Document]) -> String? {
      #expect(throws: PeatError.self) { try ClassificationTask.labels(of: documents) }?.message
    }
    #expect(message([document("a", "cat")])?.contains("one text, of the class 'cat'") == true)
    var picture = document("", "cat")
    picture.picture = PixelImage(width: 1, height: 1, channels: 1, bytes: [0])
    #expect(message([picture, picture])?.contains("All 2 pictures are of the class 'cat'") == true)
  }

  @Test func `a head that looks at the last token looks past filling, whoever wrote it`() throws {
    let texts = [document("abca", "yes"), document("aaa", "no"), document("b", "yes")]
    let letter = try #require(try tokenizer().encode("a", addSpecialTokens: false).first)
    let begin = try #require(try tokenizer().beginToken)
    func places(_ padToken: Int32?, atFirst: Bool = false) throws -> [Int] {
      let task = ClassificationTask(labels: ["no", "yes"], atFirst: atFirst, padToken: padToken)
      let batch = Array(
        try task.dataset(texts, tokenizer: tokenizer(), context: 8).batches(rows: 3))[0]
      return batch.targets.indices.filter { batch.targets[$0] >= 0 }
    }
    let ends = try places(nil)
    #expect(ends.count == 3)
    let tokens = try texts.map { try tokenizer().encode($0.text, addSpecialTokens: true) }
    var start = 0
    var expected: [Int] = []
    for row in tokens {
      expected.append(start + (row.lastIndex { $0 != letter } ?? 0))
      start += row.count
    }
    #expect(expected != ends)
    #expect(try places(letter) == expected)
    #expect(try places(letter, atFirst: true) == places(nil, atFirst: true))
    // Nothing but filling: the first.
    #expect(HeadLayout.place(ofClassIn: [begin, begin], atFirst: false, padToken: begin) == 0)
    #expect(HeadLayout.place(ofClassIn: [3, begin, 3], atFirst: false, padToken: 3) == 1)
  }

  @Test func `classes that differ only in how letters are composed are refused`() throws {
    let error = #expect(throws: PeatError.self) {
      try ClassificationTask.labels(of: [
        document("a", "caf\u{E9}"), document("b", "cafe\u{301}"), document("c", "tea"),
      ])
    }
    #expect(error?.code == .badData)
    #expect(error?.message.contains("U+0066 U+00E9") == true)
    #expect(error?.message.contains("U+0065 U+0301") == true)
  }

  @Test
  func `classes are those of the texts, in order; a text without one, or with another, says so`()
    throws
  {
    let texts = [document("a", "y"), document("b", "x"), document("c", "y")]
    #expect(try ClassificationTask.labels(of: texts) == ["x", "y"])
    let none = #expect(throws: PeatError.self) {
      try ClassificationTask.labels(of: texts + [document("some text", nil)])
    }
    #expect(none?.message.contains("some text") == true)
    let same = #expect(throws: PeatError.self) {
      try ClassificationTask.labels(of: [document("a", "y")])
    }
    #expect(same?.message.contains("'y'") == true)
    let other = #expect(throws: PeatError.self) {
      try ClassificationTask(labels: ["x", "z"], atFirst: true).dataset(
        texts, tokenizer: tokenizer(), context: 5)
    }
    #expect(other?.message.contains("'y'") == true && other?.message.contains("x, z") == true)
  }

  @Test func `pictures are cut into patches, channel by channel, behind the model's own tokens`()
    throws
  {
    let image = ImageInput(height: 4, width: 6, patch: 2, channels: 2, ownTokens: 1)
    // Value = 100 · channel + 10 · row + column.
    var values: [Float] = []
    for channel in 0..<2 {
      for row in 0..<4 {
        for column in 0..<6 { values.append(Float(100 * channel + 10 * row + column)) }
      }
    }
    let data = try TokenDataset(
      pictures: [(Tensor(values, shape: [2, 4, 6]), 3), (Tensor(zeros: [2, 4, 6]), 0)], cut: image)
    let batch = Array(data.batches(rows: 2))[0]
    #expect(batch.tokens == [-1, 0, 1, 2, 3, 4, 5, -1, 6, 7, 8, 9, 10, 11])
    #expect(batch.targets == [3, -1, -1, -1, -1, -1, -1, 0, -1, -1, -1, -1, -1, -1])
    let patches = try #require(batch.patches)
    #expect(patches.values.shape == [12, 8])
    // The second patch of the second row.
    #expect(patches.values.rows(4..<5).scalars == [22, 23, 32, 33, 122, 123, 132, 133])
    // Other pixels are other data.
    let other = try TokenDataset(
      pictures: [(Tensor(zeros: [2, 4, 6]), 3), (Tensor(zeros: [2, 4, 6]), 0)], cut: image)
    #expect(other.fingerprint != data.fingerprint)
  }

  @Test func `a pair stands in one window, the second text with types of its own`() throws {
    let tokenizer = try Tokenizer(json: TinyEncoder.tokenizerJSON())
    let task = ClassificationTask(labels: ["no", "yes"], atFirst: true)
    let pairs = [
      Document(TextPair("the cat sat", "a dog"), fields: ["label": "yes"]),
      Document(TextPair("the", "a bird flew over a tree then"), fields: ["label": "no"]),
    ]
    let data = try task.dataset(pairs, tokenizer: tokenizer, context: 8, tokenTypes: 2)
    let batch = data.batch(0, rows: 2)
    func numbers(_ words: String) -> [Int32] {
      words.split(separator: " ").map { TinyEncoder.number(of: String($0)) }
    }
    // Of the second pair the longer text is shortened to what fits.
    #expect(
      batch.tokens
        == numbers("[CLS] the cat sat [SEP] a dog [SEP] [CLS] the [SEP] a bird flew over [SEP]"))
    #expect(batch.types == [0, 0, 0, 0, 0, 1, 1, 1, 0, 0, 0, 1, 1, 1, 1, 1])
    // A model without types, or with one, gets none.
    for types in [0, 1] {
      let plain = try task.dataset(pairs, tokenizer: tokenizer, context: 8, tokenTypes: types)
      #expect(plain.batch(0, rows: 2).types.isEmpty)
      #expect(plain.batch(0, rows: 2).tokens == batch.tokens)
    }
    // Parts keep them.
    let part = try data.prefix(tokens: 9)
    #expect(part.batch(0, rows: 1).types == [0, 0, 0, 0, 0, 1, 1, 1])
    expectError(.badData, "1 of 2", "pairs") {
      _ = try task.dataset(
        [pairs[0], Document("the cat", fields: ["label": "no"])], tokenizer: tokenizer, context: 8)
    }
  }

  @Test(arguments: [
    ("text", "text_pair"), ("sentence1", "sentence2"), ("premise", "hypothesis"),
    ("question1", "question2"),
  ])
  func `pairs are read by their keys, from tables and records`(first: String, second: String) throws
  {
    let table = "\(first),\(second),label,user\nthe cat,\"a, b\",yes,ada\n"
    let record = #"{"\#(first)": "the cat", "\#(second)": "a, b", "label": "yes", "user": "ada"}"#
    for (name, text) in [("data.csv", table), ("data.jsonl", record + "\n")] {
      try withFile(text, named: name) { url in
        let labelled = try LabelledText.read(url)
        #expect(
          labelled == [
            LabelledText(text: "the cat", second: "a, b", label: "yes", fields: ["user": "ada"])
          ])
        let document = try #require(labelled.first?.document)
        #expect(document.pair == TextPair("the cat", "a, b"))
        #expect(document.text == "the cat\na, b")
        // As clients read their data, who do not know what for.
        let read = try DocumentReader.read(url)
        #expect(read.map(\.pair) == [document.pair] && read[0].fields == document.fields)
      }
    }
  }
}
