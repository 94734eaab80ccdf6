import Foundation

/// A client's update on disk, seen to be one: the header makes sense, and the tensors are what it says.
public struct UpdateFolder {
  /// As the user wrote it.
  public let path: String
  /// With what an older header left to the adapter's files beside it.
  public let update: ClientUpdate
  /// `fedpeat.json`, where the folder is an adapter's, too.
  public let facts: AdapterFolder.Facts?
  /// What the tensors are, by the header.
  public let method: Adapter.Method
  /// How a model of their kind names its tensors, and lays matrices.
  public let keys: TransformerKeys
  public let layout: WeightLayout
  /// What PEFT calls the model's task: as an adapter_config.json beside it says, or as the kind of model has it; `nil`: as its names have it.
  public let taskType: String?

  /// Throws `badData` that names the folder and what is wrong.
  public init(_ path: String) throws {
    self.path = path
    let folder = URL(fileURLWithPath: path)
    var update = try ClientUpdate(contentsOf: folder)
    func refuse(_ what: String) -> PeatError { .badData("The update '\(path)' \(what).") }
    guard update.exampleCount > 0 else {
      throw refuse(
        "has an exampleCount of \(update.exampleCount), by which it counts; it must be at least 1")
    }
    let header = update.header
    guard header.trainedRank == nil, header.uploadBits == nil, header.upload == nil,
      update.tensors[UpdateEncoding.packedName] == nil
    else {
      throw refuse(
        "is written for the wire, as a difference from a round's adapter (trainedRank, uploadBits, upload); whole values are "
          + "aggregated here, as tune --update writes them")
    }
    guard !update.tensors.isEmpty else { throw refuse("holds no tensors") }
    if let name = update.tensors.firstNotFinite {
      throw refuse(
        "holds NaN or infinity in '\(name)'; its training diverged: tune again with a lower learning rate, or leave it out"
      )
    }
    let limit = UpdatePolicy.largestValue
    if let (name, _) = update.tensors.sorted(by: { $0.key < $1.key }).first(where: {
      $0.value.scalars.contains { abs($0) > limit }
    }) {
      throw refuse("holds values beyond ±\(limit) in '\(name)', which are not taken")
    }
    let facts = folder.appendingPathComponent("fedpeat.json")
    self.facts =
      FileManager.default.fileExists(atPath: facts.path)
      ? try JSONFile.read(AdapterFolder.Facts.self, from: facts) : nil
    update.header.classes = header.classes ?? self.facts?.classes
    // A prompt lies outside the blocks, under the same name in all architectures.
    let isPrompt = update.tensors[PromptTuning.tensorName] != nil
    guard
      let architecture = isPrompt
        ? Architectures.all.first : Architectures.architecture(ofTensors: update.tensors.keys)
    else {
      throw refuse(
        "holds tensors of no architecture that this program knows. Supported: "
          + Architectures.supported)
    }
    // An update has the full model's numbers, whatever its folder has.
    keys = try architecture.keys.placed(by: self.facts, "The update '\(path)'").inFullModel
    layout = architecture.layout
    taskType =
      try Self.taskType(in: folder)
      ?? (architecture.seesBothWays && !isPrompt ? AdapterFolder.anyTask : nil)
    do {
      update.header = try update.header.completed(from: folder)
      try update.header.scales?.validate()
      method = try Adapter.Method(
        named: header.method, of: update.tensors, keys, scales: update.header.scales,
        activation: update.header.activation)
      try AdapterContents.check(
        update.tensors, method, keys, hasHead: update.header.classes != nil)
    } catch let error as PeatError {
      throw PeatError.badData("The update '\(path)': \(error.message)", cause: error)
    }
    self.update = update
    try checkRanks(refuse)
    try checkBlocks(refuse)
  }

  private static func taskType(in folder: URL) throws -> String? {
    let url = folder.appendingPathComponent("adapter_config.json")
    guard FileManager.default.fileExists(atPath: url.path) else { return nil }
    return try JSONFile.read(JSONValue.self, from: url)["task_type"]?.string
  }

  private func checkRanks(_ refuse: (String) -> PeatError) throws {
    guard let scales = update.header.scales else { return }
    let ranks = update.tensors.pairRanks
    // Headers of older programs have no pattern.
    if update.header.rankPattern == nil {
      guard ranks.values.contains(scales.rank) else {
        throw refuse(
          "states rank \(scales.rank), but its pairs have "
            + Set(ranks.values).sorted().map(String.init).joined(separator: ", "))
      }
      return
    }
    let layers = Set(ranks.keys.map(LowRankNames.inModel))
    let patterns = Set(scales.rankPattern.keys).union(scales.alphaPattern.keys)
    if let stranger = patterns.subtracting(layers).min() {
      throw refuse("states rank or alpha of '\(stranger)', of which it has no pair")
    }
    for (layer, rank) in ranks.sorted(by: { $0.key < $1.key }) {
      let stated = scales.rank(forLayer: LowRankNames.inModel(layer))
      guard rank == stated else {
        throw refuse("states rank \(stated) of '\(layer)', whose pair has \(rank)")
      }
    }
  }

  private func checkBlocks(_ refuse: (String) -> PeatError) throws {
    guard let facts else { return }
    let known = Set(facts.blocks)
    let blocks = AdapterFolder.blockNumbers(of: update.tensors, keys)
    guard let stranger = blocks.subtracting(known).min() else { return }
    throw refuse(
      "has tensors of block \(stranger), but by its fedpeat.json it sits in the blocks "
        + known.sorted().map(String.init).joined(separator: ", "))
  }
}
