import Foundation
import PeatData
import PeatTensor
import Testing

@Suite("Pairs of a source and a target") struct PairTests {
  private let tokenizer = ByteTokenizer()

  private func pairs(_ document: Document, context: Int = 64) throws -> [TokenSequence] {
    try TokenSequence.pairs(
      of: document, tokenizer: tokenizer, start: 0,
      corruption: SpanCorruption(sentinels: Array(300..<310)), context: context)
  }

  @Test func `a prompt is the source, what follows it the target`() throws {
    let pair = try #require(try pairs(Document(prompt: "ab", completion: "c")).first)
    #expect(pair.tokens == [97, 98, 257, 0, 99, 257])
    #expect(pair.isTarget == [false, false, false, false, true, true])
  }

  @Test func `each answer of a conversation has all before it as its source`() throws {
    let document = try Document(turns: [
      ChatTurn(role: "user", content: "a"), ChatTurn(role: ChatTurn.assistant, content: "b"),
      ChatTurn(role: "user", content: "c"), ChatTurn(role: ChatTurn.assistant, content: "d"),
    ])
    let pairs = try pairs(document)
    #expect(pairs.count == 2)
    func said(_ pair: TokenSequence) -> String {
      tokenizer.decode(
        zip(pair.tokens, pair.isTarget).filter(\.1).map(\.0), skipSpecialTokens: true)
    }
    #expect(said(pairs[0]).contains("b") && said(pairs[1]).contains("d"))
    let source = tokenizer.decode(
      zip(pairs[1].tokens, pairs[1].isTarget).filter { !$0.1 }.map(\.0), skipSpecialTokens: true)
    #expect(source.contains("a") && source.contains("b") && source.contains("c"))
  }

  @Test func `a batch says where each source ends`() throws {
    let data = try TokenDataset(
      [Document(prompt: "abc", completion: "de"), Document(prompt: "x", completion: "yz")]
        .flatMap { try pairs($0) }, .pairs(context: 32))
    let batch = try #require(data.batches(rows: 2).first { _ in true })
    #expect(batch.tokens == [97, 98, 99, 257, 0, 100, 101, 120, 257, 0, 121, 122])
    #expect(batch.targets == [-1, -1, -1, -1, 100, 101, 257, -1, -1, 121, 122, 257])
    #expect(batch.layout == SequenceLayout(lengths: [7, 5], sources: [4, 2]))
  }

  @Test func `a pair is never cut to hold a part back`() throws {
    let data = try TokenDataset(
      (0..<4).flatMap { try pairs(Document(prompt: "q\($0)", completion: "answer")) },
      .pairs(context: 32))
    let parts = try data.split(validationShare: 0.3, seed: 1)
    #expect(parts.training.documentCount + parts.validation.documentCount == 4)
    #expect(parts.training.targetCount + parts.validation.targetCount == data.targetCount)
  }

  @Test func `a source that leaves no room is left out`() throws {
    let long = Document(prompt: String(repeating: "a", count: 40), completion: "b")
    let data = try TokenDataset(
      pairs(long) + pairs(Document(prompt: "a", completion: "b")), .pairs(context: 16))
    #expect(data.unusedDocuments == 1 && data.windowCount == 1)
  }

  @Test func `words that are left out of plain text are the target`() throws {
    let text = String((0..<100).map { Character(UnicodeScalar(UInt8(32 + $0 % 90))) })
    let sequences = try pairs(Document(text), context: 60)
    #expect(sequences.count > 1)
    var whole: [Int32] = []
    for sequence in sequences {
      #expect(sequence.tokens.count <= 61)
      let border = try #require(sequence.isTarget.firstIndex(of: true))
      #expect(sequence.tokens[border - 1] == 0 && sequence.tokens[border - 2] == 257)
      let source = Array(sequence.tokens[..<(border - 2)])
      let target = sequence.tokens[border...].dropLast()
      #expect(sequence.tokens.last == 257 && (target.last ?? 0) >= 300)
      // Each sentinel of the source stands for what the target has behind it.
      var spans: [Int32: [Int32]] = [:]
      var open: Int32 = -1
      for token in target {
        if token >= 300 { open = token } else { spans[open, default: []].append(token) }
      }
      whole += source.flatMap { $0 >= 300 ? spans[$0] ?? [] : [$0] }
      let lost = spans.values.reduce(0) { $0 + $1.count }
      let share = Double(lost) / Double(source.filter { $0 < 300 }.count + lost)
      #expect((0.1...0.25).contains(share), "\(share)")
    }
    #expect(whole == text.utf8.map { Int32($0) })
    #expect(try pairs(Document(text), context: 60) == sequences)
  }

  @Test func `plain text is refused where nothing can stand for words`() throws {
    let error = #expect(throws: PeatError.self) {
      try TokenSequence.pairs(
        of: Document("some text"), tokenizer: tokenizer, start: 0, corruption: nil, context: 32)
    }
    #expect(error?.code == .usage && error?.message.contains("extra_id") == true)
  }
}
