import PeatModels
import PeatTensor

/// How the middle is compressed: words applied from left to right, `layer-drop=4`.
public struct EmulatorRecipe: Sendable, Codable, Equatable, CustomStringConvertible {
  /// One word with its value: {"name": "layer-drop", "value": "4"}.
  public struct Word: Sendable, Codable, Equatable {
    public var name: String
    public var value: String?

    public init(name: String, value: String?) {
      self.name = name
      self.value = value
    }
  }

  public let words: [Word]
  private let steps: [any Compression]

  /// The compressions that a recipe may name. A new one is one file in Compression/ and one line here.
  public static let known: [any Compression.Type] = [LayerDrop.self]

  /// Reads `layer-drop=4`; throws `usage` with the nearest known word where one is not known.
  public init(_ text: String) throws {
    let words = text.split(separator: ",", omittingEmptySubsequences: false).map { part in
      let pieces = part.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      return Word(
        name: pieces[0].filter { $0 != " " }, value: pieces.count > 1 ? String(pieces[1]) : nil)
    }
    try self.init(words)
  }

  public init(_ words: [Word]) throws {
    guard !words.isEmpty else {
      throw PeatError.usage("An emulator recipe is empty. An example: layer-drop=4.")
    }
    self.words = words
    steps = try words.map { word in
      guard let compression = EmulatorRecipe.known.first(where: { $0.name == word.name }) else {
        throw PeatError.usage(
          "Unknown word '\(word.name)' in an emulator recipe. "
            + suggestion(for: word.name, among: EmulatorRecipe.known.map { $0.name }))
      }
      return try compression.init(value: word.value)
    }
  }

  public init(from decoder: any Decoder) throws {
    try self.init([Word](from: decoder))
  }

  public func encode(to encoder: any Encoder) throws { try words.encode(to: encoder) }

  public static func == (left: EmulatorRecipe, right: EmulatorRecipe) -> Bool {
    left.words == right.words
  }

  public var description: String {
    words.map { word in word.name + (word.value.map { "=\($0)" } ?? "") }.joined(separator: ",")
  }

  /// The middle's blocks that are left after all steps, in rising order.
  func keptBlocks(of split: ModelSplit) throws -> [Int] {
    var kept = Array(split.middle)
    for step in steps { kept = try step.keptBlocks(from: kept) }
    return kept
  }

  /// Compresses the middle of a model.
  ///
  /// - Throws: `usage` where the recipe does not fit the model, such as more blocks to keep than there are.
  public func makeEmulator(from model: TransformerModel, split: ModelSplit) throws -> Emulator {
    precondition(
      split.blockCount == model.blocks.count,
      "a split of \(split.blockCount) blocks for \(model.blocks.count)")
    let kept = try keptBlocks(of: split)
    let blocks = Array(0..<split.bottom) + kept + Array(split.middle.upperBound..<split.blockCount)
    return Emulator(
      model: try model.selecting(blocks: blocks), split: split, keptBlocks: blocks, recipe: self)
  }
}

/// One way to compress the middle.
public protocol Compression: Sendable {
  /// The word in a recipe.
  static var name: String { get }

  /// Reads the text behind `=`; throws `usage` where it makes no sense.
  init(value: String?) throws

  /// Which of the blocks stay.
  func keptBlocks(from blocks: [Int]) throws -> [Int]
}
