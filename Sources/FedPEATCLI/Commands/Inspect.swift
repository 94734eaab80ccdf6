import ArgumentParser
import FedPEAT
import Foundation

struct Inspect: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Say what a checkpoint, emulator, adapter, update or controller holds.",
    discussion: "Example: fedpeat inspect models/stories260K")

  @Argument(
    help:
      "A folder: a model, an emulator, an adapter or an update; a controller's file; or a model's name on the Hub."
  )
  var path: String

  @OptionGroup var common: CommonOptions

  func run() async throws {
    let report = try Inspection(URL(model: path))
    try common.report(report, text: report.text)
  }
}

/// What a folder holds.
struct Inspection: Encodable {
  /// A model's pictures, in pixels.
  struct Picture: Encodable {
    var height: Int
    var width: Int
    var channels: Int
    /// The side of a patch.
    var patch: Int
    var patches: Int
  }

  /// Tensors that are not read, and their values together.
  struct LeftAlone: Encodable {
    var tensors: Int
    var parameters: Int
  }

  var kind: String
  var architecture: String?
  var parameters: Int
  var blocks: Int?
  /// How many of them are an encoder's; null: there is none.
  var encoderBlocks: Int?
  var hiddenSize: Int?
  var vocabularySize: Int?
  var contextLength: Int?
  /// What the model's head says: next-token, masked-tokens, classes; null: it has none and gives states.
  var head: String?
  /// The classes that a head tells apart; null: it tells none.
  var classes: [String]?
  /// How the model sees pictures; null: it reads tokens.
  var image: Picture?
  /// Of the files that hold the weights.
  var bytes: Int
  var digest: Digest
  var storage: String?
  var sourceDigest: Digest?
  var keptBlocks: [Int]?
  var recipe: String?
  var exposure: Double?
  var margin: MarginFacts?
  /// Whether the margin was measured and is there after attacks; null: it was not measured, or by an attack too feeble to tell.
  var modelPrivacy: Bool?
  /// Why the margin says little; null: there is none, or an attacker did what it could.
  var marginCaution: String?
  /// What a checkpoint holds beside the model that is read: CLIP's text tower, heads of other tasks; null: nothing.
  var leftAlone: LeftAlone?
  var licence: String?
  var method: String?
  var rank: Int?
  var alpha: Double?
  var virtualTokens: Int?
  var bottleneckSize: Int?
  /// Why Python PEFT can't read an adapter; null: it can, or nobody said.
  var notInPEFT: String?
  var tensors: Int?
  var client: String?
  var round: Int?
  var exampleCount: Int?
  var environment: String?
  var devices: Int?
  var levels: Int?
  var choices: [String: Int]?
  var steps: Int?

  private enum CodingKeys: String, CodingKey {
    case kind, architecture, parameters, blocks, encoderBlocks, hiddenSize, vocabularySize,
      contextLength, head, classes, image, bytes
    case digest, storage, sourceDigest, keptBlocks, recipe, exposure, margin, modelPrivacy
    case marginCaution, leftAlone, licence
    case virtualTokens, bottleneckSize, notInPEFT
    case method, rank, alpha, tensors, client, round, exampleCount, environment, devices, levels,
      choices, steps
  }

  init(_ folder: URL) throws {
    func has(_ name: String) -> Bool {
      FileManager.default.fileExists(atPath: folder.appendingPathComponent(name).path)
    }
    var isFolder: ObjCBool = false
    guard FileManager.default.fileExists(atPath: folder.path, isDirectory: &isFolder) else {
      throw PeatError.inputOutput("There is nothing at '\(folder.path)'.")
    }
    guard isFolder.boolValue else {
      guard (try? SafeTensorsFile(contentsOf: folder)) != nil else {
        throw PeatError.inputOutput(
          "'\(folder.path)' is a file, and no controller; models, emulators, adapters and updates are folders."
        )
      }
      try self.init(controller: folder)
      return
    }
    guard FileManager.default.isReadableFile(atPath: folder.path) else {
      throw PeatError.inputOutput(
        "Can't see what the folder '\(folder.path)' holds. Check that you have the right to read it."
      )
    }
    if has("config.json") {
      try self.init(checkpoint: folder)
    } else if has("adapter_config.json") || has("fedpeat.json") {
      try self.init(adapter: folder)
      // What tune --update writes is both.
      if has(ClientUpdate.headerFile) { try add(UpdateFolder(folder.path).update) }
    } else if has(ClientUpdate.headerFile) {
      try self.init(update: folder)
    } else {
      throw PeatError.inputOutput(
        "'\(folder.path)' is no model (config.json), adapter (adapter_config.json, fedpeat.json) or update "
          + "(update.json).")
    }
  }

