import ArgumentParser
import FedPEAT
import Foundation

struct Aggregate: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Make one adapter from several clients' updates.",
    discussion: """
      Example: fedpeat aggregate update-1 update-2 --strategy fedavg --out aggregated

      Each update is a folder with update.safetensors and update.json, such as tune --update writes. All must start from \
      the same adapter: tune them with the same --seed, or --from one folder; only LoRA's rank may differ, and with it the \
      start. The result is an adapter folder in the full model's numbers, which plug-in takes.

      \(Strategies.all.map { "\($0.name.padding(toLength: 14, withPad: " ", startingAt: 0)) \($0.summary)" }.joined(separator: "\n"))
      """)

  @Argument(help: "Update folders.")
  var updates: [String]

  @Option(help: "How they are aggregated: \(Strategies.names.joined(separator: ", ")).")
  var strategy = FedAvg.name

  @Option(
    help:
      "The adapter folder that all updates started from; they are only checked against each other if not given."
  )
  var from: String?

  @Option(
    help: "LoRA's rank of the result; the largest of the updates', or that of --from, if not given."
  )
  var rank: Int?

  @Option(help: "The folder to write.")
  var out: String

  @OptionGroup var common: CommonOptions

  struct Report: Encodable {
    var clients: Int
    var strategy: String
    var exampleCount: Int
    var parameters: Int
    var digest: Digest
    /// How far the low-rank products are from their exact weighted mean.
    var relativeError: Double
  }

  func validate() throws {
    if updates.isEmpty { throw ValidationError("Name at least one update folder.") }
  }

  func run() async throws {
    let rule = try Strategies.named(strategy)
    let folders = updates.map { URL(path: $0).standardizedFileURL.resolvingSymlinksInPath().path }
    for index in folders.indices where folders[..<index].contains(folders[index]) {
      Terminal.note("note: '\(updates[index])' is named more than once, and counts each time")
    }
    let target = URL(path: out)
    try CheckpointWriter.checkOutput(target, inputs: updates.map(URL.init(path:)))
    let all = try updates.map { try ClientUpdate(contentsOf: URL(path: $0)) }
    // Of several ranks the largest holds all.
    guard let widest = all.max(by: { ($0.header.rank ?? 0) < ($1.header.rank ?? 0) }) else {
      return
    }
    let first = rule.takesMixedRanks ? widest : all[0]
    let broadcast = try from.map { try AdapterFolder.read(URL(path: $0)).0 }
    var header = first.header
    if let rank = broadcast?.method.lora?.rank { header.rank = rank }
    if let alpha = broadcast?.method.lora?.alpha { header.alpha = alpha }
    let base = try resized(broadcast?.state ?? first.tensors, &header)
    let origin = try commonOrigin()
    var total = 0
    var accumulator = rule.makeAccumulator(into: base)
    for (path, update) in zip(updates, all) {
      try check(update, path, against: first, rule)
      if let from, let broadcast, let stated = update.header.baseDigest,
        stated != broadcast.state.digest
      {
        throw PeatError.badData(
          "The update '\(path)' was tuned from the adapter \(stated.short), but '\(from)' is "
            + "\(broadcast.state.digest.short).")
      }
      let (sum, overflow) = total.addingReportingOverflow(update.exampleCount)
      guard !overflow else { throw PeatError.badData("'\(path)' has an absurd exampleCount.") }
      total = sum
      var taken = update
      if rule.freezesDown { taken.tensors = try withoutDown(update.tensors, base, path) }
      do {
        try accumulator.add(taken, scale: scale(of: update.header) / scale(of: header))
      } catch let error as PeatError {
        throw PeatError(error.code, "'\(path)': \(error.message)", cause: error)
      }
      try checkInterruption()
    }
    let aggregated = try accumulator.finish()
    let result = aggregated.state
    try write(result, header, broadcast?.sourceDigest ?? origin, to: target)
    let report = Report(
      clients: all.count, strategy: strategy, exampleCount: total,
      parameters: result.parameterCount, digest: result.digest,
      relativeError: aggregated.relativeError)
    try common.report(
      report,
      text: Format.table([
        ["written to", out], ["clients", "\(report.clients)"], ["strategy", strategy],
        ["examples", Format.count(total)], ["parameters", Format.count(report.parameters)],
        ["error of products", Format.percent(report.relativeError)],
      ]))
  }

  /// The adapter with pairs of `--rank`, the first components; the header then says so, with the same scale.
  private func resized(
    _ state: NamedTensors, _ header: inout UpdateHeader
  ) throws -> NamedTensors {
    guard let rank else { return state }
    guard let own = header.rank, let alpha = header.alpha else {
      throw PeatError.usage("--rank is LoRA's; the method '\(header.method)' has no rank.")
    }
    guard (1...own).contains(rank) else {
      throw PeatError.usage(
        "--rank is \(rank); it must be between 1 and \(own), the largest there is.")
    }
    header.rank = rank
    header.alpha = alpha * Double(rank) / Double(own)
    var result = state
    for layer in state.lowRankLayers {
      guard let pair = state.pair(of: layer), pair.down.shape.count == 2,
        pair.up.shape.count == 2, pair.rank == pair.up.shape[1], pair.rank > rank
      else { continue }
      result.setPair(pair.components(0..<rank), of: layer)
    }
    return result
  }

  /// What multiplies B · A.
  private func scale(of header: UpdateHeader) -> Double {
    guard let rank = header.rank, let alpha = header.alpha, rank > 0, alpha > 0 else { return 1 }
    return alpha / Double(rank)
  }

  /// For rules by which A does not train: an update without it, where it is the base's.
  private func withoutDown(
    _ tensors: NamedTensors, _ base: NamedTensors, _ path: String
  ) throws -> NamedTensors {
    for layer in tensors.lowRankLayers
    where tensors[layer + LowRankNames.down] != base[layer + LowRankNames.down] {
      throw PeatError.badData(
        "The update '\(path)' has another A of '\(layer)' than \(from == nil ? "'\(updates[0])'" : "--from"), but by the "
          + "strategy '\(strategy)' A does not train. Tune with --freeze-a, or take another strategy."
      )
    }
    return tensors.filter { LowRankNames.layer(ofDown: $0.key) == nil }
  }

  /// The digest of the full model that the updates' folders name; `nil` where none does.
  private func commonOrigin() throws -> Digest? {
    var origin: (digest: Digest, path: String)?
    for path in updates {
      let facts = URL(path: path).appendingPathComponent("fedpeat.json")
      guard FileManager.default.fileExists(atPath: facts.path),
        let digest = try JSONFile.read(AdapterFolder.Facts.self, from: facts).sourceDigest
      else { continue }
      if let origin, origin.digest != digest {
        throw PeatError.badData(
          "The updates are for different models: '\(origin.path)' for \(origin.digest.short), '\(path)' for "
            + "\(digest.short).")
      }
      origin = (digest, path)
    }
    return origin?.digest
  }

  private func write(
    _ tensors: NamedTensors, _ header: UpdateHeader, _ source: Digest?, to target: URL
  ) throws {
    let method: Adapter.Method
    switch header.method {
    case LoRA.name, LoRA.magnitudeName:
      guard let rank = header.rank, let alpha = header.alpha else {
        throw PeatError.badData(
          "'\(updates[0])/update.json' states no rank and alpha, which LoRA needs.")
      }
      var lora = try LoRAConfiguration(
        rank: rank, alpha: alpha, usesMagnitudes: header.method == LoRA.magnitudeName)
      // The update's folder may be an adapter's too, which says the rest.
      let folder = URL(path: updates[0])
      if FileManager.default.fileExists(
        atPath: folder.appendingPathComponent("adapter_config.json").path),
        let stated = try AdapterFolder.read(folder).0.method.lora
      {
        if stated.usesRankStabilizedScale, self.rank != nil {
          throw PeatError.usage(
            "--rank can't be given where LoRA's scale is alpha / √rank; leave it out.")
        }
        lora.usesRankStabilizedScale = stated.usesRankStabilizedScale
        lora.alphaPattern = stated.alphaPattern
      }
      method = .lora(lora)
    case EndBlocks.name: method = .endBlocks
    default:
      guard Adapter.Method.names.contains(header.method) else {
        throw PeatError.badData(
          "'\(updates[0])' was tuned with the method '\(header.method)'. Known: "
            + Adapter.Method.names.joined(separator: ", ") + ".")
      }
      // The update's folder is an adapter's too, which says the rest.
      method = try AdapterFolder.readFiles(URL(path: updates[0])).method
      guard method.name == header.method else {
        throw PeatError.badData(
          "'\(updates[0])' is an update of the method '\(header.method)' beside an adapter of '\(method.name)'."
        )
      }
    }
    // A prompt lies outside the blocks, under the same name in all architectures.
    let shared = tensors.keys.allSatisfy { $0 == PromptTuning.tensorName }
    guard
      let architecture = shared
        ? Architectures.all.first : Architectures.architecture(ofTensors: tensors.keys)
    else {
      throw PeatError.badData(
        "'\(updates[0])' holds tensors of no architecture that this program knows. Supported: "
          + Architectures.all.map { $0.modelType }.sorted().joined(separator: ", ") + ".")
    }
    let blocks = AdapterFolder.blockNumbers(of: tensors, architecture.keys)
    try AdapterFolder.write(
      Adapter(method: method, state: tensors, sourceDigest: source),
      facts: .init(
        method: method.name, sourceDigest: source, modelDigest: source, split: nil,
        blockMap: Dictionary(uniqueKeysWithValues: blocks.map { (String($0), $0) })),
      keys: architecture.keys, layout: architecture.layout, baseModel: "", to: target)
  }

  private func check(
    _ update: ClientUpdate, _ path: String, against first: ClientUpdate,
    _ rule: any AggregationStrategy
  ) throws {
    func refuse(_ what: String) -> PeatError { .badData("The update '\(path)' \(what).") }
    guard update.exampleCount > 0 else {
      throw refuse("has an exampleCount of \(update.exampleCount)")
    }
    let isSameRank = update.header.rank == first.header.rank
    guard update.header.method == first.header.method,
      isSameRank
        ? update.header.alpha == first.header.alpha
        : rule.takesMixedRanks && update.header.rank != nil
    else { throw refuse("was tuned with another method, rank or alpha than '\(updates[0])'") }
    guard !isSameRank || update.header.baseDigest == first.header.baseDigest else {
      throw refuse(
        "was tuned from another adapter (baseDigest) than '\(updates[0])'; tune both with the same --seed, or --from one adapter"
      )
    }
    let ranks = Set(
      update.tensors.lowRankLayers.compactMap {
        update.tensors[$0 + LowRankNames.down]?.shape.first
      })
    if let rank = update.header.rank, !ranks.isEmpty, !ranks.contains(rank) {
      throw refuse(
        "states rank \(rank), but its pairs have \(ranks.sorted().map(String.init).joined(separator: ", "))"
      )
    }
    if let (name, _) = update.tensors.sorted(by: { $0.key < $1.key }).first(where: {
      !$0.value.isFinite
    }) {
      throw refuse("holds NaN or infinity in '\(name)'")
    }
  }
}
