/// Blocks of the middle that a recipe's words made narrower, cut in rank or thinned out: what smaller levels of a ladder take over from a larger one.
///
/// Each of these words treats a block for itself, by what it is in the full model, so that a level of fewer blocks has the same ones.
public struct LevelBlocks {
  private var words: [EmulatorRecipe.Word] = []
  private var blocks: [Int: EmulatorDraft.Block] = [:]

  public init() {}

  /// What the words made of some blocks; `nil` where that is not known of all.
  func made(_ words: [EmulatorRecipe.Word], of chosen: [EmulatorDraft.Block])
    -> [EmulatorDraft.Block]?
  {
    guard words == self.words else { return nil }
    let found = chosen.compactMap { blocks[$0.numberInFullModel] }
    return found.count == chosen.count ? found : nil
  }

  mutating func keep(_ made: [EmulatorDraft.Block], by words: [EmulatorRecipe.Word]) {
    self.words = words
    blocks = Dictionary(
      made.map { ($0.numberInFullModel, $0) }, uniquingKeysWith: { first, _ in first })
  }
}