  private init(checkpoint folder: URL) throws {
    let checkpoint = try Checkpoint(folder: folder)
    let facts = try EmulatorFacts.read(in: folder)
    let model = try checkpoint.model()
    kind = facts == nil ? "checkpoint" : "emulator"
    architecture = checkpoint.configuration.modelType
    parameters = model.parameterCount
    blocks = model.blocks.count
    if checkpoint.configuration.hasEncoder {
      encoderBlocks = checkpoint.configuration.keys.encoderBlocks
    }
    hiddenSize = checkpoint.configuration.hiddenSize
    if let input = checkpoint.configuration.image {
      // What stands in the vocabulary's place there is a patch.
      image = Picture(
        height: input.height, width: input.width, channels: input.channels, patch: input.patch,
        patches: input.patches)
    } else {
      vocabularySize = checkpoint.configuration.vocabularySize
      contextLength = checkpoint.configuration.contextLength
    }
    classes = checkpoint.configuration.head?.labels
    head = checkpoint.configuration.head.map { head in
      head.labels != nil
        ? "classes" : checkpoint.configuration.predictsMaskedTokens ? "masked-tokens" : "next-token"
    }
    bytes = checkpoint.byteCount
    digest = checkpoint.digest()
    storage = checkpoint.storageType.rawValue
    sourceDigest = facts?.sourceDigest
    keptBlocks = facts?.keptBlocks
    recipe = facts?.recipe.description
    exposure = facts?.exposure
    margin = facts?.margin
    modelPrivacy = margin?.hasModelPrivacy
    marginCaution = margin?.doubt
    if let facts {
      storage = Inspection.storage(of: facts, checkpoint.configuration.keys)
    } else {
      leftAlone = Inspection.leftAlone(of: checkpoint, by: model)
    }
    licence = facts?.licence
  }

  private static func leftAlone(
    of checkpoint: Checkpoint, by model: TransformerModel
  ) -> LeftAlone? {
    let others = checkpoint.unreadCounts(by: model)
    return others.isEmpty
      ? nil : LeftAlone(tensors: others.count, parameters: others.values.reduce(0, +))
  }

  /// How an emulator's middle is stored: the types of its matrices, the most frequent first.
  private static func storage(of facts: EmulatorFacts, _ keys: TransformerKeys) -> String {
    let middle = Set(facts.keptBlocks.indices).subtracting(facts.localEndBlocks)
    var counts: [String: Int] = [:]
    for (name, stored) in facts.storage
    where keys.place(of: name).map({ middle.contains($0.number) }) ?? false {
      counts[
        stored.packing == SparseTensor.packing ? "\(stored.type), sparse" : stored.type, default: 0] +=
        1
    }
    return counts.sorted { ($1.value, $0.key) < ($0.value, $1.key) }.map(\.key).first ?? "F32"
  }

  private init(controller file: URL) throws {
    let controller = try ControllerFile(contentsOf: file)
    let facts = controller.facts
    kind = "controller"
    architecture = facts.network.kind.rawValue
    hiddenSize = facts.network.width
    let values = Dictionary(
      uniqueKeysWithValues: controller.network.parameters.map { ($0.name, $0.tensor) })
    parameters = values.parameterCount
    bytes = try SafeTensorsFile(contentsOf: file).byteCount
    digest = values.digest
    tensors = values.count
    environment = facts.environment
    devices = facts.network.kind == .flat ? facts.shape.devices : nil
    let branches = facts.shape.branches.list
    levels =
      branches.indices.contains(ActionBranches.Place.level)
      ? branches[ActionBranches.Place.level].choices : nil
    choices = Dictionary(branches.map { ($0.name, $0.choices) }, uniquingKeysWith: { $1 })
    steps = facts.steps
  }

