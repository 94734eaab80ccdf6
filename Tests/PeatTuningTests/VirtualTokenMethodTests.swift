import Foundation
import PeatData
import PeatModels
import PeatNN
import PeatTensor
import PeatTuning
import TestSupport
import Testing

@Suite("Prefixes, prompts and bottlenecks", .timeLimit(.minutes(5)))
struct VirtualTokenMethodTests {
  static let methods = [PrefixTuning.name, PromptTuning.name, Bottleneck.name]

  private func method(
    _ name: String, start: VirtualTokenStart = .vocabulary, activation: String = "relu"
  ) throws -> Adapter.Method {
    var options = MethodOptions()
    options.virtualTokens = 6
    options.start = start
    options.bottleneckSize = 5
    options.activation = try #require(BottleneckAdapter.Activation(rawValue: activation))
    return try options.method(named: name)
  }

  /// An adapter that does something.
  private func adapter(
    _ name: String, for model: TransformerModel, blocks: [Int] = [0, 2], source: Digest? = nil
  ) throws -> Adapter {
    var adapter = try Adapter(
      new: method(name), for: model, blocks: blocks, seed: 3, sourceDigest: source)
    var random = SeededRandom(seed: 5)
    for key in adapter.state.keys.sorted() {
      guard let tensor = adapter.state[key] else { continue }
      let noise = randomTensor(tensor.shape, &random, scale: 0.3)
      adapter.state[key] = Tensor(
        zip(tensor.scalars, noise.scalars).map { $0 + $1 }, shape: tensor.shape)
    }
    return adapter
  }

  private func facts(
    _ adapter: Adapter, _ model: TransformerModel, split: AdapterFolder.SplitNumbers? = nil
  ) -> AdapterFolder.Facts {
    AdapterFolder.Facts(
      method: adapter.method.name, sourceDigest: adapter.sourceDigest, modelDigest: nil,
      split: split,
      blockMap: Dictionary(
        uniqueKeysWithValues: model.blocks.enumerated().map { (String($0), $1.numberInFullModel) }))
  }

  @Test(arguments: methods, ["llama-tiny", "gpt2-tiny"])
  func `in and out again leaves the model bit for bit`(name: String, base: String) throws {
    let source = try checkpoint(base)
    let model = try source.model()
    let before = model.someLogits
    let adapter = try adapter(name, for: model, source: source.digest())
    for _ in 0..<2 {
      let plugged = try PlugIn(adapter, into: model, digest: source.digest())
      #expect(Difference(model.someLogits, before).relative > 0.01)
      expectError(.badData, "already carries an adapter") { _ = try adapter.inject(into: model) }
      plugged.remove()
      #expect(model.someLogits == before)
    }
    let injected = try adapter.inject(into: model)
    #expect(injected.state == adapter.state)
    let trainable = TrainableParameters(injected.parameters.map(\.parameter))
    trainable.values.withUnsafeMutableBufferPointer { for i in $0.indices { $0[i] += 0.5 } }
    trainable.release()
    #expect(injected.state != adapter.state)
    injected.remove()
    #expect(model.someLogits == before)
    #expect(model.virtualTokens == 0)
  }

  @Test(arguments: ["llama-tiny", "gpt2-tiny"])
  func `a new prefix or prompt is as if the model had read its tokens`(base: String) throws {
    let model = try checkpoint(base).model()
    let text: [Int32] = [7, 30, 2, 2, 61, 44]
    let whole = model.logits(text + someTokens, length: text.count + someTokens.count)
    let expected = whole.rows(text.count..<text.count + someTokens.count)
    for name in [PrefixTuning.name, PromptTuning.name] {
      let adapter = try Adapter(
        new: method(name, start: .tokens(text)), for: model,
        blocks: Array(model.blocks.indices), seed: 1, sourceDigest: nil)
      let injected = try adapter.inject(into: model)
      expectClose(model.someLogits, expected, within: 1e-5, name)
      injected.remove()
    }
  }

