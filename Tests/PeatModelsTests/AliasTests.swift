import Foundation
import PeatModels
import PeatTensor
import TestSupport
import Testing

@Suite("Other names in config.json") struct AliasTests {
  /// As `attribute_map` of transformers' configurations has them.
  @Test(arguments: [
    ("gpt2-tiny", ["n_embd": "hidden_size", "n_head": "num_attention_heads"]),
    ("gpt2-tiny", ["n_layer": "num_hidden_layers", "n_positions": "max_position_embeddings"]),
  ])
  func `are read as the family's own`(name: String, names: [String: String]) throws {
    let known = try #require(TinyModel.configuration(name).object)
    var changes: [String: JSONValue?] = [:]
    for (own, other) in names { (changes[own], changes[other]) = (.some(nil), known[own]) }
    #expect(try TinyModel.error(name, configuration: changes) == nil)
    // Without either it is missing.
    let missing = names.keys.sorted()[0]
    let none = try TinyModel.error(name, configuration: [missing: nil])
    #expect(none?.message.contains(missing) == true || missing == "n_positions")
  }

  @Test func `are refused where they say something else`() throws {
    let error = try TinyModel.error("gpt2-tiny", configuration: ["hidden_size": 8])
    #expect(error?.message.contains("has n_embd and hidden_size, which mean the same") == true)
  }

  @Test func `are gone from the file of a model of other blocks`() throws {
    var table = try #require(TinyModel.configuration("gpt2-tiny").object)
    table["num_hidden_layers"] = table.removeValue(forKey: "n_layer")
    let made = Architectures.configuration(.object(table), withBlocks: [0])
    #expect(made["n_layer"]?.integer == 1 && made["num_hidden_layers"] == nil)
  }
}