  private init(adapter folder: URL) throws {
    let (method, values, facts) = try AdapterFolder.readFiles(folder)
    kind = "adapter"
    parameters = values.parameterCount
    bytes = try SafeTensorsFile(
      contentsOf: folder.appendingPathComponent("adapter_model.safetensors")
    ).byteCount
    digest = values.digest
    tensors = values.count
    self.method = method.name
    if case .lora(let lora) = method {
      rank = lora.rank
      alpha = lora.alpha
    }
    if method.virtualTokens > 0 { virtualTokens = method.virtualTokens }
    if case .bottleneck(let bottleneck) = method { bottleneckSize = bottleneck.size }
    classes = facts?.classes
    notInPEFT = facts?.notInPEFT
    sourceDigest = facts?.sourceDigest
    blocks = facts.map { Set($0.blockMap.values).count }
  }

  private init(update folder: URL) throws {
    let update = try UpdateFolder(folder.path)
    kind = "update"
    parameters = update.update.tensors.parameterCount
    bytes = try SafeTensorsFile(
      contentsOf: folder.appendingPathComponent(ClientUpdate.tensorsFile)
    ).byteCount
    digest = update.update.tensors.digest
    tensors = update.update.tensors.count
    method = update.method.name
    rank = update.update.header.rank
    alpha = update.update.header.alpha
    add(update.update)
  }

  /// What an update says of its client.
  private mutating func add(_ update: ClientUpdate) {
    client = update.header.client.name
    round = update.header.round
    exampleCount = update.exampleCount
  }

