import Foundation
import PeatData
import PeatEmulation
import PeatModels
import PeatTensor
import PeatTuning
import TestSupport
import Testing

/// Models of an encoder and a decoder, beside PEFT and transformers. In `rows` the first half is the source.
@Suite("Models with an encoder, in PEFT and transformers") struct EncoderDecoderParityTests {
  private func checkpoint(_ name: String) throws -> Checkpoint {
    try Checkpoint(folder: ProjectFolders.golden.appendingPathComponent("families/\(name)"))
  }

  private static let rows: [[Int32]] = [
    [5, 9, 14, 3, 22, 41, 7, 1, 0, 17, 33, 8, 52, 4, 4, 19],
    [50, 2, 2, 31, 11, 6, 29, 1, 0, 44, 12, 35, 20, 20, 9, 3],
  ]

  /// The logits of what the decoder reads.
  private func logits(_ model: TransformerModel) -> Tensor {
    let all = model.logits(Self.rows)
    return Tensor(
      [8..<16, 24..<32].flatMap { all.rows($0).scalars }, shape: [16, all.shape[1]])
  }

  private func emulated(_ name: String) throws -> (Checkpoint, TransformerModel, Emulator) {
    let checkpoint = try checkpoint(name)
    let full = try checkpoint.model()
    // Encoder 0, 1, 2, decoder 3, 4, 5, 6: the middle is 1 to 5, of which 2 and 4 stay.
    let split = try ModelSplit(bottom: 1, top: 1, of: 7)
    return (
      checkpoint, full, try EmulatorRecipe("layers=1:3").makeEmulator(from: full, split: split)
    )
  }

  private func methods() throws -> [Adapter.Method] {
    [
      .lora(try LoRAConfiguration(rank: 3, alpha: 6)),
      .lora(try LoRAConfiguration(rank: 2, alpha: 6, targetModules: ["q", "v"])),
      .lora(
        try LoRAConfiguration(rank: 2, alpha: 6, targetModules: ["wo", "o"], usesMagnitudes: true)),
      .ia3(try IA3Configuration()), .normTuning,
      .promptTuning(try VirtualTokenConfiguration(virtualTokens: 3)),
    ]
  }

  /// An adapter that does something.
  private func adapter(
    _ method: Adapter.Method, _ full: TransformerModel, _ digest: Digest
  ) throws -> Adapter {
    var adapter = try Adapter(
      new: method, for: full, blocks: [0, 6], seed: 5, sourceDigest: digest)
    var random = SeededRandom(seed: 6)
    for (name, tensor) in adapter.state.sorted(by: { $0.key < $1.key })
    where !name.hasSuffix("lora_A.weight") {
      let noise = randomTensor(tensor.shape, &random, scale: 0.2)
      adapter.state[name] = Tensor(
        zip(tensor.scalars, noise.scalars).map { $0 + $1 }, shape: tensor.shape)
    }
    return adapter
  }

  @Test(.needsPeers, arguments: ["t5", "t5-gated"])
  func `PEFT loads our adapters on our emulator and computes what we do`(name: String) async throws
  {
    let (checkpoint, full, emulator) = try emulated(name)
    for method in try methods() {
      let adapter = try adapter(method, full, checkpoint.digest())
      try await withTemporaryFolder { scratch in
        let base = scratch.appendingPathComponent("emulator")
        try emulator.write(
          to: base, source: checkpoint,
          facts: try emulator.facts(source: checkpoint, full: full))
        let written = try Checkpoint(folder: base).model()
        let folder = scratch.appendingPathComponent("adapter")
        try AdapterFolder.write(
          adapter,
          facts: AdapterFolder.Facts(
            method: adapter.method.name, sourceDigest: adapter.sourceDigest, modelDigest: nil,
            split: emulator.splitNumbers,
            blockMap: Dictionary(
              uniqueKeysWithValues: written.blocks.enumerated().map {
                (String($0), $1.numberInFullModel)
              })), configuration: written.configuration, baseModel: base.path, to: folder)
        let theirs = try await Peers.logits(
          "check_adapter.py", [base, folder], ids: Self.rows, in: scratch)
        let injected = try adapter.inject(into: written)
        defer { injected.remove() }
        expectClose(logits(written), theirs, within: 1e-4, "\(method.name)")
        // And for the full model, whose decoder's blocks have other numbers.
        let (again, _) = try AdapterFolder.read(folder, for: full)
        #expect(again.state == adapter.state)
      }
    }
  }

  /// A prefix in every block of the decoder, whose number is even: PEFT's table has one slot more.
  @Test(.needsPeers, arguments: ["t5", "t5-gated"])
  func `PEFT loads our prefix and computes what we do`(name: String) async throws {
    let checkpoint = try checkpoint(name)
    let model = try checkpoint.model()
    let adapter = try Adapter(
      new: .prefixTuning(try VirtualTokenConfiguration(virtualTokens: 4, start: .normal)),
      for: model, blocks: Array(model.blocks.indices), seed: 5, sourceDigest: checkpoint.digest())
    try await withTemporaryFolder { scratch in
      let folder = scratch.appendingPathComponent("adapter")
      try write(adapter, for: model, base: checkpoint.folder.path, to: folder)
      let theirs = try await Peers.logits(
        "check_adapter.py", [checkpoint.folder, folder], ids: Self.rows, in: scratch)
      let injected = try adapter.inject(into: model)
      defer { injected.remove() }
      expectClose(logits(model), theirs, within: 1e-4, "logits")
      #expect(try AdapterFolder.read(folder, for: model).0.state == adapter.state)
      #expect(try AdapterFolder.read(folder).0.state == adapter.state)
    }
  }

