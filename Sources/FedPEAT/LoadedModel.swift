import Foundation

/// A model as a command is given it: a checkpoint, an emulator, or an adapter that was plugged into a model; with an
/// adapter on it where one is named.
public struct LoadedModel {
  public let checkpoint: Checkpoint
  public let model: TransformerModel
  public let reader: InputReader
  /// `emulator.json`, if it is an emulator.
  public let emulator: EmulatorFacts?
  /// The adapter in the model, if there is one.
  public let adapter: Adapter?

  /// - Parameters:
  ///   - folder: a checkpoint's, an emulator's, or one that `plug-in` wrote without `--merge`.
  ///   - adapterFolder: an adapter to put into it.
  ///   - classes: what it is to tell apart with a new head, where it has none of classes.
  ///   - head: what becomes of a head of other classes that it has.
  ///   - seed: of the new head.
  ///   - storage: how matrices are kept, decided when it is known what model this is and before a weight is read.
  public init(
    _ folder: URL, adapter adapterFolder: URL? = nil, classes: [String]? = nil,
    head: ClassHead = .kept, seed: UInt64 = 0,
    storage: (Checkpoint, EmulatorFacts?, InputReader) throws -> StoragePlan = { _, _, _ in
      .all(.float32)
    }
  ) throws {
    var folder = folder
    var adapterFolder = adapterFolder
    var expected: Digest?
    if let reference = try LoadedModel.reference(in: folder) {
      guard adapterFolder == nil else {
        throw PeatError.usage(
          "'\(folder.path)' is itself an adapter on a model; it can't take another one.")
      }
      adapterFolder = folder
      expected = reference.digest
      let model = URL(fileURLWithPath: reference.path, relativeTo: folder)
      guard FileManager.default.fileExists(atPath: model.path) else {
        throw PeatError.inputOutput(
          "'\(folder.path)' is an adapter on the model '\(model.path)', which is not there. Put the model back, or plug "
            + "the adapter in again.")
      }
      folder = model
    }
    let plain = try Checkpoint(folder: folder)
    if let classes {
      checkpoint = try plain.classifying(classes, seed: seed, head: head)
    } else {
      checkpoint = try adapterFolder.map { try plain.classifying(as: $0, seed: seed) } ?? plain
    }
    emulator = try EmulatorFacts.read(in: folder)
    // Before the weights: who plans their memory must know what is there already.
    reader = try InputReader(folder: folder, for: checkpoint.configuration)
    model = try checkpoint.model(storage: storage(checkpoint, emulator, reader))
    if let expected, expected != checkpoint.digest() {
      throw PeatError.badData(
        "The model in '\(folder.path)' is not the one the adapter was plugged into: its digest is "
          + "\(checkpoint.digest().short)…, not \(expected.short)….")
    }
    guard let adapterFolder else {
      adapter = nil
      return
    }
    let (adapter, facts) = try AdapterFolder.read(adapterFolder, for: model)
    try LoadedModel.check(adapterFolder, facts, fits: checkpoint, emulator)
    _ = try adapter.inject(into: model)
    self.adapter = adapter
  }

  /// Throws where the model sees pictures.
  public var tokenizer: Tokenizer { get throws { try reader.tokenizer } }

  /// The digest of the full model that this is, or is an emulator of.
  public var sourceDigest: Digest { emulator?.sourceDigest ?? checkpoint.digest() }

  /// The blocks an adapter sits in by default, in the full model's numbers: an emulator's ends, or all blocks.
  public var adapterBlocks: [Int] {
    emulator?.endBlocks ?? model.blocks.map(\.numberInFullModel)
  }

  private static func reference(in folder: URL) throws -> AdapterFolder.ModelReference? {
    let config = folder.appendingPathComponent("config.json")
    let facts = folder.appendingPathComponent("fedpeat.json")
    guard !FileManager.default.fileExists(atPath: config.path),
      FileManager.default.fileExists(atPath: facts.path)
    else { return nil }
    // Only these keys: models that this program wrote have a fedpeat.json too, with others.
    struct Reference: Decodable {
      let model: AdapterFolder.ModelReference?
      let blockMap: [String: Int]?
    }
    let reference = try JSONFile.read(Reference.self, from: facts)
    guard reference.model != nil || reference.blockMap == nil else {
      throw PeatError.inputOutput(
        "'\(folder.path)' is an adapter, not a model. Name the model it is for, and give this one with --adapter or to "
          + "plug-in.")
    }
    return reference.model
  }

  /// Throws where an adapter says that it belongs to another model.
  public static func check(
    _ folder: URL, _ facts: AdapterFolder.Facts?, fits checkpoint: Checkpoint,
    _ emulator: EmulatorFacts?
  ) throws {
    guard let facts, let source = facts.sourceDigest else { return }
    let own = checkpoint.digest()
    let ownSource = emulator?.sourceDigest ?? own
    guard source == ownSource else {
      throw PeatError.badData(
        "The adapter '\(folder.path)' was tuned for the model with digest \(source.short)…; "
          + "'\(checkpoint.folder.path)' \(emulator == nil ? "is" : "is an emulator of") \(ownSource.short)…. "
          + "Use it with the model it was made from.")
    }
  }
}
