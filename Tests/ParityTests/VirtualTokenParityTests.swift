import Foundation
import PeatData
import PeatEmulation
import PeatModels
import PeatNN
import PeatTensor
import PeatTuning
import TestSupport
import Testing

/// Prefixes and prompts against PEFT, bottleneck adapters against PyTorch (Tools/golden/virtual_tokens.py).
@Suite("Virtual tokens and bottlenecks agree with Python") struct VirtualTokenParityTests {
  static let peft = [
    "llama-tiny-prefix", "gpt2-tiny-prefix", "llama-tiny-prompt", "gpt2-tiny-prompt",
  ]
  static let names = peft + ["llama-tiny-bottleneck", "gpt2-tiny-bottleneck"]

  private static func base(_ name: String) -> String {
    name.split(separator: "-").prefix(2).joined(separator: "-")
  }

  private func folder(_ name: String) -> URL {
    ProjectFolders.golden.appendingPathComponent("virtual-tokens/\(name)")
  }

  private func golden(_ name: String) throws -> GoldenCase {
    try GoldenCase("expected", in: "virtual-tokens/\(name)")
  }

  private func adapter(_ name: String, for model: TransformerModel) throws -> Adapter {
    guard name.hasSuffix("bottleneck") else {
      return try AdapterFolder.read(folder(name), for: model).0
    }
    let start = try GoldenCase("start", in: "virtual-tokens/\(name)")
    let activation = try #require(
      BottleneckAdapter.Activation(rawValue: try start.fact("activation")))
    return Adapter(
      method: .bottleneck(
        try BottleneckConfiguration(size: try start.fact("size"), activation: activation)),
      state: start.tensors, sourceDigest: nil)
  }

  /// Numbers of blocks as they are.
  private func facts(_ adapter: Adapter, for model: TransformerModel) -> AdapterFolder.Facts {
    AdapterFolder.Facts(
      method: adapter.method.name, sourceDigest: nil, modelDigest: nil, split: nil,
      blockMap: Dictionary(
        uniqueKeysWithValues: model.blocks.enumerated().map { (String($0), $1.numberInFullModel) }))
  }

  private func write(_ adapter: Adapter, for model: TransformerModel, to folder: URL) throws {
    try AdapterFolder.write(
      adapter, facts: facts(adapter, for: model), configuration: model.configuration,
      baseModel: "base", to: folder)
  }

  /// The tensors as their file holds them: PEFT's table of a prefix, for one.
  private func stored(
    _ state: NamedTensors, like adapter: Adapter, for model: TransformerModel
  ) throws -> NamedTensors {
    try withTemporaryFolder { scratch in
      let folder = scratch.appendingPathComponent("adapter")
      var other = adapter
      other.state = state
      try write(other, for: model, to: folder)
      return try AdapterFolder.readFiles(folder).tensors.mapValues { $0.copied() }
    }
  }

  @Test(arguments: names) func `logits with the adapter`(name: String) throws {
    let golden = try golden(name)
    let model = try GoldenModels.model(Self.base(name))
    let rows = try golden.rows()
    let expected = try golden.matrix("logits")
    let without = model.logits(rows)
    #expect(Difference(without, expected).relative > 0.01)
    let adapter = try adapter(name, for: model)
    let injected = try adapter.inject(into: model)
    expectClose(model.logits(rows), expected, within: 1e-4, "logits")
    let loss: Double = try golden.fact("loss")
    #expect(abs(model.meanLoss(rows) - loss) <= 1e-5 * loss)
    injected.remove()
    #expect(model.logits(rows) == without)
  }

  @Test(arguments: names, [(1, false), (2, false), (3, true)])
  func `gradients, and parameters after one step`(name: String, way: (threads: Int, Bool)) throws {
    let golden = try golden(name)
    let model = try GoldenModels.model(Self.base(name))
    let adapter = try adapter(name, for: model)
    let injected = try adapter.inject(into: model)
    defer { injected.remove() }
    let batch = try golden.rows("batch")
    let data = try TokenDataset(
      batch.map { TokenSequence($0) }, .documents(context: batch[0].count - 1))
    func trainer() throws -> Trainer {
      try Trainer(
        model, parameters: injected.parameters.map(\.parameter), data: data,
        configuration: TrainingConfiguration(
          steps: 1, batch: 2, context: batch[0].count - 1, learningRate: 1e-2,
          optimizer: .init(weightDecay: 0), checkpointing: way.1, order: .sequential,
          threads: way.threads))
    }
    let first = try trainer()
    let vector = first.gradient()
    first.finish()
    var gradient: NamedTensors = [:]
    var offset = 0
    for (key, parameter) in injected.parameters {
      gradient[key] = Tensor(
        Array(vector[offset..<offset + parameter.count]), shape: parameter.shape)
      offset += parameter.count
    }
    let second = try trainer()
    let report = try second.advance()
    second.finish()
    let loss: Double = try golden.fact("batchLoss")
    #expect(abs(report.loss - loss) <= 1e-5 * loss)
    #expect(report.tokens == 36)
    for (key, found) in try stored(gradient, like: adapter, for: model) {
      let distance = frobeniusDistance(found, try golden.tensor("gradient.\(key)"))
      #expect(distance <= 1e-4, "gradient of \(key) is \(distance) away")
    }
    let final = try stored(injected.state, like: adapter, for: model)
    for (key, found) in final {
      let distance = frobeniusDistance(found, try golden.tensor("final.\(key)"))
      #expect(distance <= 1e-4, "\(key) is \(distance) away after a step")
    }
    #expect(final.count == golden.tensors.keys.filter { $0.hasPrefix("final.") }.count)
  }

  @Test(arguments: peft) func `a folder by PEFT, written by us, holds the same`(name: String) throws
  {
    let model = try GoldenModels.model(Self.base(name))
    let adapter = try adapter(name, for: model)
    try withTemporaryFolder { scratch in
      let copy = scratch.appendingPathComponent("adapter")
      try write(adapter, for: model, to: copy)
      let (theirs, ours) = try (
        AdapterFolder.readFiles(folder(name)), AdapterFolder.readFiles(copy)
      )
      #expect(ours.tensors == theirs.tensors && ours.method == theirs.method)
      #expect(ours.facts?.notInPEFT == nil)
      func json(_ folder: URL) throws -> JSONValue {
        try JSONFile.read(
          JSONValue.self, from: folder.appendingPathComponent("adapter_config.json"))
      }
      for key in [
        "peft_type", "task_type", "num_virtual_tokens", "token_dim", "num_layers",
        "num_attention_heads", "num_transformer_submodules", "prefix_projection",
        "encoder_hidden_size",
      ] {
        #expect(try json(copy)[key] == json(folder(name))[key], "\(key)")
      }
      let (again, _) = try AdapterFolder.read(copy, for: model)
      #expect(again.state == adapter.state)
      // Without its model too.
      #expect(try AdapterFolder.read(copy).0.state == adapter.state)
    }
  }

  @Test(
    .needsPeers, arguments: ["llama-tiny", "gpt2-tiny"], [PrefixTuning.name, PromptTuning.name])
  func `PEFT loads what we made and computes what we do`(name: String, method: String) async throws
  {
    let model = try GoldenModels.model(name)
    var options = MethodOptions()
    options.virtualTokens = 7
    let adapter = try Adapter(
      new: options.method(named: method), for: model, blocks: Array(model.blocks.indices), seed: 4,
      sourceDigest: nil)
    try await withTemporaryFolder { scratch in
      let folder = scratch.appendingPathComponent("adapter")
      try write(adapter, for: model, to: folder)
      let rows = try GoldenCase("expected", in: "checkpoints/\(name)").rows()
      let theirs = try await Peers.logits(
        "check_adapter.py", [GoldenModels.folder(name), folder], ids: rows, in: scratch)
      let injected = try adapter.inject(into: model)
      defer { injected.remove() }
      expectClose(model.logits(rows), theirs, within: 1e-4, "logits")
    }
  }

  @Test(.needsPeers) func `PEFT loads a prompt tuned on our emulator`() async throws {
    let checkpoint = try GoldenModels.checkpoint("llama-tiny")
    let full = try checkpoint.model()
    let emulator = try EmulatorRecipe("layer-drop=2").makeEmulator(
      from: full, split: ModelSplit(bottom: 1, top: 1, of: full.blocks.count))
    let adapter = try Adapter(
      new: .promptTuning(try VirtualTokenConfiguration(virtualTokens: 3)), for: emulator.model,
      blocks: [0, 4], seed: 4, sourceDigest: checkpoint.digest())
    try await withTemporaryFolder { scratch in
      let base = scratch.appendingPathComponent("emulator")
      try emulator.write(
        to: base, source: checkpoint,
        facts: try emulator.facts(source: checkpoint, full: full))
      let folder = scratch.appendingPathComponent("adapter")
      try write(adapter, for: emulator.model, to: folder)
      let rows = try GoldenCase("expected", in: "checkpoints/llama-tiny").rows()
      let theirs = try await Peers.logits(
        "check_adapter.py", [base, folder], ids: rows, in: scratch)
      let injected = try adapter.inject(into: emulator.model)
      defer { injected.remove() }
      expectClose(emulator.model.logits(rows), theirs, within: 1e-4, "logits")
    }
  }
}
