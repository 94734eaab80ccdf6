import Foundation
import PeatData
import PeatEmulation
import PeatModels
import PeatTensor
import PeatTuning
import TestSupport
import Testing

/// Emulators of T5's golden checkpoints: blocks 0 to 2 are the encoder's, 3 to 6 the decoder's.
@Suite("Emulators of models with an encoder", .timeLimit(.minutes(5)))
struct EncoderDecoderEmulatorTests {
  private static func checkpoint(_ name: String = "t5") throws -> Checkpoint {
    try Checkpoint(folder: ProjectFolders.golden.appendingPathComponent("families/\(name)"))
  }

  private static let tokens: [Int32] = [5, 9, 14, 3, 22, 41, 7, 1, 0, 17, 33, 8, 52, 4, 4, 19]

  private static func data(_ count: Int = 12) throws -> TokenDataset {
    var random = SeededRandom(seed: 4)
    func some(_ count: Int) -> [Int32] {
      (0..<count).map { _ in Int32(2 + random.integer(below: 51)) }
    }
    return try TokenDataset(
      (0..<count).map {
        TokenSequence(source: some(3 + $0 % 7) + [1], start: 0, target: some(2 + $0 % 5) + [1])
      }, .pairs(context: 24))
  }

  private func expectSame(
    _ left: TransformerModel, _ right: TransformerModel, _ what: String,
    sourceLocation: SourceLocation = #_sourceLocation
  ) {
    expectClose(
      left.logits(Self.tokens, length: 8), right.logits(Self.tokens, length: 8), within: 1e-4, what,
      sourceLocation: sourceLocation)
  }

