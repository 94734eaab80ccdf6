import PeatModels
import PeatTensor

/// How the middle is compressed: words applied from left to right, `layer-drop=4,low-rank=0.5,int8`.
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
  public static let known: [any Compression.Type] = [
    LayerDrop.self, ChosenLayers.self, ImportantLayers.self, LossImportantLayers.self,
    ClusteredLayers.self, Sharing.self, ChannelPruning.self, GradientChannels.self,
    HeadPruning.self, LowRank.self, WeightedLowRank.self,
    GradientRanks.self, Magnitude.self, Int8Storage.self, Int4Storage.self, BFloat16Storage.self,
    Float16Storage.self,
  ]

  /// Reads `layer-drop=4`; throws `usage` with the nearest known word where one is not known.
  public init(_ text: String) throws {
    let words = text.split(separator: ",", omittingEmptySubsequences: false).map { part in
      let pieces = part.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      return Word(
        name: pieces[0].filter { $0 != " " },
        value: pieces.count > 1 ? pieces[1].filter { $0 != " " } : nil)
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
    for (before, after) in zip(steps, steps.dropFirst())
    where type(of: after).stage < type(of: before).stage {
      throw PeatError.usage(
        "'\(type(of: after).name)' can't follow '\(type(of: before).name)' in an emulator recipe: first blocks are chosen, then shared, made narrower, cut in rank, thinned out, and at last stored in fewer bits."
      )
    }
    let storages = steps.filter { type(of: $0).stage == .storage }
    if storages.count > 1 {
      throw PeatError.usage(
        "An emulator recipe names two storages, '\(storages.map { type(of: $0).name }.joined(separator: "' and '"))'; name one."
      )
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

  /// Whether it only stores the middle in fewer bits: nothing is left out.
  public var isStorageAlone: Bool { steps.allSatisfy { type(of: $0).stage == .storage } }

  /// Levels of one run: each that begins with `layer-drop=N` keeps N of the blocks that the next larger keeps, so that several give away no more
  /// than the largest. Others, which choose their blocks otherwise, stay as they are.
  public static func nested(_ recipes: [EmulatorRecipe]) throws -> [EmulatorRecipe] {
    func kept(_ recipe: EmulatorRecipe) -> Int? {
      guard let first = recipe.words.first, first.name == LayerDrop.name else { return nil }
      return first.value.flatMap { Int($0) }
    }
    let counts = Set(recipes.compactMap(kept)).sorted(by: >)
    return try recipes.map { recipe in
      guard let own = kept(recipe) else { return recipe }
      let larger = counts.filter { $0 > own }.map {
        Word(name: LayerDrop.name, value: String($0))
      }
      return larger.isEmpty ? recipe : try EmulatorRecipe(larger + recipe.words)
    }
  }

  /// Whether a word needs a text to see what the middle computes.
  public var needsCalibration: Bool { steps.contains(where: \.needsCalibration) }

  /// Throws `usage` where the recipe does not fit a model, such as more blocks to keep than there are: before any work.
  public func check(_ model: TransformerConfiguration, _ split: ModelSplit) throws {
    _ = try storedBlocks(ofMiddle: split.middle.count)
    for step in steps { try step.check(model) }
    try checkStacks(model, split)
  }

  /// Throws where it shows before any work that nothing would be left of an encoder or a decoder, or nothing to share.
  private func checkStacks(_ model: TransformerConfiguration, _ split: ModelSplit) throws {
    guard model.hasEncoder else { return }
    var kept = Array(split.middle)
    for step in steps where type(of: step).stage == .selection {
      guard let places = step.places(of: kept.count) else { return }
      kept = places.map { kept[$0] }
    }
    try model.selecting(blocks: (split.ends + kept).sorted()).checkStacks()
    if isShared { try Sharing.check(kept, split, model.keys) }
  }

  /// Throws `usage` where transformers can't load what the recipe makes even if narrower blocks are filled up with zeros.
  public func checkPadded() throws {
    for step in steps {
      let word = type(of: step)
      let reason: String? =
        switch word.stage {
        case .selection, .width: nil
        case .sharing: "blocks that are run more than once"
        case .rank: "factors in the place of matrices"
        case .sparsity: "matrices of which only what is not zero is stored"
        case .storage: word is any ShortStorage.Type ? nil : "packed integers"
        }
      if let reason {
        throw PeatError.usage(
          "transformers knows no \(reason), which '\(word.name)' leaves in the folder. Leave the word out, or make the emulator without --transformers and write a plain checkpoint of it with 'fedpeat export'."
        )
      }
    }
  }

  /// Compresses the middle of a model.
  ///
  /// - Parameter calibration: a text, for words that need one.
  /// - Throws: `usage` where the recipe does not fit the model, or needs a text.
  public func makeEmulator(
    from model: TransformerModel, split: ModelSplit, calibration: CompressionCalibration? = nil,
    onProgress: @escaping CompressionProgress.Listener = { _ in }
  ) throws -> Emulator {
    let emulator = try makeUnpacked(
      from: model, split: split, calibration: calibration, onProgress: onProgress)
    try emulator.pack(calibration, onProgress: onProgress)
    return emulator
  }

  /// The emulator before its matrices are stored in fewer bits, so that they can still be trained; `Emulator.pack(_:)` is the last step.
  public func makeUnpacked(
    from model: TransformerModel, split: ModelSplit, calibration: CompressionCalibration? = nil,
    onProgress: @escaping CompressionProgress.Listener = { _ in }
  ) throws -> Emulator {
    var none = LevelBlocks()
    return try makeUnpacked(
      from: model, split: split, calibration: calibration, sharing: &none, onProgress: onProgress)
  }

  /// The same as a level of a ladder.
  ///
  /// - Parameter levels: blocks that a larger level of the same model has made, which are taken over; afterwards this one's, where it had to make its own.
  public func makeUnpacked(
    from model: TransformerModel, split: ModelSplit, calibration: CompressionCalibration?,
    sharing levels: inout LevelBlocks,
    onProgress: @escaping CompressionProgress.Listener = { _ in }
  ) throws -> Emulator {
    precondition(
      split.blockCount == model.blocks.count,
      "a split of \(split.blockCount) blocks for \(model.blocks.count)")
    try check(model.configuration, split)
    var draft = EmulatorDraft(model, split, calibration, onProgress: onProgress)
    for step in steps where type(of: step).stage <= .sharing { try step.apply(to: &draft) }
    let later = zip(words, steps).filter {
      type(of: $1).stage > .sharing && type(of: $1).stage < .storage
    }
    if let made = levels.made(later.map(\.0), of: draft.blocks) {
      draft.blocks = made
    } else {
      for (_, step) in later { try step.apply(to: &draft) }
      levels.keep(draft.blocks, by: later.map(\.0))
    }
    return try draft.emulator(self)
  }

  /// How matrices are kept at last; `nil`: as in the source.
  var storage: (any StorageWord)? { steps.lazy.compactMap { $0 as? any StorageWord }.first }

  /// The words that choose blocks.
  public var choices: [String] {
    steps.map { type(of: $0) }.filter { $0.stage == .selection }.map { $0.name }
  }

  /// How many blocks it stores of a middle of so many; throws `usage` where it does not fit one.
  func storedBlocks(ofMiddle count: Int) throws -> Int {
    var outline = CompressionOutline(blocks: count)
    for step in steps { try step.check(&outline) }
    return outline.blocks
  }

  /// Whether blocks may be run more than once.
  var isShared: Bool { steps.contains { $0 is Sharing } }

  /// Whether matrices are mostly zeros.
  var isSparse: Bool { steps.contains { $0 is Magnitude } }
}

/// One way to compress the middle.
public protocol Compression: Sendable {
  /// The word in a recipe.
  static var name: String { get }

  /// When in a recipe it may come.
  static var stage: CompressionStage { get }

  /// Whether it needs a text to see what the middle computes.
  var needsCalibration: Bool { get }

  /// Reads the text behind `=`; throws `usage` where it makes no sense.
  init(value: String?) throws

  /// Throws `usage` where it does not fit what the words before it leave; else says what it leaves.
  func check(_ outline: inout CompressionOutline) throws

  /// Throws `usage` where it does not fit a model.
  func check(_ model: TransformerConfiguration) throws

  /// Of so many blocks the places of those that it keeps; `nil` where that is not known before it looks at them, or it keeps all.
  func places(of count: Int) -> [Int]?

  func apply(to draft: inout EmulatorDraft) throws
}

extension Compression {
  public var needsCalibration: Bool { false }
  public func check(_ model: TransformerConfiguration) throws {}
  public func places(of count: Int) -> [Int]? { nil }

  /// Throws `usage` where layers of a model mix tokens in the place of attention, which this word is about.
  func requireAttention(_ model: TransformerConfiguration, instead: String) throws {
    guard model.tokenMixing != nil else { return }
    throw PeatError.usage(
      "'\(Self.name)' is about attention, of which a model of the type \(model.modelType) has none: its tokens are mixed by a feed-forward layer. \(instead)"
    )
  }
}

/// The order in which a recipe's words make sense.
public enum CompressionStage: Int, Sendable, Comparable {
  case selection, sharing, width, rank, sparsity, storage

  public static func < (left: Self, right: Self) -> Bool { left.rawValue < right.rawValue }
}

/// What is known of an emulator before it is made.
public struct CompressionOutline {
  /// Blocks of the middle that are stored.
  var blocks: Int
  var isShared = false
  var isFactored = false
  var isSparse = false
  var hasFewerChannels = false
  var hasFewerHeads = false
}
