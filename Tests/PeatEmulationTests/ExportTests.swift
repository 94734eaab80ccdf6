import Foundation
import PeatEmulation
import PeatModels
import PeatTensor
import TestSupport
import Testing

@Suite("Exporting an emulator") struct ExportTests {
  static let recipes = [
    "layers=0", "share", "int8", "int4", "bf16", "f16", "low-rank=0.4", "prune-heads=0.5",
    "magnitude=0.3",
    "prune-channels=0.4", "layers=0,share,int8",
    "prune-heads=0.5,prune-channels=0.4,low-rank=0.6,int4",
  ]
  private let tokens: [Int32] = [1, 5, 90, 33, 0, 96, 7, 7, 12]

  private func expectSame(
    _ left: TransformerModel, _ right: TransformerModel,
    sourceLocation: SourceLocation = #_sourceLocation
  ) {
    let (left, right) = (
      left.logits(tokens, length: tokens.count), right.logits(tokens, length: tokens.count)
    )
    expectClose(left, right, within: 1e-4, "logits", sourceLocation: sourceLocation)
  }

  @Test(
    arguments: [
      "llama-tiny", "llama-tiny-untied", "llama-tiny-bf16", "gpt2-tiny", "gpt2-tiny-f16",
    ],
    recipes)
  func `the plain checkpoint computes what the emulator does`(name: String, recipe: String) throws {
    let source = try Checkpoint(
      folder: ProjectFolders.golden.appendingPathComponent("checkpoints/\(name)"))
    let full = try source.model()
    let split = try ModelSplit(
      bottom: 1, top: full.blocks.count > 3 ? 1 : 0, of: full.blocks.count)
    let emulator = try EmulatorRecipe(recipe).makeEmulator(from: full, split: split)
    try withTemporaryFolder { folder in
      let place = folder.appendingPathComponent("emulator")
      try emulator.write(
        to: place, source: source, facts: try emulator.facts(source: source, full: full))
      let read = try Emulator(folder: place)
      let target = folder.appendingPathComponent("plain")
      let exported = try read.export(to: target, source: Checkpoint(folder: place))
      let plain = try Checkpoint(folder: target)
      #expect(plain.emulatorJSON == nil)
      #expect(plain.configuration.variation == .none)
      #expect(plain.configuration.blockCount == read.model.configuration.depth)
      #expect(Set(plain.storageTypes.values) == [.float32])
      // transformers rounds weights to the type that config.json states.
      for key in ["dtype", "torch_dtype"] {
        #expect([nil, .string("float32")].contains(plain.configurationJSON[key]))
      }
      let again = try plain.model()
      #expect(again.tensors == exported.tensors)
      expectSame(again, read.model)
    }
  }

  /// A Llama of one block with 6 heads on 3 for keys and values, biases everywhere, and random weights.
  private func randomModel(_ sizes: BlockSizes) throws -> TransformerModel {
    var configuration = try Architectures.configuration(
      from: ConfigurationFile(
        name: "config.json",
        json: .object([
          "model_type": .string("llama"), "vocab_size": .integer(97), "hidden_size": .integer(24),
          "num_attention_heads": .integer(6), "num_key_value_heads": .integer(3),
          "intermediate_size": .integer(20), "num_hidden_layers": .integer(1),
          "attention_bias": .bool(true), "mlp_bias": .bool(true),
          "tie_word_embeddings": .bool(true),
        ])))
    configuration.variation.sizes["0"] = sizes
    var random = SeededRandom(seed: 11)
    var tensors: NamedTensors = [:]
    func add(_ name: String, _ shape: Int...) {
      tensors[name] = .uniform(shape, bound: 0.5, using: &random)
    }
    let (queries, keyValues, inner) = (
      sizes.heads * 4, sizes.keyValueHeads * 4, sizes.feedForwardSize
    )
    add("model.embed_tokens.weight", 97, 24)
    add("model.norm.weight", 24)
    for norm in ["input_layernorm", "post_attention_layernorm"] {
      add("model.layers.0.\(norm).weight", 24)
    }
    for (path, inputs, outputs) in [
      ("self_attn.q_proj", 24, queries), ("self_attn.k_proj", 24, keyValues),
      ("self_attn.v_proj", 24, keyValues), ("self_attn.o_proj", queries, 24),
      ("mlp.gate_proj", 24, inner), ("mlp.up_proj", 24, inner), ("mlp.down_proj", inner, 24),
    ] {
      add("model.layers.0.\(path).weight", outputs, inputs)
      add("model.layers.0.\(path).bias", outputs)
    }
    return try TransformerModel(
      configuration: configuration, tensors: tensors, source: "a random model")
  }