  @Test(
    arguments: ["t5", "t5-gated"],
    [
      "layer-drop=3", "layers=0:4", "layers=1:2,share", "importance=3", "loss-importance=4",
      "cluster=3", "prune-channels=0.5", "gradient-channels=0.5", "low-rank=0.5",
      "weighted-low-rank=0.5", "gradient-ranks=0.5", "magnitude=0.5", "int8", "int4=gptq",
      "layer-drop=3,prune-channels=0.5,low-rank=0.6,int8",
    ])
  func `a recipe makes one that is read back, written plainly and grown`(
    name: String, recipe: String
  ) throws {
    let source = try Self.checkpoint(name)
    let full = try source.model()
    let split = try ModelSplit(bottom: 1, top: 1, of: 7)
    let calibration = CompressionCalibration(try Self.data(), threads: 2)
    let emulator = try EmulatorRecipe(recipe).makeEmulator(
      from: full, split: split, calibration: calibration)
    try withTemporaryFolder { folder in
      let place = folder.appendingPathComponent("emulator")
      let facts = try emulator.facts(source: source, full: full)
      #expect(facts.encoderBlocks == 3)
      #expect(facts.exposure > 0 && facts.exposure <= 1)
      try emulator.write(to: place, source: source, facts: facts)
      let read = try Emulator(folder: place)
      expectSame(read.model, emulator.model, "read back")
      #expect(
        read.model.blocks.map(\.nameInFullModel)
          == emulator.keptBlocks.map { full.configuration.keys.block($0) })
      let json = try Checkpoint(folder: place).configurationJSON
      #expect(json["num_layers"]?.integer == emulator.keptBlocks.count { $0 < 3 })
      #expect(json["num_decoder_layers"]?.integer == emulator.keptBlocks.count { $0 >= 3 })
      let target = folder.appendingPathComponent("plain")
      _ = try read.export(to: target, source: Checkpoint(folder: place))
      expectSame(try Checkpoint(folder: target).model(), read.model, "written plainly")
      if let grown = try read.grown() {
        #expect(grown.keptBlocks == Array(0..<7))
        expectSame(grown.model, read.model, "grown")
      }
    }
  }

  @Test(arguments: ["t5", "t5-gated"])
  func `an adapter tuned through it plugs into the full model`(name: String) throws {
    let source = try Self.checkpoint(name)
    let full = try source.model()
    let split = try ModelSplit(bottom: 1, top: 2, of: 7)
    let emulator = try EmulatorRecipe("layers=1:2").makeEmulator(from: full, split: split)
    let data = try Self.data()
    let methods: [Adapter.Method] = [
      .lora(try LoRAConfiguration(rank: 4, alpha: 8)),
      .lora(try LoRAConfiguration(rank: 4, alpha: 8, usesMagnitudes: true)),
      .ia3(try IA3Configuration()), .normTuning, .endBlocks,
      .bottleneck(try BottleneckConfiguration(size: 4)),
      .promptTuning(try VirtualTokenConfiguration(virtualTokens: 3)),
      .prefixTuning(try VirtualTokenConfiguration(virtualTokens: 3)),
    ]
    for method in methods {
      var adapter = try Adapter(
        new: method, for: full, blocks: split.ends, seed: 3, sourceDigest: source.digest())
      let model = try emulator.model.sharingWeights()
      let injected = try adapter.inject(into: model)
      let trainer = try Trainer(
        model, parameters: injected.parameters.map(\.parameter), data: data,
        configuration: TrainingConfiguration(
          steps: 12, batch: 4, context: 24, learningRate: 1e-2, seed: 1, threads: 2))
      var losses: [Double] = []
      while !trainer.isFinished { losses.append(try trainer.advance().loss) }
      trainer.finish()
      adapter.state = injected.state
      injected.remove()
      #expect(
        losses.suffix(3).reduce(0, +) < losses.prefix(3).reduce(0, +), "\(method.name): \(losses)")
      try withTemporaryFolder { folder in
        let place = folder.appendingPathComponent("adapter")
        try AdapterFolder.write(
          adapter,
          facts: AdapterFolder.Facts(
            method: method.name, sourceDigest: source.digest(), modelDigest: nil,
            split: emulator.splitNumbers,
            blockMap: Dictionary(
              uniqueKeysWithValues: emulator.keptBlocks.enumerated().map { (String($0), $1) })),
          configuration: emulator.model.configuration, baseModel: "base", to: place)
        #expect(try AdapterFolder.read(place, for: full).0.state == adapter.state, "\(method.name)")
        #expect(
          try AdapterFolder.read(place, for: emulator.model).0.state == adapter.state,
          "\(method.name)")
        #expect(try AdapterFolder.read(place).0.state == adapter.state, "\(method.name)")
      }
      let before = full.logits(Self.tokens, length: 8)
      let plugged = try PlugIn(adapter, into: full, digest: source.digest())
      let tuned = full.logits(Self.tokens, length: 8)
      #expect(tuned != before, "\(method.name)")
      plugged.remove()
      #expect(full.logits(Self.tokens, length: 8) == before)
      guard method.isMergeable else { continue }
      let merged = try PlugIn.mergedTensors(adapter, into: full, digest: source.digest())
      let model2 = try TransformerModel(
        configuration: full.configuration, tensors: merged.tensors, source: "merged")
      expectClose(
        model2.logits(Self.tokens, length: 8), tuned, within: 1e-4, "\(method.name), merged")
    }
  }

  @Test func `distillation brings the middle nearer`() throws {
    let source = try Self.checkpoint()
    let full = try source.model()
    let emulator = try EmulatorRecipe("layers=0:4").makeUnpacked(
      from: full, split: try ModelSplit(bottom: 1, top: 1, of: 7))
    func distance() throws -> Double {
      let theirs = full.logits(Self.tokens, length: 8).scalars
      let own = emulator.model.logits(Self.tokens, length: 8).scalars
      return zip(theirs, own).reduce(0) { $0 + Double(($1.0 - $1.1) * ($1.0 - $1.1)) }
    }
    let before = try distance()
    var settings = DistillationSettings()
    (settings.steps, settings.batch, settings.context, settings.threads) = (60, 4, 24, 2)
    settings.learningRate = 3e-3
    _ = try Distillation(emulator, full: full, data: try Self.data(), settings: settings).run()
    #expect(try distance() < before)
  }

  @Test func `one block of each stack must be left`() throws {
    let full = try Self.checkpoint().model()
    let split = try ModelSplit(bottom: 0, top: 1, of: 7)
    let error = #expect(throws: PeatError.self) {
      try EmulatorRecipe("layers=3:4").makeEmulator(from: full, split: split)
    }
    #expect(error?.code == .usage && error?.message.contains("encoder") == true)
    let shared = #expect(throws: PeatError.self) {
      try EmulatorRecipe("layers=3:4,share").makeEmulator(
        from: full, split: try ModelSplit(bottom: 1, top: 1, of: 7))
    }
    #expect(shared?.message.contains("encoder") == true, "\(shared?.message ?? "")")
  }

  @Test func `what its table of positions does not allow is refused`() throws {
    let full = try Self.checkpoint().model()
    let heads = #expect(throws: PeatError.self) {
      try EmulatorRecipe("prune-heads=0.5").makeEmulator(
        from: full, split: try ModelSplit(bottom: 1, top: 1, of: 7))
    }
    #expect(heads?.code == .usage && heads?.message.contains("relative positions") == true)
  }

  @Test func `a prefix stands in front of what the decoder says`() throws {
    let full = try Self.checkpoint().model()
    let text: [Int32] = [7, 30, 2, 2, 41, 44]
    let method = Adapter.Method.prefixTuning(
      try VirtualTokenConfiguration(virtualTokens: 6, start: .tokens(text)))
    let error = #expect(throws: PeatError.self) {
      try Adapter(new: method, for: full, blocks: [0, 2], seed: 1, sourceDigest: nil)
    }
    #expect(error?.code == .usage && error?.message.contains("block 3") == true)
    let adapter = try Adapter(
      new: method, for: full, blocks: Array(0..<7), seed: 1, sourceDigest: nil)
    #expect(
      Set(adapter.state.keys)
        == Set(
          (0..<4).flatMap { block in
            ["keys", "values"].map { "decoder.block.\(block).attention_prefix.\($0)" }
          }))
    // A new one is as if the decoder had said its tokens, behind them as a source.
    let said: [Int32] = [9, 14, 22, 3]
    let expected = full.logits(text + text + said, length: 16, sourceLength: 6)
      .rows(12..<16).copied()
    let injected = try adapter.inject(into: full)
    let found = full.logits(text + said, length: 10, sourceLength: 6).rows(6..<10).copied()
    expectClose(found, expected, within: 1e-5, "logits")
    #expect(full.virtualTokens == 6)
    injected.remove()
    // None in a block of the encoder.
    var strange = adapter
    strange.state["encoder.block.0.attention_prefix.keys"] = Tensor(
      repeating: 1, shape: [6, 24])
    strange.state["encoder.block.0.attention_prefix.values"] = Tensor(
      repeating: 1, shape: [6, 24])
    let other = #expect(throws: PeatError.self) { try strange.inject(into: full) }
    #expect(other?.code == .badData && other?.message.contains("encoder's block") == true)
  }

  @Test func `data that is no pairs is refused`() throws {
    let model = try Self.checkpoint().model()
    let stream = try TokenDataset(
      [TokenSequence(Array(repeating: 3, count: 40))], .stream(context: 8))
    #expect(throws: PeatError.self) {
      try Trainer(
        model, parameters: model.parameters, data: stream,
        configuration: TrainingConfiguration(
          steps: 1, batch: 1, context: 8, learningRate: 1e-3, seed: 1, threads: 1))
    }
  }
}
