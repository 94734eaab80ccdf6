import PeatModels
import PeatNN
import PeatTensor
import TestSupport
import Testing

/// Prefixes, prompts and bottleneck adapters, as they act in a model.
@Suite("What stands beside a model's weights", .timeLimit(.minutes(5)))
struct VirtualTokenTests {
  enum Kind: String, CaseIterable, Sendable { case prefix, prompt, bottleneck }

  /// Puts parameters of a kind into a model, and returns them.
  private func install(
    _ kind: Kind, in model: TransformerModel, blocks: [Int]? = nil, isSmooth: Bool = false,
    seed: UInt64 = 3
  ) -> [Parameter] {
    var random = SeededRandom(seed: seed, kind.rawValue)
    func parameter(_ shape: [Int], scale: Float = 0.5) -> Parameter {
      Parameter("added", randomTensor(shape, &random, scale: scale))
    }
    let sizes = model.configuration
    switch kind {
    case .prompt:
      let prompt = parameter([4, sizes.hiddenSize])
      model.prompt = prompt
      return [prompt]
    case .prefix:
      return (blocks ?? [0, model.blocks.count - 1]).flatMap { block in
        let width = sizes.keyValueHeads * sizes.headWidth
        let prefix = KeyValuePrefix(keys: parameter([5, width]), values: parameter([5, width]))
        model.blocks[block].prefix = prefix
        return prefix.parameters
      }
    case .bottleneck:
      return (blocks ?? [0, model.blocks.count - 1]).flatMap { block in
        func adapter(_ activation: BottleneckAdapter.Activation) -> BottleneckAdapter {
          func layer(_ inputs: Int, _ outputs: Int) -> Linear {
            Linear(
              "added", weight: parameter([outputs, inputs], scale: 0.2),
              bias: parameter([outputs], scale: 0.2), layout: .outputsByInputs)
          }
          return BottleneckAdapter(
            down: layer(sizes.hiddenSize, 6), up: layer(6, sizes.hiddenSize),
            activation: activation)
        }
        let (first, second) = (adapter(.gelu), adapter(isSmooth ? .gelu : .relu))
        model.blocks[block].attentionAdapter = first
        model.blocks[block].feedForwardAdapter = second
        return first.parameters + second.parameters
      }
    }
  }

  private func remove(from model: TransformerModel) {
    model.prompt = nil
    for block in model.blocks {
      block.prefix = nil
      block.attentionAdapter = nil
      block.feedForwardAdapter = nil
    }
  }

  /// Loss and gradient with respect to what was installed, moved along a direction.
  private func gradient(
    _ name: String, _ kind: Kind, lengths: [Int], workers count: Int, checkpointing: Bool = false,
    sharesGradient: Bool = false, isSmooth: Bool = false, move: (inout [Float]) -> Void = { _ in }
  ) throws -> (gradient: Tensor, loss: Double) {
    let model = try TinyModel.checkpoint(name).model()
    let trainable = TrainableParameters(install(kind, in: model, isSmooth: isSmooth))
    defer { trainable.release() }
    var values = trainable.values.scalars
    move(&values)
    for i in values.indices { trainable.values.pointer[i] = values[i] }
    let rows = lengths.reduce(0, +)
    var random = SeededRandom(seed: 7)
    let tokens = (0..<rows).map { _ in Int32(random.integer(below: 97)) }
    let targets = (0..<rows).map { _ in Int32(random.integer(below: 97)) }
    let workers = StepWorkers(
      count: count, parameterCount: trainable.count, sharesGradient: sharesGradient)
    workers.zeroGradient()
    let loss = workers.run(SequenceLayout(lengths: lengths)) { tape, layout in
      tokens.withUnsafeBufferPointer { tokens in
        targets.withUnsafeBufferPointer { targets in
          model.loss(
            .init(rebasing: tokens[layout.rows]), targets: .init(rebasing: targets[layout.rows]),
            layout: layout, scale: 1 / Float(rows), on: tape, checkpointing: checkpointing)
        }
      }
    }
    workers.joinGradients()
    #expect(loss.count == rows)
    return (Tensor((0..<trainable.count).map { workers.gradient[$0] }), loss.sum / Double(rows))
  }

