import ArgumentParser
import FedPEAT
import Foundation

struct PlugInCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "plug-in",
    abstract: "Put a tuned adapter into the full model.",
    discussion: """
      Example: fedpeat plug-in models/stories260K adapter --out tuned --merge

      With --merge a plain checkpoint is written. Without it the adapter is written in the full model's numbers, with a \
      reference to the model; evaluate and generate take such a folder as they take a model.
      """)

  @Argument(help: "The full model: its folder, or its name on the Hub.")
  var model: String

  @Argument(help: "The adapter: its folder, or its name on the Hub.")
  var adapter: String

  @Option(help: "The folder to write.")
  var out: String

  @Flag(help: "Work the adapter into the weights and write a plain checkpoint.")
  var merge = false

  @OptionGroup var common: CommonOptions

  struct Report: Encodable {
    var parameters: Int
    var replacedTensors: Int
    var merged: Bool
    var digest: Digest
  }

  func run() async throws {
    let target = URL(path: out)
    let source = try URL(adapter: adapter)
    try CheckpointWriter.checkOutput(target, inputs: [URL(model: model), source])
    let checkpoint = try Checkpoint(folder: URL(model: model))
      .classifying(as: source)
    guard try EmulatorFacts.read(in: checkpoint.folder) == nil else {
      throw PeatError.badData("'\(model)' is an emulator; plug the adapter into the full model.")
    }
    let full = try checkpoint.model()
    let digest = checkpoint.digest()
    let (tuned, facts) = try AdapterFolder.read(source, for: full)
    for folder in [checkpoint.folder, source]
    where folder.standardizedFileURL == target.standardizedFileURL {
      throw PeatError.usage("--out is a folder that is read from; name another.")
    }
    let (tensors, replaced) = try act(tuned, in: full, digest)
    if let name = replaced.sorted().first(where: { tensors[$0]?.isFinite == false }) {
      throw PeatError.badData(
        "With the adapter '\(adapter)' the model's '\(name)' would hold NaN or infinity.")
    }
    try checkInterruption()
    if merge {
      let types = checkpoint.storageTypes(of: full)
      try CheckpointWriter.write(
        to: target, tensors: tensors, raw: checkpoint.unusedWeights(beside: full),
        configuration: checkpoint.configurationJSON, type: { types[$0] ?? .float32 },
        otherFiles: try checkpoint.filesBesideWeights().merging(CheckpointWriter.mark("merged")) {
          $1
        })
    } else {
      // An aggregate knows its own blocks alone.
      let blocks = facts.flatMap { $0.split == nil ? $0.blocks : nil } ?? Array(full.blocks.indices)
      try AdapterFolder.write(
        tuned,
        facts: .init(
          method: tuned.method.name, sourceDigest: digest, modelDigest: digest,
          split: facts?.split.map {
            .init(
              bottom: $0.bottom, emulator: full.blocks.count - $0.bottom - $0.top, top: $0.top)
          },
          blockMap: Dictionary(uniqueKeysWithValues: blocks.map { (String($0), $0) }),
          model: .init(path: checkpoint.folder.standardizedFileURL.path, digest: digest)),
        configuration: full.configuration, baseModel: checkpoint.folder.standardizedFileURL.path,
        to: target)
    }
    let report = Report(
      parameters: tuned.parameterCount, replacedTensors: replaced.count, merged: merge,
      digest: digest)
    try common.report(
      report,
      text: Format.table(
        [
          ["written to", out],
          ["adapter parameters", Format.count(report.parameters)],
        ]
          // Prefixes, prompts and bottlenecks act beside the model's tensors.
          + (merge || tuned.method.isMergeable
            ? [
              [
                merge ? "tensors replaced" : "tensors it acts on",
                Format.count(report.replacedTensors),
              ]
            ] : [])))
  }

  /// The model's tensors with the adapter worked into them; of a method that no weight can hold, the model's own, once it has been
  /// seen to fit.
  private func act(
    _ tuned: Adapter, in full: TransformerModel, _ digest: Digest
  ) throws -> (tensors: NamedTensors, replaced: [String]) {
    if merge || tuned.method.isMergeable {
      return try PlugIn.mergedTensors(tuned, into: full, digest: digest)
    }
    try PlugIn(tuned, into: full, digest: digest).remove()
    return (full.tensors, [])
  }
}
