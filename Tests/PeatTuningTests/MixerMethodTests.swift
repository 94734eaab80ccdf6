import Foundation
import PeatData
import PeatModels
import PeatTensor
import PeatTuning
import TestSupport
import Testing

/// An MLP-Mixer is tuned by every method that has something in it to tune.
@Suite("Methods in a mixer") struct MixerMethodTests {
  static let methods = [
    "lora", "dora", "ia3", "norm-tuning", "bitfit", "end-blocks", "bottleneck",
  ]

  private func model() throws -> TransformerModel {
    try Checkpoint(
      folder: ProjectFolders.golden.appendingPathComponent("families/mixer-classes")
    ).model()
  }

  /// Random pictures of the model's three classes.
  private func pictures(_ model: TransformerModel, count: Int = 12) throws -> TokenDataset {
    let image = try #require(model.configuration.image)
    var random = SeededRandom(seed: 3)
    return try TokenDataset(
      pictures: (0..<count).map { number in
        (randomTensor([image.channels, image.height, image.width], &random), Int32(number % 3))
      }, cut: image)
  }

  private func logits(_ model: TransformerModel) throws -> Tensor {
    let data = try pictures(model)
    let patches = try #require(data.patches)
    return model.logits((0..<32).map { Int32($0) }, length: 16, patches: patches)
  }

  @Test(arguments: methods) func `each acts, trains, merges and goes again`(name: String) throws {
    let model = try model()
    let before = try logits(model)
    var options = MethodOptions()
    options.bottleneckSize = 5
    let method = try options.method(named: name)
    var adapter = try Adapter(new: method, for: model, blocks: [0, 2], seed: 1, sourceDigest: nil)
    let fresh = try adapter.inject(into: model)
    expectClose(try logits(model), before, within: 1e-5, name)
    // A few steps on pictures make it another one, and better at them.
    let trainer = try Trainer(
      model, parameters: fresh.parameters.map(\.parameter), data: pictures(model),
      configuration: TrainingConfiguration(
        steps: 30, batch: 12, context: 16, learningRate: 1e-2, seed: 1, threads: 2))
    let first = try trainer.advance().loss
    while !trainer.isFinished { _ = try trainer.advance() }
    let last = try #require(try trainer.run().finalLoss as Double?)
    trainer.finish()
    #expect(last < first, "\(name): \(first) to \(last)")
    adapter.state = fresh.state
    let tuned = try logits(model)
    #expect(tuned != before)
    fresh.remove()
    #expect(try logits(model) == before)
    guard method.isMergeable else { return }
    let digest = Digest(of: Data())
    let merged = try PlugIn.mergedTensors(adapter, into: model, digest: digest).tensors
    let plain = try TransformerModel(
      configuration: model.configuration, tensors: merged, source: "merged")
    expectClose(try logits(plain), tuned, within: 1e-4, name)
  }

  @Test func `IA3 scales what goes into the last layer of both feed-forward layers`() throws {
    let adapter = try Adapter(
      new: MethodOptions().method(named: "ia3"), for: model(), blocks: [1], seed: 1,
      sourceDigest: nil)
    let shapes = adapter.state.filter { $0.key.hasSuffix(".ia3_l") }.mapValues(\.shape)
    #expect(
      shapes == [
        "base_model.model.blocks.1.mlp_tokens.fc2.ia3_l": [1, 9],
        "base_model.model.blocks.1.mlp_channels.fc2.ia3_l": [1, 18],
      ])
  }

  @Test(arguments: ["prefix-tuning", "prompt-tuning"])
  func `virtual tokens have no room`(name: String) throws {
    let model = try model()
    expectError(.usage, "mlp-mixer", "no room for virtual tokens") {
      _ = try Adapter(
        new: MethodOptions().method(named: name), for: model, blocks: [0], seed: 1,
        sourceDigest: nil)
    }
  }

  /// Rows that mix tokens are numbered by channels, not by tokens.
  @Test func `dropout drops the same on any number of threads, and when blocks are computed again`()
    throws
  {
    func loss(threads: Int, checkpointing: Bool) throws -> (Double, [Float]) {
      let model = try model()
      var options = MethodOptions()
      options.dropout = 0.4
      var adapter = try Adapter(
        new: options.method(named: "lora"), for: model, blocks: [0, 1, 2], seed: 1,
        sourceDigest: nil)
      var random = SeededRandom(seed: 8)
      for (name, tensor) in adapter.state.sorted(by: { $0.key < $1.key })
      where name.contains("lora_B") {
        adapter.state[name] = randomTensor(tensor.shape, &random, scale: 0.3)
      }
      let injected = try adapter.inject(into: model)
      let trainer = try Trainer(
        model, parameters: injected.parameters.map(\.parameter), data: pictures(model),
        configuration: TrainingConfiguration(
          steps: 1, batch: 12, context: 16, learningRate: 1e-9, checkpointing: checkpointing,
          seed: 1, threads: threads))
      defer { trainer.finish() }
      let gradient = trainer.gradient()
      return (try trainer.advance().loss, gradient)
    }
    let one = try loss(threads: 1, checkpointing: false)
    for (threads, checkpointing) in [(2, false), (3, true), (1, true)] {
      let other = try loss(threads: threads, checkpointing: checkpointing)
      #expect(abs(one.0 - other.0) < 1e-5, "\(threads) threads")
      let difference = zip(one.1, other.1).map { abs($0 - $1) }.max() ?? 1
      #expect(difference < 1e-4, "\(threads) threads")
    }
  }
}
