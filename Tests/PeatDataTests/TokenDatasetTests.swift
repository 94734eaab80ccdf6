import Foundation
import PeatData
import PeatTensor
import Testing

@Suite("TokenSequence") struct TokenSequenceTests {
  @Test func `marks all of a text, and only the completion of a prompt`() throws {
    let plain = try TokenSequence(Document("ab"), tokenizer: ByteTokenizer())
    #expect(plain == TokenSequence([97, 98]))
    let asked = try TokenSequence(
      Document(prompt: "ab", completion: "c"), tokenizer: ByteTokenizer(), addBegin: true,
      addEnd: true)
    #expect(asked.tokens == [256, 97, 98, 99, 257])
    #expect(asked.isTarget == [false, false, false, true, true])
  }

  @Test func `says so where the tokenizer lacks a token`() {
    var tokenizer = ByteTokenizer()
    tokenizer.beginToken = nil
    tokenizer.endToken = nil
    let lacking = tokenizer
    #expect(
      errorOf { try TokenSequence(Document("a"), tokenizer: lacking, addBegin: true) }?.code
        == .usage)
    #expect(
      errorOf { try TokenSequence(Document("a"), tokenizer: lacking, addEnd: true) }?.code == .usage
    )
  }
}

@Suite("TokenDataset") struct TokenDatasetTests {
  private let none = TokenBatch.ignored

  private func only(_ dataset: TokenDataset) -> TokenBatch? {
    Array(dataset.batches(rows: 100)).first
  }

  @Test func `lays a stream in windows that predict every token once`() throws {
    let dataset = try TokenDataset(
      [TokenSequence([10, 11, 12]), TokenSequence([13, 14, 15])], .stream(context: 2))
    let batch = try #require(only(dataset))
    #expect(batch.tokens == [10, 11, 12, 13, 14])
    #expect(batch.targets == [11, 12, 13, 14, 15])
    #expect(batch.windowStarts == [0, 2, 4, 5] && batch.targetCount == 5)
    #expect(batch.layout == SequenceLayout(lengths: [2, 2, 1]))
    #expect(dataset.targetCount == 5)
  }

  @Test func `gives each document a window of its own, cut and not filled up`() throws {
    let dataset = try TokenDataset(
      [
        TokenSequence([1, 2, 3, 4, 5]), TokenSequence([6, 7]), TokenSequence([8]),
        TokenSequence([]),
      ],
      .documents(context: 3))
    let batch = try #require(only(dataset))
    #expect(batch.tokens == [1, 2, 3, 6])
    #expect(batch.targets == [2, 3, 4, 7])
    #expect(batch.layout == SequenceLayout(lengths: [3, 1]))
    #expect(dataset.unusedDocuments == 2)
  }

  @Test func `packs whole documents and never predicts from one into the next`() throws {
    let dataset = try TokenDataset(
      [TokenSequence([1, 2]), TokenSequence([3, 4]), TokenSequence([5, 6, 7, 8, 9, 10, 11])],
      .packed(context: 3))
    let batch = try #require(only(dataset))
    // [1 2 | 3 4] fills a window; the long document takes two, the second starting with the last token of the first.
    #expect(batch.tokens == [1, 2, 3, 5, 6, 7, 8, 9, 10])
    #expect(batch.targets == [2, none, 4, 6, 7, 8, 9, 10, 11])
    // In the first window each document is a sequence of its own.
    #expect(batch.windowStarts == [0, 3, 6, 9])
    #expect(batch.layout == SequenceLayout(lengths: [2, 1, 3, 3]))
    #expect(dataset.unusedDocuments == 0)
  }