  /// Gemma's embeddings are scaled on their way in.
  @Test(arguments: ["gemma", "gemma2"])
  func `a new prompt is as if the model had read its tokens, also where embeddings are scaled`(
    family: String
  ) throws {
    let folder = ProjectFolders.golden.appendingPathComponent("families/\(family)")
    let model = try Checkpoint(folder: folder).model()
    let (text, tokens): ([Int32], [Int32]) = ([7, 30, 2, 2, 41, 44], [9, 14, 22, 3])
    let expected = model.logits(text + tokens, length: 10).rows(6..<10).copied()
    for name in [PrefixTuning.name, PromptTuning.name] {
      let adapter = try Adapter(
        new: method(name, start: .tokens(text)), for: model,
        blocks: Array(model.blocks.indices), seed: 1, sourceDigest: nil)
      let injected = try adapter.inject(into: model)
      expectClose(model.logits(tokens, length: 4), expected, within: 1e-5, name)
      injected.remove()
    }
  }

  @Test func `a text is repeated or cut to the number of virtual tokens`() throws {
    let model = try checkpoint().model()
    func prompt(_ tokens: [Int32]) throws -> Tensor {
      try #require(
        try Adapter(
          new: method(PromptTuning.name, start: .tokens(tokens)), for: model, blocks: [0], seed: 1,
          sourceDigest: nil
        ).state["prompt_embeddings"])
    }
    func row(_ token: Int) -> [Float] { model.embedding.tensor.rows(token..<token + 1).scalars }
    #expect(try prompt([3, 4]).scalars == [3, 4, 3, 4, 3, 4].flatMap(row))
    #expect(try prompt([9, 8, 7, 6, 5, 4, 3, 2]).scalars == [9, 8, 7, 6, 5, 4].flatMap(row))
    expectError(.usage, "no tokens") { _ = try prompt([]) }
    expectError(.badData, "token 97") { _ = try prompt([97]) }
    // Normal numbers, where they are wanted.
    for name in [PrefixTuning.name, PromptTuning.name] {
      let state = try Adapter(
        new: method(name, start: .normal), for: model, blocks: [0, 4], seed: 1, sourceDigest: nil
      ).state
      let values = state.values.flatMap(\.scalars).map(Double.init)
      let square = values.reduce(0) { $0 + $1 * $1 } / Double(values.count)
      #expect(abs(square - 1) < 0.3)
    }
  }

  @Test(arguments: ["relu", "gelu"]) func `a new bottleneck changes nothing`(activation: String)
    throws
  {
    let model = try checkpoint().model()
    let before = model.someLogits
    let adapter = try Adapter(
      new: method(Bottleneck.name, activation: activation), for: model, blocks: [0, 4], seed: 1,
      sourceDigest: nil)
    #expect(adapter.state.count == 16)
    #expect(adapter.parameterCount == 2 * 2 * (5 * 32 + 5 + 32 * 5 + 32))
    let injected = try adapter.inject(into: model)
    expectClose(model.someLogits, before, within: 1e-6, "logits")
    injected.remove()
  }

  @Test(arguments: methods) func `names and shapes that do not fit are refused`(name: String) throws
  {
    let model = try checkpoint().model()
    let before = model.someLogits
    let adapter = try adapter(name, for: model)
    func refuse(_ words: String..., change: (inout NamedTensors) -> Void) {
      var changed = adapter
      change(&changed.state)
      let error = #expect(throws: PeatError.self) { try changed.inject(into: model) }
      #expect(error?.code == .badData)
      for word in words {
        #expect(error?.message.contains(word) == true, "\(error?.message ?? "")")
      }
      #expect(model.someLogits == before)
    }
    refuse("empty") { $0 = [:] }
    refuse("anything") { $0["anything"] = [1] }
    for key in adapter.state.keys.sorted() {
      refuse { $0[key] = Tensor(zeros: [3, 3]) }
      refuse { $0[key] = nil }
      guard key.contains(".layers.2.") || key.hasPrefix("model.layers.2.") else { continue }
      refuse {
        $0[key.replacingOccurrences(of: "layers.2.", with: "layers.9.")] = $0.removeValue(
          forKey: key)
      }
      refuse {
        $0[key.replacingOccurrences(of: "layers.2.", with: "layers.02.")] = $0.removeValue(
          forKey: key)
      }
    }
    try adapter.inject(into: model).remove()
    expectError(.badData, "block 7") {
      _ = try Adapter(new: method(name), for: model, blocks: [7], seed: 1, sourceDigest: nil)
    }
  }

  @Test(arguments: methods)
  func `an adapter tuned on an emulator is named in the full model's numbers`(name: String) throws {
    let source = try checkpoint()
    let full = try source.model()
    let emulator = try full.selecting(blocks: [0, 1, 3, 4])
    let adapter = try adapter(name, for: emulator, blocks: [0, 4], source: source.digest())
    let numbers = Set(
      adapter.state.keys.compactMap { $0.split(separator: ".").compactMap { Int($0) }.first })
    #expect(numbers == (name == PromptTuning.name ? [] : [0, 4]))
    let injected = try adapter.inject(into: emulator)
    let tuned = emulator.someLogits
    injected.remove()
    try withTemporaryFolder { scratch in
      let folder = scratch.appendingPathComponent("adapter")
      try AdapterFolder.write(
        adapter, facts: facts(adapter, emulator, split: .init(bottom: 1, emulator: 2, top: 1)),
        configuration: emulator.configuration, baseModel: "emulator", to: folder)
      let stored = try AdapterFolder.readFiles(folder)
      let config = folder.appendingPathComponent("adapter_config.json")
      if name == PromptTuning.name {
        #expect(FileManager.default.fileExists(atPath: config.path))
        #expect(stored.facts?.notInPEFT == nil)
      } else {
        // PEFT's prefix has all blocks: ours says why it is not one.
        #expect(!FileManager.default.fileExists(atPath: config.path))
        #expect(stored.facts?.notInPEFT?.contains("PEFT") == true || name == PrefixTuning.name)
        #expect(stored.facts?.notInPEFT != nil)
        #expect(
          stored.tensors.keys.allSatisfy { $0.contains("layers.0.") || $0.contains("layers.3.") })
      }
      for model in [full, emulator] {
        let (again, _) = try AdapterFolder.read(folder, for: model)
        #expect(again.state == adapter.state && again.method.name == name)
      }
      #expect(try AdapterFolder.read(folder).0.state == adapter.state)
      let (again, _) = try AdapterFolder.read(folder, for: emulator)
      let inside = try again.inject(into: emulator)
      #expect(emulator.someLogits == tuned)
      inside.remove()
    }
    expectError(.usage, name, "merging") {
      _ = try PlugIn.mergedTensors(adapter, into: full, digest: source.digest())
    }
  }

  @Test(arguments: methods, [(1, 1, false), (2, 2, true)])
  func `tuning makes the loss smaller`(name: String, way: (Int, Int, Bool)) throws {
    let model = try checkpoint().model()
    let adapter = try Adapter(
      new: method(name), for: model, blocks: [0, 4], seed: 2, sourceDigest: nil)
    let injected = try adapter.inject(into: model)
    for arrangement in [
      TokenDataset.Arrangement.stream(context: 12), .packed(context: 12), .documents(context: 12),
    ] {
      injected.state = adapter.state
      let trainer = try Trainer(
        model, parameters: injected.parameters.map(\.parameter),
        data: try TokenDataset(randomSequences(11), arrangement),
        configuration: TrainingConfiguration(
          steps: 25, batch: 4, context: 12, learningRate: 2e-2, accumulation: way.1,
          checkpointing: way.2, threads: way.0))
      var losses: [Double] = []
      _ = try trainer.run(onStep: { losses.append($0.report.loss) })
      trainer.finish()
      let first = losses.prefix(5).reduce(0, +)
      let last = losses.suffix(5).reduce(0, +)
      #expect(last < 0.97 * first, "\(arrangement): \(losses)")
    }
    injected.remove()
  }

  @Test func `virtual tokens leave less of the context, and say so`() throws {
    let model = try checkpoint("gpt2-tiny").model()
    let longest = model.configuration.contextLength
    for name in [PrefixTuning.name, PromptTuning.name] {
      let injected = try adapter(name, for: model).inject(into: model)
      defer { injected.remove() }
      func train(_ context: Int) throws {
        let trainer = try Trainer(
          model, parameters: injected.parameters.map(\.parameter),
          data: try TokenDataset(randomSequences(30), .stream(context: context)),
          configuration: TrainingConfiguration(steps: 1, batch: 1, context: context))
        defer { trainer.finish() }
        _ = try trainer.advance()
      }
      try train(longest - 6)
      expectError(.usage, "6 virtual tokens", "\(longest - 6)") { try train(longest - 5) }
      var options = MethodOptions()
      options.virtualTokens = longest
      expectError(.badData, "leave no room") {
        _ = try Adapter(
          new: options.method(named: name), for: try checkpoint("gpt2-tiny").model(), blocks: [0],
          seed: 1, sourceDigest: nil)
      }
    }
    var options = MethodOptions()
    for count in [0, -1, 1 << 17] {
      options.virtualTokens = count
      for name in [PrefixTuning.name, PromptTuning.name] {
        expectError(.usage, "virtual tokens") { _ = try options.method(named: name) }
      }
      options.bottleneckSize = count
      expectError(.usage, "bottleneck") { _ = try options.method(named: Bottleneck.name) }
    }
    expectError(.usage, "Did you mean 'prefix-tuning'?") {
      _ = try options.method(named: "prefix-tunning")
    }
  }

  @Test(arguments: methods, ["llama-tiny", "gpt2-tiny"])
  func `memory is counted`(name: String, base: String) throws {
    let model = try checkpoint(base).model()
    let blocks = [0, 2]
    let adapter = try adapter(name, for: model, blocks: blocks)
    var random = SeededRandom(seed: 5)
    let tokens = (0..<256 * 32 + 1).map { _ in Int32(random.integer(below: 90)) }
    for (checkpointing, threads) in [(false, 1), (true, 1), (false, 2)] {
      let demands = MemoryDemands(
        model: model.configuration, method: adapter.method, blocks: blocks, batch: 256, context: 32,
        threads: threads)
      #expect(demands.trainable == adapter.parameterCount)
      #expect(demands.trainableWeights == 0 && demands.frozenPrefix == 0)
      let injected = try adapter.inject(into: model)
      let trainer = try Trainer(
        model, parameters: injected.parameters.map(\.parameter),
        data: try TokenDataset([TokenSequence(tokens)], .stream(context: 32)),
        configuration: TrainingConfiguration(
          steps: 2, batch: 256, context: 32, learningRate: 1e-3, checkpointing: checkpointing,
          order: .sequential, threads: threads))
      for _ in 0..<2 { _ = try trainer.advance() }
      let counted = demands.activationBytes(
        checkpointing: checkpointing, accumulation: 1, logitRows: trainer.configuration.logitRows)
      let taken = Double(trainer.activationBytes)
      trainer.finish()
      injected.remove()
      // Buffers leave gaps; a plan allows 4 % for them. What lies below the first adapter of the first block is counted, but
      // not kept.
      #expect(
        (0.96...1.35).contains(counted / taken),
        "\(counted) of \(taken): \(name), \(checkpointing), \(threads) threads")
    }
    let without = MemoryDemands(
      model: model.configuration, method: .lora(try LoRAConfiguration(rank: 1)), blocks: blocks,
      batch: 4, context: 24, threads: 1)
    let with = MemoryDemands(
      model: model.configuration, method: adapter.method, blocks: blocks, batch: 4, context: 24,
      threads: 1)
    func bytes(_ demands: MemoryDemands) -> Double {
      demands.activationBytes(checkpointing: false, accumulation: 1, logitRows: 512)
    }
    #expect(bytes(with) > bytes(without))
    // A prompt stands in front of each document of a packed window.
    let packed = try TokenDataset(
      [3, 4, 9, 2].map { TokenSequence([Int32](repeating: 1, count: $0)) }, .packed(context: 20))
    #expect(packed.mostSequencesInWindow == 4)
    var several = with
    several.sequencesPerWindow = packed.mostSequencesInWindow
    #expect((bytes(several) > bytes(with)) == (name == PromptTuning.name))
  }
}
