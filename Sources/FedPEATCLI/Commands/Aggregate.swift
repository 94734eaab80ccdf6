import ArgumentParser
import FedPEAT
import Foundation

struct Aggregate: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Make one adapter from several clients' updates.",
    discussion: """
      Example: fedpeat aggregate update-1 update-2 --strategy fedavg --out aggregated

      Each update is a folder with update.safetensors and update.json, such as tune --update writes. All must start from \
      the same adapter: tune them with the same --seed, or --from one folder. The result is an adapter folder in the full \
      model's numbers, which plug-in takes.
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

  @Option(help: "The folder to write.")
  var out: String

  @OptionGroup var common: CommonOptions

  struct Report: Encodable {
    var clients: Int
    var strategy: String
    var exampleCount: Int
    var parameters: Int
    var digest: Digest
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
    let first = try ClientUpdate(contentsOf: URL(path: updates[0]))
    let broadcast = try from.map { try AdapterFolder.read(URL(path: $0)).0 }
    let base = broadcast?.state ?? first.tensors
    let origin = try commonOrigin()
    var total = 0
    var seen: [ClientUpdate] = []
    for path in updates {
      let update = try ClientUpdate(contentsOf: URL(path: path))
      try check(update, path, against: first, base)
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
      seen.append(update)
      try checkInterruption()
    }
    let result = try rule.aggregate(seen, into: base)
    try write(result, first.header, broadcast?.sourceDigest ?? origin, to: target)
    let report = Report(
      clients: seen.count, strategy: strategy, exampleCount: total,
      parameters: result.parameterCount, digest: result.digest)
    try common.report(
      report,
      text: Format.table([
        ["written to", out], ["clients", "\(report.clients)"], ["strategy", strategy],
        ["examples", Format.count(total)], ["parameters", Format.count(report.parameters)],
      ]))
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
    case LoRA.name:
      guard let rank = header.rank, let alpha = header.alpha else {
        throw PeatError.badData(
          "'\(updates[0])/update.json' states no rank and alpha, which LoRA needs.")
      }
      method = .lora(try LoRAConfiguration(rank: rank, alpha: alpha))
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
    _ update: ClientUpdate, _ path: String, against first: ClientUpdate, _ base: NamedTensors
  ) throws {
    func refuse(_ what: String) -> PeatError { .badData("The update '\(path)' \(what).") }
    guard update.exampleCount > 0 else {
      throw refuse("has an exampleCount of \(update.exampleCount)")
    }
    guard update.header.method == first.header.method, update.header.rank == first.header.rank,
      update.header.alpha == first.header.alpha
    else { throw refuse("was tuned with another method, rank or alpha than '\(updates[0])'") }
    guard update.header.baseDigest == first.header.baseDigest else {
      throw refuse(
        "was tuned from another adapter (baseDigest) than '\(updates[0])'; tune both with the same --seed, or --from one adapter"
      )
    }
    for (name, tensor) in base where update.tensors[name]?.shape != tensor.shape {
      throw refuse(
        "has '\(name)' with shape \(update.tensors[name].map { "\($0.shape)" } ?? "none"), expected \(tensor.shape)"
      )
    }
    if let stranger = update.tensors.keys.filter({ base[$0] == nil }).min() {
      throw refuse("has '\(stranger)', which the others do not have")
    }
    if let (name, _) = update.tensors.sorted(by: { $0.key < $1.key }).first(where: {
      !$0.value.isFinite
    }) {
      throw refuse("holds NaN or infinity in '\(name)'")
    }
  }
}
