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

      \(Strategies.all.filter { !$0.usesControls }.map { "\($0.name.padding(toLength: 14, withPad: " ", startingAt: 0)) \(ServerOptions.spelled($0.summary))" }.joined(separator: "\n"))

      ffa takes updates of tune --freeze-a.
      """)

  @Argument(help: "Update folders.")
  var updates: [String]

  @Option(help: "How they are aggregated: one of the names above.")
  var strategy = FedAvg.name

  @Option(
    help:
      "The adapter folder that all updates started from, which rules of differences need (norm-bound, fedavgm, fedadam, fedyogi, fedadagrad); updates are only checked against each other if not given."
  )
  var from: String?

  @Option(
    help:
      "The full model, a folder or a name on the Hub: each update is checked against its tensors, and the result names it; updates are only checked against each other if not given."
  )
  var model: String?

  @Option(help: "The most examples that an update may say it has, by which it counts.")
  var exampleLimit = CoordinatorConfiguration.usualExampleLimit

  @Option(
    help:
      "LoRA's rank of the result, by fedavg, product and server optimizers on them; the largest of the updates', or that of --from, if not given."
  )
  var rank: Int?

  @OptionGroup var strategyOptions: ServerOptions

  @Option(
    help:
      "A file of what the strategy remembers from one round to the next, such as momentum: read where it is there, and written; nothing is remembered if not given."
  )
  var serverState: String?

  @Option(help: "The folder to write.")
  var out: String

  @OptionGroup var common: CommonOptions

  struct Report: Encodable {
    var clients: Int
    var strategy: String
    var exampleCount: Int
    var parameters: Int
    /// The largest of its low-rank pairs, where it has any.
    var rank: Int?
    var digest: Digest
    /// How far the low-rank products are from their exact weighted mean.
    var relativeError: Double
    /// What else the strategy says: how many updates it took or bounded, what momentum was cut by.
    var notes: [String: Double]
    /// Why the result should not be trusted far, in words.
    var cautions: [String]
  }

  func validate() throws {
    if exampleLimit < 1 {
      throw ValidationError("--example-limit is \(exampleLimit); it must be at least 1.")
    }
    if updates.isEmpty { throw ValidationError("Name at least one update folder.") }
  }

  func run() async throws {
    let rule = try ServerOptions.spelled {
      try Strategies.named(strategy, strategyOptions.options)
    }
    try check(rule)
    try checkRank(rule)
    let folders = updates.map { URL(path: $0).standardizedFileURL.resolvingSymlinksInPath().path }
    var cautions = folders.indices.filter { folders[..<$0].contains(folders[$0]) }.map {
      "'\(updates[$0])' is named more than once, and counts each time"
    }
    let folder = URL(path: out)
    let stateFile = try serverState.map { try checkedStateFile($0, besides: folder) }
    try CheckpointWriter.checkOutput(
      folder, inputs: updates.map(URL.init(path:)) + (try model.map { [try URL(model: $0)] } ?? []),
      isAdapter: true)
    let all = try updates.map { try UpdateFolder($0) }
    if let caution = rule.caution(updates: all.count) {
      cautions.append(ServerOptions.spelled(caution))
    }
    cautions += strangePairs(all)
    cautions.forEach(Terminal.caution)
    let full = try model.map { try FullModel($0, for: all[0]) }
    for folder in all { try full?.check(folder) }
    // Of several ranks the largest holds all.
    guard let widest = all.max(by: { ($0.rank ?? 0) < ($1.rank ?? 0) }) else { return }
    let first = rule.takesMixedRanks ? widest : all[0]
    for folder in all { try check(folder, against: first, rule) }
    let start = try from.map { try startingAdapter(URL(adapter: $0), all, full?.model) }
    var target = Adapter(
      method: start?.method ?? first.method, state: start?.state ?? first.update.tensors,
      sourceDigest: try start?.sourceDigest ?? commonOrigin(all))
    try resize(&target)
    let scales = target.method.lora?.scales.scales(of: target.state) ?? [:]
    var total = 0
    var round = AggregationRound(scales: scales)
    if let stateFile, FileManager.default.fileExists(atPath: stateFile.path) {
      round.state = try StrategyState(contentsOf: stateFile)
    }
    var accumulator = try ServerOptions.spelled {
      try rule.makeAccumulator(into: target.state, round)
    }
    for folder in all {
      guard folder.update.exampleCount <= exampleLimit else {
        throw PeatError.badData(
          "The update '\(folder.path)' says it has \(folder.update.exampleCount) examples, by which it would count; at most \(exampleLimit) are believed. Where that is true, raise --example-limit."
        )
      }
      total += folder.update.exampleCount
      var taken = folder.update
      let own = folder.method.lora?.scales.scales(of: taken.tensors) ?? [:]
      if rule.freezesDown {
        taken.tensors = try withoutDown(taken.tensors, target.state, folder.path)
      }
      do {
        try ServerOptions.spelled {
          try accumulator.add(
            taken,
            scales: own.reduce(into: [:]) { result, entry in
              result[entry.key] = scales[entry.key].map { entry.value / $0 }
            })
        }
      } catch let error as PeatError {
        throw PeatError(error.code, "'\(folder.path)': \(error.message)", cause: error)
      }
      try checkInterruption()
    }
    let aggregated = try ServerOptions.spelled { try accumulator.finish() }
    target.state = aggregated.state
    target = try target.mergingRemainders()
    let result = target.state
    if let name = result.firstNotFinite {
      throw PeatError.badData(
        "Together the updates give a value that is not finite in '\(name)': theirs are too large.")
    }
    var staged: URL?
    if let stateFile {
      if aggregated.memory == StrategyState() {
        Terminal.note("note: '\(strategy)' remembers nothing, so no --server-state is written")
      } else {
        // Both or none: the state first, beside its place.
        let beside = stateFile.appendingPathExtension("new")
        try aggregated.memory.write(to: beside)
        staged = beside
      }
    }
    do { try write(target, first, full, to: folder) } catch {
      if let staged { try? FileManager.default.removeItem(at: staged) }
      throw error
    }
    if let staged, let stateFile { try AtomicOutput.rename(staged, to: stateFile) }
    let report = Report(
      clients: all.count, strategy: strategy, exampleCount: total,
      parameters: result.parameterCount, rank: result.pairRanks.values.max(),
      digest: result.digest,
      relativeError: aggregated.relativeError, notes: aggregated.notes, cautions: cautions)
    var rows = [
      ["written to", out], ["clients", "\(report.clients)"], ["strategy", strategy],
      ["examples", Format.count(total)], ["parameters", Format.count(report.parameters)],
    ]
    if let rank = report.rank {
      let own = all.compactMap(\.rank).max() ?? rank
      rows.append(["rank", rank > own ? "\(rank), from updates of \(own) at most" : "\(rank)"])
    }
    if rule.approximatesMean, report.rank != nil {
      rows.append(["error of products", Format.percent(report.relativeError)])
    }
    rows += report.notes.sorted { $0.key < $1.key }.map { note in
      [
        Self.terms[note.key] ?? note.key,
        note.value == note.value.rounded() ? "\(Int(note.value))" : Format.significant(note.value),
      ]
    }
    try common.report(report, text: Format.table(rows))
  }

  /// Throws where the strategy's state could not be written after the adapter.
  private func checkedStateFile(_ path: String, besides out: URL) throws -> URL {
    let file = URL(path: path).standardizedFileURL
    let inside = out.standardizedFileURL.resolvingSymlinksInPath().path + "/"
    guard !file.resolvingSymlinksInPath().path.hasPrefix(inside) else {
      throw PeatError.usage(
        "--server-state '\(path)' lies in --out '\(out.relativePath)', which is written anew as a whole. Name a file beside it."
      )
    }
    let parent = file.deletingLastPathComponent()
    var isFolder: ObjCBool = false
    guard FileManager.default.fileExists(atPath: parent.path, isDirectory: &isFolder),
      isFolder.boolValue
    else {
      throw PeatError.inputOutput(
        "--server-state '\(path)' can't be written: there is no folder '\(parent.relativePath)'.")
    }
    if FileManager.default.fileExists(atPath: file.path, isDirectory: &isFolder),
      isFolder.boolValue
    {
      throw PeatError.usage("--server-state '\(path)' is a folder; name a file.")
    }
    return file
  }

  /// Where updates look as if they did not belong together.
  private func strangePairs(_ all: [UpdateFolder]) -> [String] {
    let first = all[0].update.header
    var cautions: [String] = []
    for folder in all.dropFirst() {
      let header = folder.update.header
      if header.run != first.run || header.round != first.round {
        cautions.append(
          "'\(folder.path)' is of run '\(header.run)', round \(header.round), '\(all[0].path)' of run '\(first.run)', round \(first.round)"
        )
      }
    }
    // Updates that were tuned by hand have no client's name of their own.
    let named = Dictionary(grouping: all.filter { $0.update.client != UpdateHeader.byHand }) {
      $0.update.client
    }
    for (client, own) in named.sorted(by: { $0.key < $1.key })
    where Set(own.map { URL(path: $0.path).standardizedFileURL.path }).count > 1 {
      cautions.append(
        "'\(client)' counts \(own.count) times: \(own.map { "'\($0.path)'" }.joined(separator: ", ")) are all its updates"
      )
    }
    return cautions
  }

  /// The notes of strategies, in words.
  private static let terms = [
    "clipped": "updates that were cut", "medianNorm": "their median norm",
    "largestNorm": "their largest norm", "taken": "updates that were taken",
    "momentumCut": "left away of the momentum",
  ]

  /// Throws where the rule can't be used on updates of no run.
  private func check(_ rule: any AggregationStrategy) throws {
    if rule.usesControls {
      throw PeatError.usage(
        "The strategy '\(strategy)' needs control variates beside each update, which clients of a run alone have. Take another."
      )
    }
    if rule.needsStart, from == nil {
      throw PeatError.usage(
        "The strategy '\(strategy)' with these options goes from the adapter that updates began with: give it with --from DIR. Where that was a new one, 'fedpeat tune' with --steps 0 and their --seed and flags writes it."
      )
    }
  }

  /// Throws where the rule does not keep to a rank.
  private func checkRank(_ rule: any AggregationStrategy) throws {
    guard let rank else { return }
    guard rule.takesMixedRanks || rule.freezesDown else {
      throw PeatError.usage(
        "--rank does not go with the strategy '\(strategy)', which looks at values of A and B: all updates have one rank, and so has its result. Leave it out."
      )
    }
    if rule.keepsRemainders {
      throw PeatError.usage(
        "--rank does not go with the strategy '\(strategy)', which is exact: its result has the rank that this takes, up to that of all updates together. The best of rank \(rank) is made by --strategy product --rank \(rank)."
      )
    }
    if rule.freezesDown {
      throw PeatError.usage(
        "--rank does not go with the strategy '\(strategy)': A stays as it is, with its rank. Leave it out."
      )
    }
  }

  /// What all updates must have been tuned from.
  ///
  /// - Parameter model: what they are for, where it is given: PEFT's table of a prefix says nothing of blocks.
  private func startingAdapter(
    _ folder: URL, _ all: [UpdateFolder], _ model: TransformerModel?
  ) throws -> Adapter {
    let adapter: Adapter
    if let model {
      adapter = try AdapterFolder.read(folder, for: model).0
    } else {
      do { adapter = try AdapterFolder.read(folder).0 } catch let error as PeatError {
        throw PeatError(
          error.code, error.message + " With --model it is read for that.", cause: error)
      }
    }
    guard adapter.method.name == all[0].method.name else {
      throw PeatError.badData(
        "--from '\(folder.path)' is an adapter of the method '\(adapter.method.name)', the updates are of '\(all[0].method.name)'."
      )
    }
    let digest = adapter.state.digest
    for update in all {
      guard let stated = update.update.header.baseDigest, stated != digest else { continue }
      throw PeatError.badData(
        "The update '\(update.path)' was tuned from the adapter \(stated.short), but '\(folder.path)' is "
          + "\(digest.short).")
    }
    return adapter
  }

  /// Cuts pairs to `--rank`, the first components, at the same scales.
  private func resize(_ adapter: inout Adapter) throws {
    guard let rank else { return }
    guard case .lora(var lora) = adapter.method else {
      throw PeatError.usage(
        "--rank is LoRA's and DoRA's; the method '\(adapter.method.name)' has no rank.")
    }
    let own = adapter.state.pairRanks.values.max() ?? 1
    guard rank >= 1, rank <= own else {
      throw PeatError.usage(
        "--rank is \(rank); it must be between 1 and \(own), the largest there is.")
    }
    var state = adapter.state
    for layer in state.lowRankLayers {
      guard let pair = state.pair(of: layer), pair.rank > rank else { continue }
      state.setPair(pair.components(0..<rank), of: layer)
    }
    lora.scales = lora.scales.fitted(to: rank, state, from: adapter.state)
    adapter.method = .lora(lora)
    adapter.state = state
  }

  /// For rules by which A does not train: an update without it, where it is the base's.
  private func withoutDown(
    _ tensors: NamedTensors, _ base: NamedTensors, _ path: String
  ) throws -> NamedTensors {
    for layer in tensors.lowRankLayers
    where tensors[layer + LowRankNames.down] != base[layer + LowRankNames.down] {
      throw PeatError.badData(
        "The update '\(path)' has another A of '\(layer)' than \(from == nil ? "'\(updates[0])'" : "--from"), but by the "
          + "strategy '\(strategy)' A does not train: \(from == nil ? "one of the two was" : "it was") not tuned with --freeze-a, or from another start. Tune all with --freeze-a from one adapter, or take another strategy."
      )
    }
    return tensors.filter { LowRankNames.layer(ofDown: $0.key) == nil }
  }

  /// The digest of the full model that the updates' folders name; `nil` where none does.
  private func commonOrigin(_ all: [UpdateFolder]) throws -> Digest? {
    var origin: (digest: Digest, path: String)?
    for update in all {
      guard let digest = update.facts?.sourceDigest else { continue }
      if let origin, origin.digest != digest {
        throw PeatError.badData(
          "The updates are for different models: '\(origin.path)' for \(origin.digest.short), '\(update.path)' for "
            + "\(digest.short).")
      }
      origin = (digest, update.path)
    }
    return origin?.digest
  }

  private func write(
    _ adapter: Adapter, _ first: UpdateFolder, _ full: FullModel?, to target: URL
  ) throws {
    let blocks = AdapterFolder.blockNumbers(of: adapter.state, first.keys)
    let origin = full?.digest ?? adapter.sourceDigest
    var facts = AdapterFolder.Facts(
      method: adapter.method.name, sourceDigest: origin, modelDigest: origin, split: nil,
      blockMap: Dictionary(uniqueKeysWithValues: blocks.map { (String($0), $0) }))
    facts.classes = first.update.header.classes
    guard let full else {
      try AdapterFolder.write(
        adapter, facts: facts, keys: first.keys, layout: first.layout, taskType: first.taskType,
        baseModel: "", to: target)
      return
    }
    facts.model = .init(path: full.folder, digest: full.digest)
    try AdapterFolder.write(
      adapter, facts: facts, configuration: full.model.configuration, baseModel: full.folder,
      to: target)
  }

  /// Throws where an update can't be mixed with another.
  private func check(
    _ folder: UpdateFolder, against first: UpdateFolder, _ rule: any AggregationStrategy
  ) throws {
    func refuse(_ what: String) -> PeatError {
      .badData("The update '\(folder.path)' \(what) than '\(first.path)'.")
    }
    guard folder.method.name == first.method.name else {
      throw refuse("was tuned with another method (\(folder.method.name))")
    }
    let hasSameRanks = folder.update.tensors.pairRanks == first.update.tensors.pairRanks
    guard hasSameRanks || rule.takesMixedRanks else {
      throw PeatError.badData(
        "The update '\(folder.path)' has other ranks than '\(first.path)', and the strategy '\(strategy)' takes those of the same ranks alone. Tune all with one --rank, or take a rule that mixes them: fedavg, fedex, product or product-exact."
      )
    }
    if hasSameRanks || !rule.takesMixedRanks {
      guard
        folder.method.lora?.scales.resolved(for: folder.update.tensors)
          == first.method.lora?.scales.resolved(for: first.update.tensors)
      else {
        throw PeatError.badData(
          "The update '\(folder.path)' was tuned with \(folder.scaling), '\(first.path)' with \(first.scaling): updates of the same ranks scale their products alike. Tune both with the same --rank, --alpha and patterns."
        )
      }
    }
    if case .bottleneck = folder.method, folder.method != first.method {
      throw refuse("was tuned with another bottleneck or activation")
    }
    guard folder.update.header.classes == first.update.header.classes else {
      throw refuse("tells other classes apart")
    }
    guard !hasSameRanks || folder.update.header.baseDigest == first.update.header.baseDigest else {
      throw PeatError.badData(
        "The update '\(folder.path)' was tuned from another adapter (baseDigest) than '\(first.path)'; tune both with the same "
          + "--seed, or --from one adapter.")
    }
  }
}

/// What all updates are for.
private struct FullModel {
  var folder: String
  var model: TransformerModel
  var digest: Digest

  init(_ path: String, for update: UpdateFolder) throws {
    var checkpoint = try Checkpoint(folder: URL(model: path))
    guard try EmulatorFacts.read(in: checkpoint.folder) == nil else {
      throw PeatError.badData(
        "'\(path)' is an emulator; updates have the full model's numbers: give that with --model.")
    }
    // The head's weights are the update's own.
    if let classes = update.update.header.classes {
      checkpoint = try checkpoint.classifying(classes, seed: 0, head: .fitted)
    }
    folder = checkpoint.folder.standardizedFileURL.path
    model = try checkpoint.model()
    digest = checkpoint.digest()
  }

  /// Throws where the update is for another model, or has tensors that this one has no place for.
  func check(_ update: UpdateFolder) throws {
    let adapter = Adapter(
      method: update.method, state: update.update.tensors, sourceDigest: update.facts?.sourceDigest)
    do {
      try PlugIn(adapter, into: model, digest: digest).remove()
      try checkComplete(update)
    } catch let error as PeatError {
      throw PeatError(
        error.code, "The update '\(update.path)' is not one for '\(folder)': \(error.message)",
        cause: error)
    }
  }

  /// Throws where the update lacks something of the adapter that lies beside it.
  private func checkComplete(_ update: UpdateFolder) throws {
    let place = URL(path: update.path)
    guard
      FileManager.default.fileExists(
        atPath: place.appendingPathComponent("adapter_model.safetensors").path)
    else { return }
    let whole = try AdapterFolder.read(place, for: model).0.state
    guard let missing = whole.keys.filter({ update.update.tensors[$0] == nil }).min() else {
      return
    }
    throw PeatError.badData(
      "It lacks '\(missing)', which the adapter beside it has.")
  }
}

extension UpdateFolder {
  /// The largest of its pairs.
  fileprivate var rank: Int? { update.tensors.pairRanks.values.max() }

  /// r and α of its pairs, in words.
  fileprivate var scaling: String {
    guard let scales = method.lora?.scales.resolved(for: update.tensors) else { return "none" }
    let single = Set(scales.alphaPattern.keys).union(scales.rankPattern.keys).count
    return "r \(scales.rank) and α \(Format.number(scales.alpha, digits: 3))"
      + (scales.isRankStabilized ? ", rank-stabilized" : "")
      + (single > 0 ? ", others for \(single) layers" : "")
  }
}
