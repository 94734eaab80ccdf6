import PeatEmulation
import PeatModels
import PeatTensor
import Testing

@Suite("Layer drop") struct LayerDropTests {
  /// round_half_even(i · (M − 1) / (n − 1)) by its definition: of the whole numbers at the smallest distance the even
  /// one. Distances are compared as |number · (n − 1) − i · (M − 1)|, which is exact.
  private func definition(keeping n: Int, of m: Int) -> [Int] {
    if n == 1 { return [(m - 1) / 2] }
    return (0..<n).map { i in
      let candidates = (0..<m).map { (number: $0, distance: abs($0 * (n - 1) - i * (m - 1))) }
      let least = candidates.map(\.distance).min() ?? 0
      let nearest = candidates.filter { $0.distance == least }.map(\.number)
      return nearest.count == 1 ? nearest[0] : nearest.first { $0 % 2 == 0 } ?? -1
    }
  }

  @Test func `equals the rule for all middles of up to 120 blocks`() {
    for m in 1...120 {
      for n in 1...m {
        let kept = LayerDrop.positions(keeping: n, of: m)
        guard kept == definition(keeping: n, of: m) else {
          Issue.record("\(n) of \(m): \(kept), expected \(definition(keeping: n, of: m))")
          return
        }
      }
    }
  }

  @Test func `keeps both ends and loses none of the kept`() {
    for m in 2...120 {
      for n in 2...m {
        let kept = LayerDrop.positions(keeping: n, of: m)
        #expect(kept.first == 0 && kept.last == m - 1, "\(n) of \(m)")
        #expect(zip(kept, kept.dropFirst()).allSatisfy { $0 < $1 }, "\(n) of \(m): \(kept)")
      }
      #expect(LayerDrop.positions(keeping: m, of: m) == Array(0..<m))
    }
  }

  @Test func `known vectors`() throws {
    // Halves go to the even neighbour: 0, 1.5, 3 and 0, 2.5, 5.
    #expect(LayerDrop.positions(keeping: 3, of: 4) == [0, 2, 3])
    #expect(LayerDrop.positions(keeping: 3, of: 6) == [0, 2, 5])
    #expect(LayerDrop.positions(keeping: 1, of: 4) == [1])
    #expect(LayerDrop.positions(keeping: 1, of: 1) == [0])
    // OPT-1.3B has 24 blocks; offsite-tuning's 2-8-2 keeps these of the middle.
    let middle = Array(try ModelSplit(bottom: 2, top: 2, of: 24).middle)
    #expect(
      LayerDrop.positions(keeping: 8, of: middle.count).map { middle[$0] }
        == [2, 5, 7, 10, 13, 16, 18, 21])
  }
}

@Suite("Emulator recipe") struct EmulatorRecipeTests {
  private func refusal(_ text: String) -> PeatError? {
    do {
      _ = try EmulatorRecipe(text)
      return nil
    } catch { return error as? PeatError }
  }

  @Test func `reads words with values`() throws {
    let recipe = try EmulatorRecipe("layer-drop=4")
    #expect(recipe.words == [.init(name: "layer-drop", value: "4")])
    #expect(recipe.description == "layer-drop=4")
    #expect(try EmulatorRecipe(" layer-drop =4").words == recipe.words)
    #expect(try EmulatorRecipe("layer-drop=4,layer-drop=2").words.count == 2)
    #expect(try EmulatorRecipe(recipe.words) == recipe)
    #expect(try EmulatorRecipe("layer-drop=3") != recipe)
  }

  @Test(arguments: [
    ("", "Unknown word ''"), (",", "Unknown word ''"), ("layer-drop=1,", "Unknown word ''"),
    ("layer_drop=4", "Did you mean 'layer-drop'?"), ("laier-drop=4", "Did you mean 'layer-drop'?"),
    ("quantum=4", "Known: "),
    ("layer-drop", "layer-drop=4; found 'layer-drop'"),
    ("layer-drop=", "found 'layer-drop='"), ("layer-drop=0", "at least 1"),
    ("layer-drop=-2", "at least 1"), ("layer-drop=2.5", "at least 1"),
    ("layer-drop=four", "at least 1"), ("layer-drop=1=2", "at least 1"),
    ("layer-drop=99999999999999999999", "at least 1"),
  ]) func `refuses what it does not know`(text: String, says: String) throws {
    let error = try #require(refusal(text))
    #expect(error.code == .usage)
    #expect(error.message.contains(says), "\(error.message)")
  }

  @Test func `an empty list of words is no recipe`() {
    #expect(throws: PeatError.self) { try EmulatorRecipe([EmulatorRecipe.Word]()) }
  }

  @Test func `the levels of one run are parts of one another`() throws {
    func nested(_ words: String...) throws -> [String] {
      try EmulatorRecipe.nested(words.map { try EmulatorRecipe($0) }).map(\.description)
    }
    #expect(
      try nested("layer-drop=1", "layer-drop=3,int8", "layer-drop=2", "low-rank=0.5")
        == [
          "layer-drop=3,layer-drop=2,layer-drop=1", "layer-drop=3,int8",
          "layer-drop=3,layer-drop=2", "low-rank=0.5",
        ])
    // What is nested already, and the same twice, stays.
    for words in [
      ["layer-drop=2", "layer-drop=2,layer-drop=1"], ["layer-drop=1", "layer-drop=1"],
    ] {
      #expect(try nested(words[0], words[1]) == words)
    }
    // Blocks that are chosen otherwise are the owner's business.
    #expect(try nested("layers=0:2", "layer-drop=1") == ["layers=0:2", "layer-drop=1"])
  }
}
