import PeatData
import PeatTensor
import PeatTokenizers
import TestSupport
import Testing

@Suite("Masked tokens") struct MaskedTokenTests {
  private let cls = TinyEncoder.number(of: "[CLS]")
  private let sep = TinyEncoder.number(of: "[SEP]")
  private let mask = TinyEncoder.number(of: "[MASK]")

  private func tokenizer() throws -> Tokenizer { try Tokenizer(json: TinyEncoder.tokenizerJSON()) }

  private func documents(_ count: Int = 40) -> [Document] {
    TinyWorkshop.sentences(count, seed: 3).map { Document($0) }
  }

  private func dataset(
    _ documents: [Document], _ arrangement: TokenDataset.Arrangement, seed: UInt64 = 1
  ) throws -> TokenDataset {
    try MaskedTokenTask(tokenizer()).dataset(
      documents, arrangement, vocabularySize: 53, seed: seed)
  }

  @Test func `a window of a stream is framed, and 15 % of its other tokens are hidden`() throws {
    let data = try dataset(documents(), .stream(context: 42))
    let words = documents().count * 13
    #expect(data.windowCount == words / 40 + (words % 40 > 0 ? 1 : 0))
    for batch in data.batches(rows: 1) where batch.tokens.count == 42 {
      #expect(batch.tokens.first == cls && batch.tokens.last == sep)
      #expect(batch.targets.first == TokenBatch.ignored && batch.targets.last == TokenBatch.ignored)
      #expect(batch.targetCount == 6)
    }
  }

  @Test func `of hidden tokens 80 % are masks, 10 % others, 10 % as they were`() throws {
    let data = try dataset(documents(3000), .stream(context: 302))
    var (masked, kept, other, right) = (0, 0, 0, 0)
    let whole = data.tokens
    var place = 0
    for batch in data.batches(rows: 1) {
      for (number, token) in batch.tokens.dropFirst().dropLast().enumerated() {
        let target = batch.targets[number + 1]
        let original = whole[place]
        place += 1
        guard target >= 0 else {
          #expect(token == original)
          continue
        }
        right += target == original ? 1 : 0
        if token == mask { masked += 1 } else if token == original { kept += 1 } else { other += 1 }
      }
    }
    let all = Double(masked + kept + other)
    #expect(right == masked + kept + other && all == 130 * 45)
    #expect(abs(Double(masked) / all - 0.8) < 0.02)
    // One in 53 of those that are drawn is what it was.
    #expect(abs(Double(kept) / all - 0.1) < 0.02 && abs(Double(other) / all - 0.1) < 0.02)
  }

  @Test func `what is hidden repeats by the seed, and differs by it`() throws {
    let arrangement = TokenDataset.Arrangement.stream(context: 32)
    let one = try dataset(documents(), arrangement)
    let again = try dataset(documents(), arrangement)
    let other = try dataset(documents(), arrangement, seed: 2)
    #expect(Array(one.batches(rows: 3)) == Array(again.batches(rows: 3)))
    #expect(Array(one.batches(rows: 3)) != Array(other.batches(rows: 3)))
    #expect(one.fingerprint == again.fingerprint && one.fingerprint != other.fingerprint)
    // In batches or one by one.
    #expect(Array(one.batches(rows: 2))[0].targets.prefix(32) == one.batch(0, rows: 1).targets[...])
  }