  /// The keys that DESIGN names are always there, null where they do not apply.
  func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode(kind, forKey: .kind)
    try container.encode(architecture, forKey: .architecture)
    try container.encode(parameters, forKey: .parameters)
    try container.encode(blocks, forKey: .blocks)
    try container.encode(hiddenSize, forKey: .hiddenSize)
    try container.encode(vocabularySize, forKey: .vocabularySize)
    try container.encode(bytes, forKey: .bytes)
    try container.encode(digest, forKey: .digest)
    try container.encodeIfPresent(encoderBlocks, forKey: .encoderBlocks)
    try container.encodeIfPresent(contextLength, forKey: .contextLength)
    if ["checkpoint", "emulator"].contains(kind) { try container.encode(head, forKey: .head) }
    try container.encodeIfPresent(classes, forKey: .classes)
    try container.encodeIfPresent(image, forKey: .image)
    try container.encodeIfPresent(storage, forKey: .storage)
    try container.encodeIfPresent(sourceDigest, forKey: .sourceDigest)
    try container.encodeIfPresent(keptBlocks, forKey: .keptBlocks)
    try container.encodeIfPresent(recipe, forKey: .recipe)
    try container.encodeIfPresent(exposure, forKey: .exposure)
    if kind == "emulator" {
      try container.encode(margin, forKey: .margin)
      try container.encode(modelPrivacy, forKey: .modelPrivacy)
      try container.encode(marginCaution, forKey: .marginCaution)
    }
    try container.encodeIfPresent(leftAlone, forKey: .leftAlone)
    try container.encodeIfPresent(licence, forKey: .licence)
    try container.encodeIfPresent(method, forKey: .method)
    try container.encodeIfPresent(rank, forKey: .rank)
    try container.encodeIfPresent(alpha, forKey: .alpha)
    try container.encodeIfPresent(virtualTokens, forKey: .virtualTokens)
    try container.encodeIfPresent(bottleneckSize, forKey: .bottleneckSize)
    try container.encodeIfPresent(notInPEFT, forKey: .notInPEFT)
    try container.encodeIfPresent(tensors, forKey: .tensors)
    try container.encodeIfPresent(client, forKey: .client)
    try container.encodeIfPresent(round, forKey: .round)
    try container.encodeIfPresent(exampleCount, forKey: .exampleCount)
    try container.encodeIfPresent(environment, forKey: .environment)
    try container.encodeIfPresent(devices, forKey: .devices)
    try container.encodeIfPresent(levels, forKey: .levels)
    try container.encodeIfPresent(choices, forKey: .choices)
    try container.encodeIfPresent(steps, forKey: .steps)
  }

  /// The first names of some, and how many there are.
  private static func listed(_ names: [String]) -> String {
    names.prefix(6).joined(separator: ", ")
      + (names.count > 6 ? ", … (\(names.count) in all)" : "")
  }

  var text: String {
    var rows = [["kind", kind]]
    func add(_ name: String, _ value: String?) {
      guard let value else { return }
      // What other people wrote stays on its line, and does not steer the terminal.
      rows.append([name, Terminal.printable(value.replacing("\n", with: " "))])
    }
    add("architecture", architecture)
    add("parameters", Format.count(parameters))
    add(
      "blocks",
      blocks.map { count in
        encoderBlocks.map { "\(count): \($0) of the encoder, \(count - $0) of the decoder" }
          ?? String(count)
      })
    add("hidden size", hiddenSize.map(String.init))
    add("vocabulary", vocabularySize.map(Format.count))
    add("context", contextLength.map(Format.count))
    add(
      "pictures",
      image.map {
        "\($0.height) × \($0.width) with \($0.channels) \($0.channels == 1 ? "channel" : "channels"), in \($0.patches) patches of \($0.patch) × \($0.patch)"
      })
    if kind == "checkpoint" || kind == "emulator" {
      let said =
        switch head {
        case nil: "none: it gives states"
        case "classes": "classes: \(Self.listed(classes ?? []))"
        case "masked-tokens": "masked tokens"
        default: "each next token"
        }
      add("head", said)
    }
    add("bytes of weights' files", Format.count(bytes))
    add("stored as", storage)
    add("digest", digest.hex)
    add("digest of the full model", sourceDigest?.hex)
    add("blocks in the full model", keptBlocks.map { $0.map(String.init).joined(separator: " ") })
    add("recipe", recipe)
    add("exposure of the middle", exposure.map(Format.percent))
    if kind == "emulator" {
      add(
        "owner's margin",
        margin.map {
          "\(Format.number($0.margin, digits: 3)), after attacks \(Format.number($0.afterAttack, digits: 3))"
            + ($0.runs > 1
              ? " (least of \($0.runs) runs \(Format.number($0.leastAfterAttack, digits: 3)))" : "")
            + ($0.leastForAttacker.map {
              ", on texts like the attacker's own \(Format.number($0, digits: 3))"
            } ?? "")
        } ?? "not measured; 'fedpeat attack' does it")
      if modelPrivacy == false {
        add(
          "no model privacy",
          "a device can make a model of this emulator that is as good as the owner's")
      } else if let marginCaution {
        add("the margin says little", "\(marginCaution); 'fedpeat attack' measures it again")
      }
    }
    add(
      "left alone",
      leftAlone.map {
        "\(Format.count($0.tensors)) tensors of \(Format.count($0.parameters)) values, which this model does not have"
      })
    add("licence of the source", licence.map { $0.count > 120 ? $0.prefix(120) + "…" : $0 })
    if kind == "adapter" { add("classes", classes.map(Self.listed)) }
    add("method", method)
    add("rank", rank.map(String.init))
    add("alpha", alpha.map { Format.number($0, digits: 1) })
    add("virtual tokens", virtualTokens.map(String.init))
    add("bottleneck", bottleneckSize.map(String.init))
    add("not for PEFT", notInPEFT)
    add("tensors", tensors.map(String.init))
    if kind == "adapter", client != nil { add("also", "an update, for aggregate") }
    add("client", client)
    add("round", round.map(String.init))
    add("examples", exampleCount.map(Format.count))
    if kind == "controller" { add("devices", devices.map(String.init) ?? "any number") }
    add("emulator levels", levels.map(String.init))
    add(
      "choices",
      choices.map {
        $0.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)" }.joined(separator: ", ")
      })
    add("trained in", environment)
    add("rounds learned from", steps.map(Format.count))
    return Format.table(rows)
  }
}
