import PeatModels
import PeatTensor
import PeatTuning
import TestSupport
import Testing

@Suite("Remainders of LoRA") struct RemainderTests {
  /// An adapter of which some layers have a remainder.
  private func adapter(
    for model: TransformerModel, rank: Int = 4, stabilized: Bool = false, magnitudes: Bool = false
  ) throws -> Adapter {
    var adapter = try MethodTests.active(
      .lora(
        try LoRAConfiguration(
          rank: rank, alpha: 8, usesRankStabilizedScale: stabilized, usesMagnitudes: magnitudes)),
      for: model, blocks: [0, 2])
    var random = SeededRandom(seed: 8, "remainder")
    for layer in adapter.state.lowRankLayers where layer.hasSuffix("0") || layer.contains("mlp") {
      guard let down = adapter.state[layer + LowRankNames.down],
        let up = adapter.state[layer + LowRankNames.up]
      else { continue }
      adapter.state[layer + LowRankNames.remainderDown] = randomTensor(
        [3, down.shape[1]], &random, scale: 0.2)
      adapter.state[layer + LowRankNames.remainderUp] = randomTensor(
        [up.shape[0], 3], &random, scale: 0.2)
    }
    #expect(!adapter.state.remainders.isEmpty)
    return adapter
  }

  @Test(arguments: ["llama-tiny", "gpt2-tiny"], [(false, false), (true, false), (false, true)])
  func `one pair of a higher rank computes what pair and remainder do`(
    name: String, _ kind: (stabilized: Bool, magnitudes: Bool)
  ) throws {
    let model = try checkpoint(name).model()
    let before = model.someLogits
    let two = try adapter(
      for: model, stabilized: kind.stabilized, magnitudes: kind.magnitudes)
    let injected = try two.inject(into: model)
    let expected = model.someLogits
    #expect(injected.parameters.count == two.state.withoutRemainders.count)
    injected.remove()
    #expect(model.someLogits == before)

    var pairs = two
    pairs.state = two.state.withoutRemainders
    let without = try pairs.inject(into: model)
    #expect(Difference(model.someLogits, expected).relative > 1e-3)
    without.remove()

    let one = try two.mergingRemainders()
    #expect(one.state.remainders.isEmpty)
    let merged = try one.inject(into: model)
    expectClose(model.someLogits, expected, within: 1e-5, "one pair")
    merged.remove()
    #expect(model.someLogits == before)
  }

  @Test func `a folder holds one pair, which reads back as the same adapter`() throws {
    try withTemporaryFolder { folder in
      let checkpoint = try checkpoint()
      let model = try checkpoint.model()
      let two = try adapter(for: model)
      let injected = try two.inject(into: model)
      let expected = model.someLogits
      injected.remove()
      let target = folder.appendingPathComponent("adapter")
      try AdapterFolder.write(
        two,
        facts: .init(
          method: LoRA.name, sourceDigest: nil, modelDigest: nil, split: nil,
          blockMap: ["0": 0, "2": 2]),
        configuration: model.configuration, baseModel: "", to: target)
      let (read, _) = try AdapterFolder.read(target, for: model)
      #expect(read.state.remainders.isEmpty)
      _ = try read.inject(into: model)
      expectClose(model.someLogits, expected, within: 1e-5, "read back")
    }
  }

  @Test(arguments: [false, true])
  func `where only the first components train, the others act all the same`(
    magnitudes: Bool
  ) throws {
    let model = try checkpoint().model()
    let before = model.someLogits
    let whole = try adapter(for: model, magnitudes: magnitudes)
    let all = try whole.inject(into: model)
    let expected = model.someLogits
    all.remove()
    let part = try whole.inject(into: model, trainedRank: 1)
    expectClose(model.someLogits, expected, within: 1e-5, "one component trains")
    #expect(
      part.parameters.allSatisfy { name, parameter in
        parameter.shape.contains(1) || name.contains("magnitude")
      })
    // What comes back has the whole adapter's shapes, and its other components.
    let state = part.state.widened(from: whole.state)
    #expect(state == whole.state.withoutRemainders)
    part.remove()
    #expect(model.someLogits == before)
    expectError(.badData, "has no rank") {
      let ends = try Adapter(
        new: .endBlocks, for: model, blocks: [0], seed: 0, sourceDigest: nil)
      _ = try ends.inject(into: model, trainedRank: 1)
    }
  }

  @Test(arguments: [false, true]) func `a merged model holds both`(magnitudes: Bool) throws {
    let model = try checkpoint().model()
    let two = try adapter(for: model, magnitudes: magnitudes)
    let injected = try two.inject(into: model)
    let expected = model.someLogits
    injected.remove()
    let digest = model.tensors.digest
    let merged = try PlugIn.mergedTensors(two, into: model, digest: digest)
    #expect(model.tensors.digest == digest)
    for parameter in model.blocks.flatMap(\.parameters) {
      if let tensor = merged.tensors[parameter.name] { parameter.assign(tensor) }
    }
    expectClose(model.someLogits, expected, within: 1e-5, "merged")
  }

  @Test func `a remainder that does not fit is refused, and the model stays as it was`() throws {
    let model = try checkpoint().model()
    let before = model.someLogits
    let good = try adapter(for: model)
    let layer = try #require(
      good.state.remainders.keys.compactMap(LowRankNames.layer(ofRemainder:)).sorted().last)
    for (name, tensor) in [
      (LowRankNames.remainderUp, nil), (LowRankNames.remainderDown, Tensor(zeros: [3, 2])),
      (LowRankNames.remainderDown, Tensor(zeros: [0, 2])),
    ] as [(String, Tensor?)] {
      var bad = good
      bad.state[layer + name] = tensor
      expectError(.badData, "remainder") { _ = try bad.inject(into: model) }
    }
    var stranger = good
    stranger.state["base_model.model.x" + LowRankNames.remainderDown] = Tensor(zeros: [1, 1])
    expectError(.badData, "not part of a LoRA adapter") { _ = try stranger.inject(into: model) }
    #expect(model.someLogits == before)
  }
}