  @Test(arguments: BatchSampler.Order.allCases)
  func `a sampler hides others in each epoch, and goes on to the same`(order: BatchSampler.Order)
    throws
  {
    let data = try dataset(documents(), .documents(context: 20))
    var sampler = BatchSampler(data, order, rows: 8, seed: 4)
    let first = sampler.next()
    let state = sampler.state
    let second = sampler.next()
    var resumed = try BatchSampler(data, resuming: state)
    #expect(resumed.next() == second)
    var twin = BatchSampler(data, order, rows: 8, seed: 4)
    #expect(twin.next() == first)
    guard order != .uniformWindows else { return }
    for _ in 2..<5 { _ = sampler.next() }
    var places: [Int: [Int32]] = [:]
    func note(_ batch: TokenBatch) -> Bool {
      var differs = false
      for window in 0..<batch.windowCount {
        let range = batch.places(ofWindows: window..<window + 1)
        let targets = Array(batch.targets[range])
        if let known = places.updateValue(targets, forKey: batch.windowPlaces[window]),
          known != targets
        {
          differs = true
        }
      }
      return differs
    }
    _ = note(first)
    _ = note(second)
    var differs = false
    for _ in 0..<5 { differs = note(sampler.next()) || differs }
    // An evaluation's order has masks that repeat.
    #expect(differs == (order == .shuffledEpochs))
  }

  @Test func `special tokens in a text, prompts, and the end of what is too long are never hidden`()
    throws
  {
    let texts =
      [
        Document("the cat [SEP] sat [UNK] on zebra"),
        Document(prompt: "the dog ran ", completion: "under the tree"),
      ] + documents(20)
    for arrangement in [
      TokenDataset.Arrangement.packed(context: 30), .documents(context: 8), .stream(context: 9),
    ] {
      for seed in 0..<20 {
        let data = try dataset(texts, arrangement, seed: UInt64(seed))
        for batch in data.batches(rows: 4) {
          #expect(batch.targets.allSatisfy { $0 == TokenBatch.ignored || $0 > mask })
          #expect(batch.layout.count == batch.tokens.count)
        }
      }
    }
    let given = try dataset([texts[1]], .documents(context: 12))
    let batch = given.batch(0, rows: 1)
    #expect(batch.tokens.count == 8)
    #expect(batch.targets.prefix(4).allSatisfy { $0 == TokenBatch.ignored })
    #expect(batch.targetCount == 1)
    // Cut documents keep what stands around them.
    let cut = try dataset(documents(5), .documents(context: 6))
    for batch in cut.batches(rows: 1) {
      #expect(batch.tokens.count == 6 && batch.tokens.last == sep)
    }
  }

  @Test func `packed documents stay apart, and parts of data keep their masking`() throws {
    let data = try dataset(documents(12), .packed(context: 32))
    #expect(data.mostSequencesInWindow == 2)
    let batch = data.batch(0, rows: 1)
    #expect(batch.tokens.count == 30 && batch.tokens.count { $0 == cls } == 2)
    let parts = try data.split(validationShare: 0.25, seed: 0)
    #expect(parts.training.masking == data.masking && parts.validation.masking == data.masking)
    #expect(parts.validation.batch(0, rows: 1).tokens.first == cls)
    #expect(parts.training.documentCount + parts.validation.documentCount == 12)
  }

  @Test func `a stream on disk is the one in memory`() throws {
    let lines = TinyWorkshop.sentences(80, seed: 5).map { #"{"text": "\#($0)"}"# + "\n" }.joined()
    try withFile(lines, named: "data.jsonl") { url in
      let inMemory = try dataset(DocumentReader.read(url), .stream(context: 20))
      let file = try TokenFile(DocumentStream(url), tokenizer: tokenizer())
      let onDisk = try MaskedTokenTask(tokenizer()).dataset(
        file, context: 20, vocabularySize: 53, seed: 1)
      // But for the first token of all, which a file never has as a target.
      #expect(onDisk.windowCount == inMemory.windowCount)
      for number in 1..<onDisk.windowCount {
        #expect(onDisk.batch(number, rows: 1) == inMemory.batch(number, rows: 1))
      }
    }
  }

  @Test func `a tokenizer without a mask token, and a context without room, say so`() throws {
    let bytes = try ByteLevelBPETrainer(vocabularySize: 300).train(on: ["aaa bbb"])
    expectError(.badData, "mask token", "mask_token") { _ = try MaskedTokenTask(bytes) }
    expectError(.usage, "context of 2", "no room") {
      _ = try dataset(documents(3), .stream(context: 2))
    }
  }
}
