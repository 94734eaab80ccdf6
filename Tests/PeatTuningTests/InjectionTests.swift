import Foundation
import PeatModels
import PeatNN
import PeatTensor
import PeatTuning
import TestSupport
import Testing

@Suite("Adapters in models") struct InjectionTests {
  static let methods = ["lora", "end-blocks"]

  private func adapter(
    _ method: String, for model: TransformerModel, blocks: [Int], sourceDigest: Digest? = nil
  ) throws -> Adapter {
    if method == LoRA.name {
      return try .active(for: model, blocks: blocks, sourceDigest: sourceDigest)
    }
    var adapter = try Adapter(
      new: .endBlocks, for: model, blocks: blocks, seed: 0, sourceDigest: sourceDigest)
    adapter.state = adapter.state.mapValues { $0.map { $0 * 1.1 } }
    return adapter
  }

  @Test(arguments: methods, ["llama-tiny", "gpt2-tiny"])
  func `in and out again leaves the model bit for bit`(method: String, name: String) throws {
    let source = try checkpoint(name)
    let model = try source.model()
    let weights = model.tensors.copied()
    let before = model.someLogits
    let adapter = try adapter(method, for: model, blocks: [0, model.blocks.count - 1])
    for _ in 0..<2 {
      let plugged = try PlugIn(adapter, into: model, digest: source.digest())
      #expect(Difference(model.someLogits, before).relative > 0.01)
      plugged.remove()
      #expect(model.someLogits == before)
    }
    // Also when it was tuned in between.
    let injected = try adapter.inject(into: model)
    let trainable = TrainableParameters(injected.parameters.map(\.parameter))
    trainable.values.withUnsafeMutableBufferPointer { for i in $0.indices { $0[i] += 0.5 } }
    trainable.release()
    #expect(injected.state != adapter.state)
    injected.remove()
    #expect(model.someLogits == before)
    #expect(model.tensors == weights)
    // What the model's files hold has not moved either.
    #expect(try source.tensors() == weights)
  }

  @Test(arguments: methods) func `a second adapter in the same place is refused`(method: String)
    throws
  {
    let model = try checkpoint().model()
    let adapter = try adapter(method, for: model, blocks: [0, 4])
    let injected = try adapter.inject(into: model)
    let with = model.someLogits
    let other = try self.adapter(method, for: try checkpoint().model(), blocks: [4])
    expectError(.badData, "already carries an adapter") { _ = try other.inject(into: model) }
    #expect(model.someLogits == with)
    injected.remove()
    let again = try other.inject(into: model)
    again.remove()
  }

  @Test(arguments: methods) func `the state can be read and set`(method: String) throws {
    let model = try checkpoint().model()
    let adapter = try adapter(method, for: model, blocks: [0, 4])
    let injected = try adapter.inject(into: model)
    #expect(injected.state == adapter.state)
    #expect(injected.parameterCount == adapter.parameterCount)
    let with = model.someLogits
    let kept = injected.state
    injected.state = kept.mapValues { $0.map { $0 * 0.5 } }
    #expect(model.someLogits != with)
    // What was read before is a copy.
    #expect(kept == adapter.state)
    injected.state = kept
    #expect(model.someLogits == with)
  }