  private func write(
    _ adapter: Adapter, for model: TransformerModel, base: String, to folder: URL
  ) throws {
    try AdapterFolder.write(
      adapter,
      facts: AdapterFolder.Facts(
        method: adapter.method.name, sourceDigest: adapter.sourceDigest, modelDigest: nil,
        split: nil,
        blockMap: Dictionary(
          uniqueKeysWithValues: model.blocks.enumerated().map {
            (String($0), $1.numberInFullModel)
          })), configuration: model.configuration, baseModel: base, to: folder)
  }

  /// Tools/golden/virtual_tokens.py.
  @Test(arguments: ["t5-prefix", "t5-shared-prefix"])
  func `a prefix by PEFT computes what PEFT computes`(name: String) throws {
    let golden = try GoldenCase("expected", in: "virtual-tokens/\(name)")
    let model = try checkpoint("t5").model()
    let folder = ProjectFolders.golden.appendingPathComponent("virtual-tokens/\(name)")
    let (adapter, _) = try AdapterFolder.read(folder, for: model)
    let injected = try adapter.inject(into: model)
    defer { injected.remove() }
    let found = model.logits(try golden.rows()).rows(8..<16).copied()
    expectClose(found, try golden.matrix("logits"), within: 1e-4, "logits")
    // Where blocks share one in PEFT, each has its own here, and gradients are not the same.
    guard name == "t5-prefix" else {
      let states = [0, 2].map { adapter.state["decoder.block.\($0).attention_prefix.keys"] }
      #expect(states[0] != nil && states[0] == states[1])
      return
    }
    let data = try TokenDataset(
      golden.rows("batch").map {
        TokenSequence(source: Array($0[..<8]), start: 0, target: Array($0[8...]))
      }, .pairs(context: 16))
    let trainer = try Trainer(
      model, parameters: injected.parameters.map(\.parameter), data: data,
      configuration: TrainingConfiguration(
        steps: 1, batch: 2, context: 16, learningRate: 1e-2, optimizer: .init(weightDecay: 0),
        order: .sequential, threads: 2))
    let loss: Double = try golden.fact("batchLoss")
    let report = try trainer.advance()
    trainer.finish()
    #expect(abs(report.loss - loss) <= 1e-5 * loss)
    try withTemporaryFolder { scratch in
      var after = adapter
      after.state = injected.state
      let copy = scratch.appendingPathComponent("adapter")
      try write(after, for: model, base: "families/t5", to: copy)
      let table = try #require(try AdapterFolder.readFiles(copy).tensors["prompt_embeddings"])
      let distance = frobeniusDistance(table, try golden.tensor("final.prompt_embeddings"))
      #expect(distance <= 1e-4, "\(distance) away after a step")
    }
  }

  @Test(arguments: [
    ("\"num_layers\": 5", "\"num_layers\": 3", "num_layers"),
    ("\"num_layers\": 5", "\"num_layers\": \"5\"", "whole number"),
    ("\"num_layers\": 5", "\"num_layers\": 7", "num_layers"),
    (
      "\"num_transformer_submodules\": 2", "\"num_transformer_submodules\": 1",
      "num_transformer_submodules = 1"
    ),
  ])
  func `a prefix that is made in another way is refused`(from: String, to: String, word: String)
    throws
  {
    let model = try checkpoint("t5").model()
    let source = ProjectFolders.golden.appendingPathComponent("virtual-tokens/t5-prefix")
    try withTemporaryFolder { scratch in
      let folder = scratch.appendingPathComponent("adapter")
      try FileManager.default.copyItem(at: source, to: folder)
      let file = folder.appendingPathComponent("adapter_config.json")
      let text = try String(contentsOf: file, encoding: .utf8)
      #expect(text.contains(from))
      try Data(text.replacingOccurrences(of: from, with: to).utf8).write(to: file)
      expectError(.badData, word) { _ = try AdapterFolder.read(folder, for: model) }
    }
  }

  @Test(.needsPeers, arguments: ["t5", "t5-gated"])
  func `transformers loads our emulator and our merged model`(name: String) async throws {
    let (checkpoint, full, emulator) = try emulated(name)
    let adapter = try adapter(methods()[0], full, checkpoint.digest())
    try await withTemporaryFolder { scratch in
      let base = scratch.appendingPathComponent("emulator")
      try emulator.write(
        to: base, source: checkpoint,
        facts: try emulator.facts(source: checkpoint, full: full))
      expectClose(
        logits(emulator.model),
        try await Peers.logits("check_checkpoint.py", [base], ids: Self.rows, in: scratch),
        within: 1e-4, "emulator")
      let merged = try PlugIn.mergedTensors(adapter, into: full, digest: checkpoint.digest())
      let folder = scratch.appendingPathComponent("merged")
      try CheckpointWriter.write(
        to: folder, tensors: merged.tensors, configuration: checkpoint.configurationJSON)
      let plugged = try PlugIn(adapter, into: full, digest: checkpoint.digest())
      defer { plugged.remove() }
      expectClose(
        logits(full),
        try await Peers.logits("check_checkpoint.py", [folder], ids: Self.rows, in: scratch),
        within: 1e-4, "merged")
    }
  }
}
