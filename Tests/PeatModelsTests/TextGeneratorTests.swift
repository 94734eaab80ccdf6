import PeatModels
import PeatTensor
import TestSupport
import Testing

@Suite("TextGenerator") struct TextGeneratorTests {
  private func generate(
    _ model: TransformerModel, prompt: [Int32] = [1], count: Int = 63, _ settings: SamplingSettings,
    threads: Int = 1
  ) throws -> [Int32] {
    var generator = try TextGenerator(
      model, prompt: prompt, capacity: 64, settings: settings, threads: threads)
    return try (0..<count).compactMap { _ in try generator.next() }
  }

  @Test(arguments: ["llama-tiny", "gpt2-tiny", "llama-tiny-untied"])
  func `cached keys and values give what the whole text gives`(name: String) throws {
    let model = try TinyModel.checkpoint(name).model()
    let vocabulary = model.configuration.vocabularySize
    // Prompt in one piece and token by token: logits of every step against the whole text's.
    let tokens = try generate(model, prompt: [1, 44, 3], count: 40, .init(temperature: 1, seed: 4))
    let text = [1, 44, 3] + tokens
    let whole = model.logits(text, length: text.count)
    for first in [1, 3, 20] {
      let tape = Tape()
      let cache = KeyValueCache(model, capacity: text.count, on: tape)
      var pieces = [Array(text.prefix(first))]
      pieces += text.dropFirst(first).map { [$0] }
      var position = 0
      for piece in pieces {
        let hidden = piece.withUnsafeBufferPointer {
          model.hiddenStates(
            $0, layout: SequenceLayout(lengths: [piece.count], firstPosition: cache.length),
            on: tape, cache: cache
          ).tensor()
        }
        position += piece.count
        #expect(cache.length == position)
        let inner = Tape()
        let found = inner.linear(inner.input(hidden), weight: try #require(model.head).table.weight)
          .tensor()
        let expected = Tensor(
          Array(whole.scalars[(position - piece.count) * vocabulary..<position * vocabulary]),
          shape: [piece.count, vocabulary])
        expectClose(found, expected, within: 1e-5, "\(name), tokens up to \(position)")
      }
    }
  }

  @Test func `greedy text is each time the most likely token of the whole text`() throws {
    let model = try TinyModel.checkpoint("llama-tiny").model()
    var text: [Int32] = [1, 44, 3]
    let found = try generate(model, prompt: text, count: 20, .init())
    for token in found {
      let logits = model.logits(text, length: text.count).scalars.suffix(97)
      let best = try #require(logits.max())
      #expect(logits[logits.startIndex + Int(token)] >= best - 1e-4)
      text.append(token)
    }
  }

  @Test(arguments: ["llama-tiny", "gpt2-tiny"])
  func `the text does not depend on the number of threads`(name: String) throws {
    for storage in WeightStorage.allCases {
      let model = try TinyModel.checkpoint(name).model(storage: .all(storage))
      for prompt in [[1], [1, 44], [1, 44, 3, 9, 20, 7, 61]] as [[Int32]] {
        let settings = SamplingSettings(temperature: 1, seed: 3)
        let alone = try generate(model, prompt: prompt, count: 40, settings)
        for threads in [2, 3, 8] {
          #expect(
            try generate(model, prompt: prompt, count: 40, settings, threads: threads) == alone)
        }
      }
    }
  }

  #if os(Linux)
    @Test func `a generator's threads end with it`() throws {
      let model = try TinyModel.checkpoint("gpt2-tiny").model()
      for _ in 0..<300 { _ = try generate(model, count: 2, .init(), threads: 4) }
      // 900 if they stayed; other tests have some meanwhile.
      #expect(try ThreadCount.current() < 500)
    }
  #endif

  @Test func `a seed gives the same text again, another seed another`() throws {
    let model = try TinyModel.checkpoint("gpt2-tiny").model()
    let first = try generate(model, .init(temperature: 1, seed: 1))
    #expect(try generate(model, .init(temperature: 1, seed: 1)) == first)
    #expect(try generate(model, .init(temperature: 1, seed: 2)) != first)
    // Copies of a generator draw on their own: the second does not disturb the first.
    #expect(
      try generate(model, .init(temperature: 1, topTokens: 1, seed: 9)) == generate(model, .init()))
    #expect(try generate(model, .init(temperature: 1e-4, seed: 9)) == generate(model, .init()))
  }

  @Test func `samples are as frequent as the softmax says, among the most likely`() throws {
    let model = try TinyModel.checkpoint("llama-tiny").model()
    let prompt: [Int32] = [1, 44, 3]
    let logits = model.logits(prompt, length: 3).scalars.suffix(97).map(Double.init)
    let order = logits.indices.sorted { logits[$0] > logits[$1] }.prefix(3)
    let temperature = 2.0
    let weights = order.map { exponential((logits[$0] - logits[order[0]]) / temperature) }
    let draws = 3000
    var counts: [Int32: Int] = [:]
    for seed in 0..<draws {
      let settings = SamplingSettings(
        temperature: Float(temperature), topTokens: 3, seed: UInt64(seed))
      counts[try generate(model, prompt: prompt, count: 1, settings)[0], default: 0] += 1
    }
    #expect(Set(counts.keys).isSubset(of: Set(order.map(Int32.init))))
    for (token, weight) in zip(order, weights) {
      let share = weight / weights.reduce(0, +)
      let deviation = (share * (1 - share) * Double(draws)).squareRoot()
      let found = Double(counts[Int32(token), default: 0])
      #expect(abs(found - share * Double(draws)) < 4.5 * deviation + 1, "token \(token)")
    }
  }

  @Test(arguments: ["llama-tiny", "gpt2-tiny"]) func `a full context ends the text`(name: String)
    throws
  {
    let model = try TinyModel.checkpoint(name).model()
    #expect(model.configuration.contextLength == 64)
    // 64 tokens fit; the last of them still has a successor.
    #expect(try generate(model, prompt: [1, 2], count: 200, .init()).count == 63)
    var generator = try TextGenerator(model, prompt: [1, 2], capacity: 1000, settings: .init())
    #expect(try (0..<200).compactMap { _ in try generator.next() }.count == 63)
    #expect(try generator.next() == nil)
    var short = try TextGenerator(model, prompt: [1, 2], capacity: 5, settings: .init())
    #expect(try (0..<200).compactMap { _ in try short.next() }.count == 4)
    let long = Array(repeating: Int32(3), count: 63)
    var last = try TextGenerator(model, prompt: long, capacity: 64, settings: .init())
    #expect(try last.next() != nil)
    #expect(try last.next() != nil)
    #expect(try last.next() == nil)
  }

  @Test func `prompts that can't be continued`() throws {
    let model = try TinyModel.checkpoint("llama-tiny").model()
    func code(_ prompt: [Int32]) -> PeatError.Code? {
      #expect(throws: PeatError.self) {
        try TextGenerator(model, prompt: prompt, capacity: 64, settings: .init())
      }?.code
    }
    #expect(code([]) == .usage)
    #expect(code(Array(repeating: 1, count: 64)) == .badData)
    #expect(code([1, 97]) == .badData)
    #expect(code([-1]) == .badData)
  }
}

private func exponential(_ x: Double) -> Double {
  // e^x by its series around the nearest half: exact enough for a frequency.
  var term = 1.0
  var sum = 1.0
  for n in 1..<60 {
    term *= x / Double(n)
    sum += term
  }
  return sum
}
