import Foundation
import PeatModels
import PeatTensor
import PeatTuning
import TestSupport
import Testing

/// Classifiers tuned by PEFT, its task SEQ_CLS (Tools/golden/classes.py), and ours read by PEFT.
@Suite("Tuned classifiers agree with PEFT") struct ClassesParityTests {
  static let texts = ["bert-classes", "llama-classes"].flatMap { base in
    ["lora", "lora-all", "ia3", "norms", "prefix", "prompt"].map { "\(base)-\($0)" }
  }
  /// PEFT names other modules than the checkpoints do.
  static let pictures = ["vit-classes", "deit-classes"].flatMap { base in
    ["lora", "ia3", "norms"].map { "\(base)-\($0)" }
  }
  static let names = texts + pictures

  private static func base(_ name: String) -> String {
    name.split(separator: "-").prefix(2).joined(separator: "-")
  }

  private func folder(_ name: String) -> URL {
    ProjectFolders.golden.appendingPathComponent("classes/\(name)")
  }

  private func family(_ name: String) -> URL {
    ProjectFolders.golden.appendingPathComponent("families/\(name)")
  }

  private func write(_ adapter: Adapter, for model: TransformerModel, to folder: URL) throws {
    try AdapterFolder.write(
      adapter,
      facts: .init(
        method: adapter.method.name, sourceDigest: nil, modelDigest: nil, split: nil,
        blockMap: Dictionary(uniqueKeysWithValues: model.blocks.indices.map { (String($0), $0) })),
      configuration: model.configuration, baseModel: "base", to: folder)
  }

  /// One row of a class's logits for each text or picture.
  private func classLogits(
    _ model: TransformerModel, _ rows: [[Int32]], patches: Tensor? = nil
  ) throws -> Tensor {
    let all =
      patches.map {
        model.logits(rows.flatMap { $0 }, length: rows[0].count, patches: PatchTable($0))
      } ?? model.logits(rows)
    let place = try #require(model.head?.layout.place)
    let width = all.shape[1]
    let chosen = rows.indices.flatMap { number -> [Float] in
      let row = number * rows[0].count + (place == .last ? rows[0].count - 1 : 0)
      return all.rows(row..<row + 1).scalars
    }
    return Tensor(chosen, shape: [rows.count, width])
  }

  @Test(arguments: names) func `logits with the adapter and its head`(name: String) throws {
    let golden = try GoldenCase("expected", in: "classes/\(name)")
    let model = try Checkpoint(folder: family(Self.base(name))).model()
    let rows = try golden.rows()
    let patches = golden.tensors["patches"]
    let expected = try golden.matrix("logits")
    let without = try classLogits(model, rows, patches: patches)
    #expect(Difference(without, expected).relative > 0.01)
    let (adapter, facts) = try AdapterFolder.read(folder(name), for: model)
    #expect(facts == nil)
    let injected = try adapter.inject(into: model)
    let found = try classLogits(model, rows, patches: patches)
    expectClose(found, expected, within: 1e-4, "logits")
    injected.remove()
    #expect(try classLogits(model, rows, patches: patches) == without)
  }

  /// Norms of the embedding and behind the blocks are weights, too.
  @Test(arguments: names.filter { !$0.hasSuffix("prefix") && !$0.hasSuffix("prompt") })
  func `worked into the weights it computes the same`(name: String) throws {
    let golden = try GoldenCase("expected", in: "classes/\(name)")
    let model = try Checkpoint(folder: family(Self.base(name))).model()
    let (rows, patches) = (try golden.rows(), golden.tensors["patches"])
    let without = try classLogits(model, rows, patches: patches)
    let adapters = AdapterSet(model)
    try adapters.add(try AdapterFolder.read(folder(name), for: model).0, as: "it")
    try adapters.merge("it")
    let found = try classLogits(model, rows, patches: patches)
    expectClose(found, try golden.matrix("logits"), within: 1e-4, "logits")
    adapters.deactivate()
    #expect(try classLogits(model, rows, patches: patches) == without)
  }

  @Test(arguments: names) func `a folder by PEFT, written by us, has the same tensors`(
    name: String
  ) throws {
    let model = try Checkpoint(folder: family(Self.base(name))).model()
    let adapter = try AdapterFolder.read(folder(name), for: model).0
    try withTemporaryFolder { scratch in
      let copy = scratch.appendingPathComponent("adapter")
      try write(adapter, for: model, to: copy)
      func file(_ folder: URL) throws -> NamedTensors {
        try SafeTensorsFile(contentsOf: folder.appendingPathComponent("adapter_model.safetensors"))
          .tensors()
      }
      #expect(try file(copy) == file(folder(name)))
      #expect(try AdapterFolder.read(copy, for: model).0.state == adapter.state)
      #expect(try AdapterFolder.readFiles(copy).facts?.notInPEFT == nil)
    }
  }

  /// By the names of an older transformers, which were the checkpoint's.
  @Test func `the names of an older transformers are read, too`() throws {
    let model = try Checkpoint(folder: family("vit-classes")).model()
    let adapter = try AdapterFolder.read(folder("vit-classes-ia3"), for: model).0
    try withTemporaryFolder { scratch in
      let copy = scratch.appendingPathComponent("adapter")
      try FileManager.default.copyItem(at: folder("vit-classes-ia3"), to: copy)
      let url = copy.appendingPathComponent("adapter_config.json")
      var table = try JSONFile.read([String: JSONValue].self, from: url)
      table["target_modules"] = .array(["key", "value", "output.dense"].map { .string($0) })
      table["exclude_modules"] = .array([.string("attention.output.dense")])
      table["feedforward_modules"] = .array([.string("output.dense")])
      try JSONFile.write(table, to: url)
      try SafeTensors.write(
        adapter.state, to: copy.appendingPathComponent("adapter_model.safetensors"))
      #expect(try AdapterFolder.read(copy, for: model).0.state == adapter.state)
    }
  }

