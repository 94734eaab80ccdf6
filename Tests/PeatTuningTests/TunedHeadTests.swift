import Foundation
import PeatModels
import PeatTensor
import PeatTuning
import TestSupport
import Testing

@Suite("A tuned head of classes") struct TunedHeadTests {
  private static let labels = ["good", "bad", "other"]

  private func checkpoint(_ name: String) throws -> Checkpoint {
    try Checkpoint(folder: ProjectFolders.golden.appendingPathComponent("families/\(name)"))
  }

  private func classifying(_ name: String) throws -> Checkpoint {
    try checkpoint(name).classifying(Self.labels, seed: 3)
  }

  /// Without a head, with one of tokens that is tied or not, and with one of masked tokens.
  @Test(arguments: [
    "bert", "bert-masked", "roberta", "distilbert-masked", "qwen2", "gpt-neox", "vit", "clip",
    "clip-vision", "mixer",
  ])
  func `every kind of model can get one, which the seed draws`(name: String) throws {
    let model = try classifying(name).model()
    let head = try #require(model.head)
    #expect(head.layout.labels == Self.labels)
    #expect(head.table.shape == [3, model.configuration.hiddenSize])
    #expect(try classifying(name).model().tensors == model.tensors)
    let other = try checkpoint(name).classifying(Self.labels, seed: 4).model()
    #expect(other.head?.table.tensor != head.table.tensor)
    // The blocks are the checkpoint's.
    for parameter in try checkpoint(name).model().blocks.flatMap(\.parameters) {
      #expect(model.tensors[parameter.name] == parameter.tensor)
    }
  }

  @Test func `a model of classes keeps its own, and refuses others`() throws {
    let own = try checkpoint("bert-classes")
    let names = try #require(own.configuration.head?.labels)
    #expect(names == ["LABEL_0", "LABEL_1", "LABEL_2"])
    #expect(try own.classifying(names, seed: 9).model().tensors == own.model().tensors)
    let error = #expect(throws: PeatError.self) { try own.classifying(["a", "b"], seed: 0) }
    #expect(error?.code == .usage && error?.message.contains("LABEL_0") == true)
  }

  @Test(arguments: [
    "bert-classes", "roberta-classes", "llama-classes", "vit-classes", "mixer-classes",
  ])
  func `a new head takes its place where it is asked for, and the layers before it stay`(
    name: String
  ) throws {
    let own = try checkpoint(name)
    let old = try #require(own.configuration.head?.labels)
    let names = ["a", "b", "c", "d", "e"]
    #expect(old.count != names.count)
    let drawn = try own.classifying(names, seed: 3, head: .drawn)
    let model = try drawn.model()
    let head = try #require(model.head)
    #expect(head.layout.labels == names)
    #expect(head.table.shape[0] == 5)
    #expect(try own.classifying(names, seed: 3, head: .fitted).model().tensors == model.tensors)
    #expect(drawn.digest() == own.digest())
    let before = try own.model().tensors
    for (tensor, value) in model.tensors
    where tensor != head.layout.weight && tensor != head.layout.bias {
      #expect(before[tensor] == value, "\(tensor)")
    }
    // Of the same classes only where it is to be drawn in any case.
    #expect(try own.classifying(old, seed: 3, head: .fitted).model().tensors == before)
    let again = try own.classifying(old, seed: 3, head: .drawn).model()
    #expect(again.tensors[head.layout.weight] != before[head.layout.weight])
  }

  @Test func `classes that only have numbers get names, and their weights stay`() throws {
    let own = try checkpoint("bert-classes")
    let named = try own.classifying(Self.labels, seed: 3)
    #expect(named.configuration.head?.labels == Self.labels)
    #expect(try named.model().tensors == own.model().tensors)
  }

  @Test func `a model with an encoder and a decoder says that it has no head of classes`() throws {
    let error = #expect(throws: PeatError.self) { try classifying("t5") }
    #expect(error?.code == .usage && error?.message.contains("no head of classes") == true)
    #expect(error?.message.contains("T5ForSequenceClassification") == false)
  }

  @Test(arguments: [
    "lora", "dora", "ia3", "norm-tuning", "bitfit", "end-blocks", "bottleneck", "prefix-tuning",
    "prompt-tuning",
  ])
  func `it stands beside every method, comes back from a folder, and goes without a trace`(
    method: String
  ) throws {
    let checkpoint = try classifying("bert")
    let model = try checkpoint.model()
    let before = model.tensors.mapValues { $0.copied() }
    let adapter = try Adapter(
      new: MethodOptions().method(named: method), for: model, blocks: [0, 2], seed: 1,
      sourceDigest: nil)
    var random = SeededRandom(seed: 5)
    var changed = adapter
    for (name, tensor) in adapter.state.sorted(by: { $0.key < $1.key }) {
      changed.state[name] = randomTensor(tensor.shape, &random, scale: 0.3)
    }
    #expect(adapter.state["classifier.weight"]?.shape == [3, 16])
    #expect(adapter.state["bert.pooler.dense.bias"]?.shape == [16])
    let injected = try changed.inject(into: model)
    #expect(model.head?.table.tensor == changed.state["classifier.weight"])
    let tuned = model.logits([5, 9, 11, 4], length: 4)
    injected.remove()
    #expect(model.tensors == before)
    try withTemporaryFolder { scratch in
      let folder = scratch.appendingPathComponent("adapter")
      try AdapterFolder.write(
        changed,
        facts: .init(
          method: method, sourceDigest: nil, modelDigest: nil, split: nil,
          blockMap: ["0": 0, "2": 2]), configuration: model.configuration, baseModel: "base",
        to: folder)
      #expect(try AdapterFolder.classes(of: folder) == Self.labels)
      let (again, _) = try AdapterFolder.read(folder, for: model)
      #expect(again.state.keys.sorted() == changed.state.keys.sorted())
      _ = try again.inject(into: model)
      expectClose(model.logits([5, 9, 11, 4], length: 4), tuned, within: 1e-6, method)
      // Another model has no such head.
      let plain = try self.checkpoint("bert-masked").model()
      #expect(throws: PeatError.self) {
        try AdapterFolder.read(folder, for: plain).0.inject(into: plain)
      }
    }
  }

  @Test func `a head of other classes is refused, and nothing is left in the model`() throws {
    let model = try classifying("bert").model()
    var adapter = try Adapter(
      new: .lora(LoRAConfiguration(rank: 2, alpha: 4)), for: model, blocks: [0], seed: 0,
      sourceDigest: nil)
    let before = model.tensors.mapValues { $0.copied() }
    adapter.state["classifier.weight"] = Tensor(zeros: [4, 16])
    let error = #expect(throws: PeatError.self) { try adapter.inject(into: model) }
    #expect(error?.message.contains("classifier.weight") == true)
    adapter.state["classifier.weight"] = Tensor(zeros: [3, 16])
    adapter.state["base_model.model.bert.encoder.layer.9.output.dense.lora_A.weight"] =
      Tensor(zeros: [2, 24])
    #expect(throws: PeatError.self) { try adapter.inject(into: model) }
    #expect(model.tensors == before)
    #expect(model.head?.parameters.contains { $0.isReplaced } == false)
  }
}
