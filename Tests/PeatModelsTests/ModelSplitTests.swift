import PeatModels
import PeatTensor
import TestSupport
import Testing

@Suite("ModelSplit") struct ModelSplitTests {
  @Test func `bottom, middle and top`() throws {
    let split = try ModelSplit(bottom: 2, top: 1, of: 7)
    #expect(split.middle == 2..<6)
    #expect(split.ends == [0, 1, 6])
    #expect(try ModelSplit(bottom: 0, top: 1, of: 2).ends == [1])
  }

  @Test(arguments: [(0, 0), (3, 2), (5, 0), (4, 4), (-1, 2), (2, -1)])
  func `splits that leave no middle or no ends`(bottom: Int, top: Int) {
    let error = #expect(throws: PeatError.self) {
      try ModelSplit(bottom: bottom, top: top, of: 5)
    }
    #expect(error?.code == .usage)
  }

  @Test(arguments: ["llama-tiny", "gpt2-tiny", "llama-tiny-untied"])
  func `all blocks selected are the model itself, and share its memory`(name: String) throws {
    let model = try TinyModel.checkpoint(name).model()
    let all = try model.selecting(blocks: Array(model.blocks.indices))
    #expect(all.logits(someTokens, length: 9) == model.logits(someTokens, length: 9))
    for (name, tensor) in model.tensors {
      #expect(all.tensors[name]?.storage === tensor.storage)
    }
    #expect(all.configuration == model.configuration)
  }

  @Test func `a selection has its own names and remembers the full model's numbers`() throws {
    let model = try TinyModel.checkpoint("llama-tiny").model()
    let smaller = try model.selecting(blocks: [0, 2, 4])
    #expect(smaller.blocks.map(\.numberInFullModel) == [0, 2, 4])
    #expect(smaller.configuration.blockCount == 3)
    #expect(
      smaller.tensors["model.layers.1.mlp.up_proj.weight"]
        == model.tensors["model.layers.2.mlp.up_proj.weight"])
    #expect(smaller.tensors["model.layers.3.mlp.up_proj.weight"] == nil)
    #expect(smaller.logits(someTokens, length: 9) != model.logits(someTokens, length: 9))
    // A selection of a selection still counts in the full model.
    #expect(try smaller.selecting(blocks: [1, 2]).blocks.map(\.numberInFullModel) == [2, 4])
  }

  /// Which blocks have a window follows from their numbers, which change.
  @Test(arguments: ["gemma2", "qwen2"])
  func `a selection of blocks keeps each block's window, in memory and in its config.json`(
    name: String
  ) throws {
    let checkpoint = try Checkpoint(
      folder: ProjectFolders.golden.appendingPathComponent("families/\(name)"))
    guard case .object(var json) = checkpoint.configurationJSON else { return }
    json["layer_types"] = nil
    let whole = try Architectures.configuration(
      from: ConfigurationFile(name: "config.json", json: .object(json)))
    #expect(whole == checkpoint.configuration)
    let windows = try #require(whole.windows)
    #expect(Set(windows).count == 2)
    for numbers in [[0, 2], [1], [2, 1]] {
      let part = try Architectures.configuration(
        from: ConfigurationFile(
          name: "config.json",
          json: Architectures.configuration(.object(json), withBlocks: numbers)))
      #expect(part.windows == numbers.map { windows[$0] })
      #expect(part == whole.selecting(blocks: numbers))
    }
    let model = try checkpoint.model().selecting(blocks: [1, 2])
    #expect(model.configuration.windows == [windows[1], windows[2]])
  }

  @Test func `config.json of fewer blocks keeps what is not about blocks`() {
    let json: JSONValue = [
      "model_type": "llama", "num_hidden_layers": 3, "layer_types": ["a", "b", "c"],
      "eos_token_id": [7, 8, 9], "other": true,
    ]
    let smaller = Architectures.configuration(json, withBlocks: [0, 2])
    #expect(
      smaller == [
        "model_type": "llama", "num_hidden_layers": 2, "layer_types": ["a", "c"],
        "eos_token_id": [7, 8, 9], "other": true,
      ])
    #expect(
      Architectures.configuration(["model_type": "gpt2", "n_layer": 12], withBlocks: [0, 11])[
        "n_layer"]
        == 2)
  }
}