  /// What has no head of classes with it has no task of PEFT's that a model of classes could be: it is taken by any.
  @Test(arguments: ["bert-classes", "vit-classes"])
  func `an adapter without the head says no task that PEFT would look for`(base: String) throws {
    let model = try Checkpoint(folder: family(base)).model()
    var adapter = try Adapter(
      new: try MethodOptions().method(named: NormTuning.name), for: model,
      blocks: Array(model.blocks.indices), seed: 4, sourceDigest: nil)
    adapter.state = adapter.state.filter { $0.key.hasPrefix("base_model.") }
    try withTemporaryFolder { scratch in
      let folder = scratch.appendingPathComponent("adapter")
      try write(adapter, for: model, to: folder)
      let url = folder.appendingPathComponent("adapter_config.json")
      let table = try JSONFile.read([String: JSONValue].self, from: url)
      #expect(table["task_type"] == .string("FEATURE_EXTRACTION"))
    }
  }

  /// A layer of the head's path gets no LoRA here.
  @Test func `LoRA on the pooler is refused by name`() throws {
    let model = try Checkpoint(folder: family("bert-classes")).model()
    try withTemporaryFolder { scratch in
      let copy = scratch.appendingPathComponent("adapter")
      try FileManager.default.copyItem(at: folder("bert-classes-lora-all"), to: copy)
      let file = copy.appendingPathComponent("adapter_model.safetensors")
      var tensors = try SafeTensorsFile(contentsOf: file).tensors().copied()
      for (part, shape) in [("lora_A", [3, 16]), ("lora_B", [16, 3])] {
        tensors["base_model.model.bert.pooler.dense.\(part).weight"] = Tensor(zeros: shape)
      }
      try SafeTensors.write(tensors, to: file)
      expectError(.badData, "'lora' on 'bert.pooler.dense'", "exclude_modules") {
        _ = try AdapterFolder.read(copy, for: model)
      }
    }
  }

  @Test func `a head that the model has not is still refused`() throws {
    let model = try Checkpoint(folder: family("bert-classes")).model()
    try withTemporaryFolder { scratch in
      let copy = scratch.appendingPathComponent("adapter")
      try FileManager.default.copyItem(at: folder("bert-classes-lora"), to: copy)
      let url = copy.appendingPathComponent("adapter_config.json")
      var table = try JSONFile.read([String: JSONValue].self, from: url)
      table["modules_to_save"] = .array([.string("classifier"), .string("regressor")])
      try JSONFile.write(table, to: url)
      expectError(.badData, "'regressor'") { _ = try AdapterFolder.read(copy, for: model) }
      // PEFT's own pair says nothing of a model that has no classes.
      let masked = try Checkpoint(folder: family("bert-masked")).model()
      expectError(.badData, "'classifier'", "this model has none") {
        _ = try AdapterFolder.read(folder("bert-classes-lora"), for: masked)
      }
    }
  }

  /// DistilBERT takes no prefix in PEFT.
  private static let ours = ["bert-classes", "distilbert-classes", "llama-classes", "gpt2"]
    .flatMap { base in
      [LoRA.name, IA3.name, NormTuning.name, PromptTuning.name, PrefixTuning.name].filter {
        base != "distilbert-classes" || $0 != PrefixTuning.name
      }.map { (base, $0) }
    }

  @Test(.needsPeers, arguments: ours)
  func `PEFT loads what we made and computes what we do`(base: String, method: String) async throws
  {
    try await withTemporaryFolder { scratch in
      var place = family(base)
      if base == "gpt2" {
        let checkpoint = try GoldenModels.checkpoint("gpt2-tiny").classifying(
          ["x", "y", "z"], seed: 3)
        place = scratch.appendingPathComponent("base")
        try CheckpointWriter.write(
          to: place, tensors: try checkpoint.model().tensors,
          configuration: checkpoint.configurationJSON)
      }
      let model = try Checkpoint(folder: place).model()
      var options = MethodOptions()
      options.virtualTokens = 4
      var adapter = try Adapter(
        new: options.method(named: method), for: model, blocks: Array(model.blocks.indices),
        seed: 4, sourceDigest: nil)
      var random = SeededRandom(seed: 8)
      for (name, tensor) in adapter.state.sorted(by: { $0.key < $1.key }) {
        adapter.state[name] = randomTensor(tensor.shape, &random, scale: 0.5)
      }
      let folder = scratch.appendingPathComponent("adapter")
      try write(adapter, for: model, to: folder)
      let rows: [[Int32]] = [[3, 14, 15, 9, 26, 5], [35, 8, 9, 7, 9, 3]]
      let theirs = try await Peers.logits(
        "check_adapter.py", [place, folder], ids: rows, in: scratch)
      let (again, _) = try AdapterFolder.read(folder, for: model)
      #expect(again.state == adapter.state)
      let injected = try again.inject(into: model)
      defer { injected.remove() }
      expectClose(try classLogits(model, rows), theirs, within: 1e-4, "logits")
    }
  }
}