  @Test(arguments: [(6, 3, 20), (4, 2, 20), (2, 2, 7), (1, 1, 1), (3, 3, 20)])
  func `heads keep their keys and values, also where a group has fewer heads`(
    heads: Int, keyValueHeads: Int, channels: Int
  ) throws {
    let model = try randomModel(
      BlockSizes(heads: heads, keyValueHeads: keyValueHeads, feedForwardSize: channels))
    let plain = try model.plain()
    #expect(plain.configuration.variation == .none)
    #expect(plain.blocks[0].sizes == BlockSizes(heads: 6, keyValueHeads: 3, feedForwardSize: 20))
    expectSame(plain, model)
  }

  @Test func `more heads for each key than the whole model has are refused`() throws {
    let model = try randomModel(BlockSizes(heads: 3, keyValueHeads: 1, feedForwardSize: 20))
    expectError(.badData, "'model.layers.0' has 3 heads", "at most 2") { _ = try model.plain() }
  }

  static let padded = [
    "layers=0", "prune-heads=0.5", "prune-channels=0.4", "prune-heads=0.5,prune-channels=0.4",
    "prune-heads=0.5,prune-channels=0.4,bf16",
  ]

  @Test(
    arguments: ["llama-tiny", "llama-tiny-bf16", "gpt2-tiny", "gpt2-tiny-f16"], padded)
  func `a padded folder holds the same emulator in whole blocks`(name: String, recipe: String)
    throws
  {
    let source = try Checkpoint(
      folder: ProjectFolders.golden.appendingPathComponent("checkpoints/\(name)"))
    let full = try source.model()
    let split = try ModelSplit(
      bottom: 1, top: full.blocks.count > 3 ? 1 : 0, of: full.blocks.count)
    let words = try EmulatorRecipe(recipe)
    try words.checkPadded()
    let emulator = try words.makeEmulator(from: full, split: split)
    try withTemporaryFolder { folder in
      func write(_ name: String, padded: Bool) throws -> (Emulator, Checkpoint) {
        let place = folder.appendingPathComponent(name)
        try emulator.write(
          to: place, source: source,
          facts: try emulator.facts(source: source, full: full, padded: padded))
        return (try Emulator(folder: place), try Checkpoint(folder: place))
      }
      let (compact, small) = try write("compact", padded: false)
      let (wide, large) = try write("wide", padded: true)
      #expect(wide.model.configuration == compact.model.configuration)
      #expect(wide.model.tensors == compact.model.tensors)
      #expect(wide.model.packedStorages == compact.model.packedStorages)
      #expect(large.packedStorages == small.packedStorages)
      #expect(wide.exposure(of: full) == compact.exposure(of: full))
      #expect(wide.model.byteCount == compact.model.byteCount)
      let isNarrow = recipe.contains("prune")
      #expect((large.byteCount > small.byteCount) == isNarrow)
      #expect(try EmulatorFacts.read(in: large.folder)?.padded == (isNarrow ? true : nil))
      // Every tensor is as large as the full model's of the same name.
      let shapes = full.tensors.mapValues(\.shape)
      let file = try SafeTensorsFile(
        contentsOf: large.folder.appendingPathComponent("model.safetensors"))
      for (name, entry) in file.entries { #expect(entry.shape == shapes[name]) }
      guard isNarrow else { return }
      // Something else than zeros around what is there.
      let weights = large.folder.appendingPathComponent("model.safetensors")
      var tensors = try file.tensors().copied()
      let places = try wide.model.configuration.tensorPlaces()
      let name = try #require(places.keys.filter { $0.hasSuffix("weight") }.min())
      let types = large.storageTypes
      let filled = try #require(tensors[name]).map { $0 == 0 ? 1 : $0 }
      let before = tensors[name]
      tensors[name] = filled
      try SafeTensors.write(tensors, to: weights, as: { types[$0] ?? .float32 })
      expectError(.badData, "'\(name)' is filled up with zeros") {
        _ = try Emulator(folder: large.folder)
      }
      tensors[name] = before
      try SafeTensors.write(tensors, to: weights, as: { types[$0] ?? .float32 })
      #expect(try Emulator(folder: large.folder).model.tensors == compact.model.tensors)
      // Widths that the stored tensors do not have.
      let facts = large.folder.appendingPathComponent("emulator.json")
      let text = try String(contentsOf: facts, encoding: .utf8)
      try Data(text.replacing("\"padded\" : true", with: "\"padded\" : false").utf8).write(
        to: facts)
      expectError(.badData, "has shape", "config.json expects") {
        _ = try Emulator(folder: large.folder)
      }
    }
  }

  @Test func `recipes whose folder transformers can't read even padded are refused`() throws {
    for (recipe, word) in [
      ("layers=0,share", "share"), ("low-rank=0.5", "low-rank"), ("magnitude=0.5", "magnitude"),
      ("prune-heads=0.5,int8", "int8"), ("int4=gptq", "int4"),
    ] {
      expectError(.usage, "'\(word)'", "fedpeat export") {
        try EmulatorRecipe(recipe).checkPadded()
      }
    }
  }
}