  @Test func `names and shapes that do not fit are refused, and the model is unchanged`() throws {
    let model = try checkpoint().model()
    let before = model.someLogits
    let lora = try Adapter.active(for: model, blocks: [0, 4])
    let layer = "base_model.model.model.layers.4.mlp.up_proj"
    let a = "\(layer).lora_A.weight"
    let b = "\(layer).lora_B.weight"
    func refuse(
      _ words: String..., sourceLocation: SourceLocation = #_sourceLocation,
      _ change: (inout NamedTensors) -> Void
    ) {
      var changed = lora
      change(&changed.state)
      let error = #expect(throws: PeatError.self, sourceLocation: sourceLocation) {
        try changed.inject(into: model)
      }
      #expect(error?.code == .badData, sourceLocation: sourceLocation)
      for word in words {
        #expect(
          error?.message.contains(word) == true, "\(error?.message ?? "")",
          sourceLocation: sourceLocation)
      }
      #expect(model.someLogits == before, sourceLocation: sourceLocation)
    }
    func renamed(_ state: inout NamedTensors, _ old: String, _ new: String) {
      for key in Array(state.keys) where key.contains(old) {
        state[key.replacingOccurrences(of: old, with: new)] = state.removeValue(forKey: key)
      }
    }
    refuse("lora_B.weight") { $0[b] = nil }
    refuse("lora_B.weight", "not part of") { $0[a] = nil }
    refuse("[4, 33]") { $0[a] = Tensor(zeros: [4, 33]) }
    refuse("[40, 5]") { $0[b] = Tensor(zeros: [40, 5]) }
    refuse("[41, 4]") { $0[b] = Tensor(zeros: [41, 4]) }
    refuse("[128]") { $0[a] = Tensor(zeros: [128]) }
    refuse("[0, 32]") {
      $0[a] = Tensor(zeros: [0, 32])
      $0[b] = Tensor(zeros: [40, 0])
    }
    refuse("layers.9.") { renamed(&$0, "layers.4.", "layers.9.") }
    refuse("layers.-4.") { renamed(&$0, "layers.4.", "layers.-4.") }
    refuse("layers.04.") { renamed(&$0, "layers.4.", "layers.04.") }
    refuse("side_proj") { renamed(&$0, "up_proj", "side_proj") }
    refuse("transformer.h.4.") { renamed(&$0, "model.layers.4.", "transformer.h.4.") }
    refuse("lora_magnitude_vector") { $0["\(layer).lora_magnitude_vector"] = [1] }
    refuse("anything") { $0["anything"] = [1] }
    refuse("empty") { $0 = [:] }

    let ends = try adapter("end-blocks", for: model, blocks: [0, 4])
    for change: (inout NamedTensors) -> Void in [
      { $0["model.layers.4.mlp.up_proj.weight"] = Tensor(zeros: [40, 33]) },
      { $0["model.layers.7.mlp.up_proj.weight"] = Tensor(zeros: [40, 32]) },
      { $0["model.layers.4.mlp.side.weight"] = Tensor(zeros: [40, 32]) },
      { $0["model.norm.weight"] = Tensor(zeros: [32]) },
      { $0["model.embed_tokens.weight"] = Tensor(zeros: [97, 32]) },
      { $0 = [:] },
    ] {
      var changed = ends
      change(&changed.state)
      expectError { _ = try changed.inject(into: model) }
      #expect(model.someLogits == before)
    }
    // All of them fit as they are.
    try lora.inject(into: model).remove()
    try ends.inject(into: model).remove()
  }

  @Test(arguments: methods)
  func `an adapter tuned on an emulator is named in the full model's numbers`(method: String) throws
  {
    let source = try checkpoint()
    let full = try source.model()
    let kept = [0, 1, 3, 4]
    let emulator = try full.selecting(blocks: kept)
    let adapter = try adapter(
      method, for: emulator, blocks: [0, 4], sourceDigest: source.digest())
    let numbers = Set(
      adapter.state.keys.compactMap { key in
        key.split(separator: ".").compactMap { Int($0) }.first
      })
    #expect(numbers == [0, 4])
    // The emulator's last block is the full model's block 4.
    let injected = try adapter.inject(into: emulator)
    #expect(
      injected.parameters.allSatisfy { $0.name.contains(".0.") || $0.name.contains(".4.") })
    #expect(injected.parameters.contains { $0.parameter.name.contains("layers.3.") })
    let tuned = emulator.someLogits
    injected.remove()

    try withTemporaryFolder { scratch in
      let folder = scratch.appendingPathComponent("adapter")
      let facts = AdapterFolder.Facts(
        method: method, sourceDigest: source.digest(), modelDigest: emulator.tensors.digest,
        split: .init(bottom: 1, emulator: 2, top: 1),
        blockMap: ["0": 0, "1": 1, "2": 3, "3": 4])
      try AdapterFolder.write(
        adapter, facts: facts, configuration: emulator.configuration, baseModel: "emulator",
        to: folder)
      // The file counts as the emulator does.
      let stored = try AdapterFolder.readFiles(folder).tensors.keys
      #expect(stored.allSatisfy { $0.contains("layers.0.") || $0.contains("layers.3.") })
      #expect(stored.contains { $0.contains("layers.3.") })
      let config = folder.appendingPathComponent("adapter_config.json")
      if method == LoRA.name {
        let json = try JSONFile.read(JSONValue.self, from: config)
        #expect(json["layers_to_transform"] == .array([.integer(0), .integer(3)]))
        #expect(json["peft_type"] == .string("LORA"))
      } else {
        #expect(!FileManager.default.fileExists(atPath: config.path))
        #expect(stored.contains("model.layers.3.mlp.up_proj.weight"))
      }
      // Read for either model, it has the full model's numbers and acts the same.
      for model in [full, emulator] {
        let (again, readFacts) = try AdapterFolder.read(folder, for: model)
        #expect(again.state == adapter.state)
        #expect(again.sourceDigest == source.digest())
        #expect(readFacts == facts)
      }
      let (again, _) = try AdapterFolder.read(folder, for: emulator)
      let inside = try again.inject(into: emulator)
      #expect(emulator.someLogits == tuned)
      inside.remove()
      let plugged = try PlugIn(
        AdapterFolder.read(folder, for: full).0, into: full, digest: source.digest())
      let withAdapter = full.someLogits
      plugged.remove()
      #expect(Difference(withAdapter, full.someLogits).relative > 0.01)
      // The same tensors, cut down to the emulator's blocks, give the emulator's logits.
      let merged = try PlugIn.mergedTensors(again, into: full, digest: source.digest())
      let small = try TransformerModel(
        configuration: full.configuration, tensors: merged.tensors, source: "merged"
      ).selecting(blocks: kept)
      expectClose(small.someLogits, tuned, within: 1e-5, "emulator of the merged model")
    }
  }

  @Test(arguments: methods, ["llama-tiny", "gpt2-tiny", "llama-tiny-untied"])
  func `merged weights give the logits of the injected adapter`(method: String, name: String) throws
  {
    let source = try checkpoint(name)
    let model = try source.model()
    let adapter = try adapter(method, for: model, blocks: [0, 2])
    let before = model.someLogits
    let merged = try PlugIn.mergedTensors(adapter, into: model, digest: source.digest())
    #expect(model.someLogits == before)
    let plugged = try PlugIn(adapter, into: model, digest: source.digest())
    let plain = try TransformerModel(
      configuration: model.configuration, tensors: merged.tensors, source: "merged")
    expectClose(plain.someLogits, model.someLogits, within: 1e-5, "merged")
    plugged.remove()
    let changed = merged.tensors.filter { model.tensors[$0.key] != $0.value }.map(\.key).sorted()
    #expect(merged.replaced == changed)
    #expect(
      merged.replaced.count
        == (method == LoRA.name ? adapter.state.count / 2 : adapter.state.count))
  }

  @Test func `an adapter of another model is refused by its digest`() throws {
    let source = try checkpoint()
    let model = try source.model()
    var adapter = try Adapter.active(
      for: model, blocks: [0], sourceDigest: try checkpoint("gpt2-tiny").digest())
    let before = model.someLogits
    expectError(.badData, "digest", source.digest().short) {
      _ = try PlugIn(adapter, into: model, digest: source.digest())
    }
    expectError(.badData, "digest") {
      _ = try PlugIn.mergedTensors(adapter, into: model, digest: source.digest())
    }
    #expect(model.someLogits == before)
    adapter.sourceDigest = source.digest()
    try PlugIn(adapter, into: model, digest: source.digest()).remove()
    adapter.sourceDigest = nil
    try PlugIn(adapter, into: model, digest: source.digest()).remove()
  }
}