  @Test(arguments: ["llama-tiny", "gpt2-tiny"], Kind.allCases)
  func `gradients are those of finite differences, with one worker and with two`(
    name: String, kind: Kind
  ) throws {
    // Without ReLU's bends, which differences would cross.
    let lengths = [5, 17, 2]
    for workers in 1...2 {
      let found = try gradient(
        name, kind, lengths: lengths, workers: workers, isSmooth: true)
      for seed in [1, 2, 3] as [UInt64] {
        var random = SeededRandom(seed: seed)
        let direction = (0..<found.gradient.count).map { _ in random.normal() }
        let along = zip(found.gradient.scalars, direction).reduce(0.0) {
          $0 + Double($1.0) * Double($1.1)
        }
        func loss(_ step: Float) throws -> Double {
          try gradient(name, kind, lengths: lengths, workers: workers, isSmooth: true) { values in
            for i in values.indices { values[i] += step * direction[i] }
          }.loss
        }
        let h: Float = 2e-3
        let felt =
          (8 * (try loss(h) - loss(-h)) - (try loss(2 * h) - loss(-2 * h))) / (12 * Double(h))
        let size = found.gradient.scalars.reduce(0.0) { $0 + Double($1) * Double($1) }.squareRoot()
        #expect(
          abs(along - felt) <= 2e-2 * size, "\(along), finite differences \(felt), norm \(size)")
      }
    }
  }

  @Test(arguments: ["llama-tiny", "gpt2-tiny"], Kind.allCases)
  func `several workers give the gradient that one gives`(name: String, kind: Kind) throws {
    for lengths in [[40], [5, 31, 2], [1, 1, 37]] {
      let alone = try gradient(name, kind, lengths: lengths, workers: 1)
      #expect(alone.gradient.scalars.contains { $0 != 0 })
      for workers in 1...5 {
        for checkpointing in [false, true] {
          for shares in [false, true] {
            let together = try gradient(
              name, kind, lengths: lengths, workers: workers, checkpointing: checkpointing,
              sharesGradient: shares)
            expectClose(
              together.gradient, alone.gradient, within: 1e-5, "\(lengths), \(workers) workers")
            #expect(abs(together.loss - alone.loss) <= 1e-6 * alone.loss)
          }
        }
        let again = try gradient(name, kind, lengths: lengths, workers: workers)
        let more = try gradient(name, kind, lengths: lengths, workers: workers)
        #expect(again.gradient == more.gradient)
      }
    }
  }

  @Test(arguments: ["llama-tiny", "gpt2-tiny"], Kind.allCases)
  func `cached keys and values give what the whole text gives`(name: String, kind: Kind) throws {
    let model = try TinyModel.checkpoint(name).model()
    let text: [Int32] = [1, 44, 3, 8, 90, 17, 5, 5, 23, 61, 2, 0, 33]
    let before = model.logits(text, length: text.count)
    _ = install(kind, in: model)
    let whole = model.logits(text, length: text.count)
    #expect(whole.shape == before.shape)
    #expect(Difference(whole, before).relative > 0.01)
    for first in [1, 5] {
      let tape = Tape()
      let cache = KeyValueCache(model, capacity: text.count + model.promptLength, on: tape)
      var position = 0
      for piece in [Array(text.prefix(first))] + text.dropFirst(first).map({ [$0] }) {
        let hidden = piece.withUnsafeBufferPointer {
          model.hiddenStates(
            $0, layout: SequenceLayout(lengths: [piece.count], firstPosition: cache.length),
            on: tape, cache: cache
          ).tensor()
        }
        let inner = Tape()
        let found = inner.linear(inner.input(hidden), weight: try #require(model.head).table.weight)
          .tensor()
        expectClose(
          found, whole.rows(position..<position + piece.count), within: 1e-5, "from \(position)")
        position += piece.count
        #expect(cache.length == position + model.promptLength)
      }
    }
    // And out again.
    remove(from: model)
    #expect(model.logits(text, length: text.count) == before)
  }

  @Test(arguments: ["llama-tiny", "gpt2-tiny"], Kind.allCases)
  func `generation takes the most likely token of the whole text`(name: String, kind: Kind) throws {
    let model = try TinyModel.checkpoint(name).model()
    _ = install(kind, in: model)
    var text: [Int32] = [1, 44, 3]
    for threads in 1...2 {
      var generator = try TextGenerator(
        model, prompt: Array(text.prefix(3)), capacity: 30, settings: .init(), threads: threads)
      text = Array(text.prefix(3))
      while let token = try generator.next() {
        let logits = model.logits(text, length: text.count).scalars.suffix(97)
        let best = try #require(logits.max())
        #expect(logits[logits.startIndex + Int(token)] >= best - 1e-4)
        text.append(token)
      }
      // The last token is predicted from a full context.
      #expect(text.count == 31)
    }
  }

  @Test func `virtual tokens take positions from the context`() throws {
    let model = try TinyModel.checkpoint("gpt2-tiny").model()
    let longest = model.configuration.contextLength
    _ = install(.prompt, in: model)
    _ = install(.prefix, in: model)
    #expect(model.virtualTokens == 9 && model.promptLength == 4)
    #expect(model.contextLength == longest - 9)
    let text = [Int32](repeating: 1, count: longest - 9)
    #expect(model.logits(text, length: text.count).rows(0..<1).shape == [1, 97])
    expectError(.badData, "9 virtual tokens") {
      _ = try TextGenerator(
        model, prompt: text, capacity: 1000, settings: .init())
    }
    // A full context is generated to its end.
    var generator = try TextGenerator(
      model, prompt: [1], capacity: 10_000, settings: .init(temperature: 1, seed: 2))
    var count = 1
    while try generator.next() != nil { count += 1 }
    #expect(count == longest - 9 + 1)
  }

  @Test func `a prefix moves positions in all blocks, those without one too`() throws {
    // Learned positions: the same as a model whose position table begins later.
    let model = try TinyModel.checkpoint("gpt2-tiny").model()
    _ = install(.prefix, in: model, blocks: [2])
    #expect(model.virtualTokens == 5)
    let shifted = try TinyModel.checkpoint("gpt2-tiny").model()
    let table = try #require(shifted.positions)
    let rows = table.shape[0]
    table.assign(
      Tensor(
        table.tensor.rows(5..<rows).scalars + [Float](repeating: 0, count: 5 * table.shape[1]),
        shape: table.shape))
    let tokens: [Int32] = [1, 5, 9]
    func below(_ model: TransformerModel) -> Tensor {
      let tape = Tape()
      return tokens.withUnsafeBufferPointer {
        model.hiddenStates(
          below: 2, $0, layout: SequenceLayout(lengths: [3]), on: tape
        ).tensor()
      }
    }
    #expect(below(model) == below(shifted))
  }
}