  @Test func `packs with a token between documents or not at all`() throws {
    let documents = [Document("ab"), Document("cd")]
    #expect(
      errorOf { try TokenDataset(documents, tokenizer: ByteTokenizer(), .packed(context: 8)) }?.code
        == .usage)
    let dataset = try TokenDataset(
      documents, tokenizer: ByteTokenizer(), .packed(context: 8), addEnd: true)
    let batch = try #require(only(dataset))
    #expect(batch.tokens == [97, 98, 257, 99, 100])
    #expect(batch.targets == [98, 257, none, 100, 257])
  }

  @Test func `leaves out windows with nothing to learn`() throws {
    let prompt = TokenSequence(tokens: [1, 2, 3, 4], isTarget: [false, false, false, true])
    let dataset = try TokenDataset([prompt, TokenSequence([5, 6])], .documents(context: 2))
    #expect(dataset.windowCount == 1)
    #expect(dataset.unusedDocuments == 1)
    #expect(
      errorOf { try TokenDataset([prompt], .documents(context: 2)) }?.message.contains(
        "Nothing to learn")
        == true)
    #expect(errorOf { try TokenDataset([], .stream(context: 2)) }?.code == .badData)
    #expect(
      errorOf { try TokenDataset([TokenSequence([1])], .stream(context: 2)) }?.code == .badData)
  }

  @Test(arguments: [1, 2, 3, 7, 64])
  func `predicts every token but the first whatever the context`(context: Int) throws {
    let tokens = (0..<50).map { Int32($0) }
    let dataset = try TokenDataset([TokenSequence(tokens)], .stream(context: context))
    let targets = dataset.batches(rows: 3).flatMap(\.targets).filter { $0 != none }
    #expect(targets == Array(tokens.dropFirst()))
    let packed = try TokenDataset([TokenSequence(tokens)], .packed(context: context))
    #expect(
      packed.batches(rows: 3).flatMap(\.targets).filter { $0 != none } == Array(tokens.dropFirst()))
  }

  @Test func `finds the places of some of a batch's windows`() {
    let batch = TokenBatch(
      tokens: [1, 2, 3, 4, 5, 6], targets: [2, -1, 4, 5, 6, -1], windowLengths: [2, 3, 1])
    #expect(batch.windowCount == 3 && batch.targetCount == 4)
    #expect(batch.places(ofWindows: 1..<3) == 2..<6)
  }

  @Test func `holds back whole documents where there are ten`() throws {
    let sequences = (0..<20).map { n in
      TokenSequence((0..<5).map { Int32(n * 5 + $0) })
    }
    let dataset = try TokenDataset(sequences, .stream(context: 4))
    let parts = try dataset.split(validationShare: 0.1, seed: 3)
    #expect(parts.validation.documentCount == 2)
    #expect(parts.training.documentCount == 18)
    #expect(Set(parts.training.tokens).isDisjoint(with: parts.validation.tokens))
    #expect(Set(parts.training.tokens + parts.validation.tokens).count == 100)
    let again = try dataset.split(validationShare: 0.1, seed: 3)
    #expect(again.validation.tokens == parts.validation.tokens)
    let others = try (0..<8).map {
      try dataset.split(validationShare: 0.1, seed: $0).validation.tokens
    }
    #expect(Set(others).count > 1)
  }

  @Test func `holds back the end of the text where there are few documents`() throws {
    let dataset = try TokenDataset(
      [TokenSequence([0, 1, 2, 3]), TokenSequence([4, 5, 6, 7, 8, 9])], .stream(context: 3))
    let parts = try dataset.split(validationTokens: 3, seed: 0)
    #expect(parts.training.tokens == [0, 1, 2, 3, 4, 5, 6])
    #expect(parts.validation.tokens == [7, 8, 9])
    #expect(parts.training.documentCount == 2)
  }

  @Test func `refuses a split that leaves nothing`() throws {
    let dataset = try TokenDataset([TokenSequence([0, 1, 2, 3])], .stream(context: 3))
    for share in [0, 1, -0.1, 1.5, Double.nan, Double.infinity] {
      #expect(errorOf { try dataset.split(validationShare: share, seed: 0) }?.code == .usage)
    }
    #expect(errorOf { try dataset.split(validationTokens: 4, seed: 0) }?.code == .usage)
    #expect(errorOf { try dataset.split(validationTokens: 1, seed: 0) }?.code == .badData)
  }
}

@Suite("BatchSampler") struct BatchSamplerTests {
  private func stream(_ count: Int, context: Int) throws -> TokenDataset {
    try TokenDataset([TokenSequence((0..<count).map { Int32($0) })], .stream(context: context))
  }

  @Test func `draws uniform windows from every place of a stream`() throws {
    let dataset = try stream(20, context: 4)
    var sampler = BatchSampler(dataset, .uniformWindows, rows: 8, seed: 1)
    var starts = Set<Int32>()
    for _ in 0..<100 {
      let batch = sampler.next()
      #expect(batch.windowCount == 8 && batch.tokens.count == 32 && batch.targetCount == 32)
      for row in 0..<8 {
        let first = batch.tokens[row * 4]
        starts.insert(first)
        #expect(Array(batch.tokens[row * 4..<row * 4 + 4]) == (0..<4).map { first + $0 })
        #expect(Array(batch.targets[row * 4..<row * 4 + 4]) == (1..<5).map { first + $0 })
      }
    }
    #expect(starts == Set(0...15))
  }

  @Test func `draws the one short window of a short stream`() throws {
    var sampler = BatchSampler(try stream(3, context: 8), .uniformWindows, rows: 2, seed: 1)
    #expect(sampler.next().tokens == [0, 1, 0, 1])
  }

  @Test func `never draws a window of nothing but prompt`() throws {
    var marks = Array(repeating: false, count: 500)
    marks[250] = true
    let tokens = (0..<500).map { Int32($0) }
    let dataset = try TokenDataset(
      [TokenSequence(tokens: tokens, isTarget: marks)], .stream(context: 4))
    var sampler = BatchSampler(dataset, .uniformWindows, rows: 4, seed: 1)
    #expect(sampler.next().targetCount == 4)
  }

  @Test func `shows every window once per epoch, in a new order`() throws {
    let dataset = try stream(13, context: 2)
    var sampler = BatchSampler(dataset, .shuffledEpochs, rows: 4, seed: 5)
    var firsts: [Int32] = []
    for _ in 0..<9 {
      let batch = sampler.next()
      #expect(batch.windowCount == 4)
      firsts += (0..<4).map { batch.tokens[$0 * 2] }
    }
    let all: [Int32] = [0, 2, 4, 6, 8, 10]
    let epochs = stride(from: 0, to: 36, by: 6).map { Array(firsts[$0..<$0 + 6]) }
    for epoch in epochs { #expect(epoch.sorted() == all) }
    #expect(Set(epochs).count > 1)
    #expect(sampler.state.epoch == 6)
  }

  @Test func `goes through the windows in order and begins again`() throws {
    var sampler = BatchSampler(try stream(7, context: 2), .sequential, rows: 2, seed: 0)
    #expect(sampler.next().tokens == [0, 1, 2, 3])
    #expect(sampler.next().tokens == [4, 5])
    #expect(sampler.next().tokens == [0, 1, 2, 3])
  }

  @Test(arguments: BatchSampler.Order.allCases)
  func `goes on to the same bits from a written state`(order: BatchSampler.Order) throws {
    let dataset = try stream(40, context: 3)
    var sampler = BatchSampler(dataset, order, rows: 4, seed: 9)
    for _ in 0..<7 { _ = sampler.next() }
    let written = try JSONEncoder().encode(sampler.state)
    let state = try JSONDecoder().decode(BatchSampler.State.self, from: written)
    var resumed = try BatchSampler(dataset, resuming: state)
    for _ in 0..<20 { #expect(sampler.next() == resumed.next()) }
    #expect(sampler.state == resumed.state)
  }

  @Test(arguments: [BatchSampler.Order.uniformWindows, .shuffledEpochs])
  func `gives the same batches for the same seed and others for another`(order: BatchSampler.Order)
    throws
  {
    let dataset = try stream(400, context: 3)
    func batches(seed: UInt64) -> [TokenBatch] {
      var sampler = BatchSampler(dataset, order, rows: 4, seed: seed)
      return (0..<5).map { _ in sampler.next() }
    }
    #expect(batches(seed: 1) == batches(seed: 1))
    #expect(batches(seed: 1) != batches(seed: 2))
  }

  @Test func `refuses a state of other data or one that no sampler writes`() throws {
    let sampler = BatchSampler(try stream(40, context: 3), .sequential, rows: 4, seed: 9)
    let other = try stream(41, context: 3)
    #expect(errorOf { try BatchSampler(other, resuming: sampler.state) }?.code == .badData)
    let written = String(decoding: try JSONEncoder().encode(sampler.state), as: UTF8.self)
    for (found, bad) in [
      ("\"position\":0", "\"position\":99"), ("\"position\":0", "\"position\":-1"),
      ("\"rows\":4", "\"rows\":0"), ("\"epoch\":0", "\"epoch\":-1"),
    ] {
      #expect(written.contains(found))
      let state = try JSONDecoder().decode(
        BatchSampler.State.self, from: Data(written.replacing(found, with: bad).utf8))
      let dataset = sampler.dataset
      #expect(errorOf { try BatchSampler(dataset, resuming: state) }?.code == .badData)
    }
  }
}
