import ArgumentParser
import FedPEAT
import Foundation

struct Export: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Write an emulator as a plain checkpoint.",
    discussion: """
      Example: fedpeat export emulator --out plain

      Emulators of whole blocks load in transformers as they are. This one writes any emulator so, as a model that computes \
      the same: packed matrices unpacked, factors multiplied, missing heads and channels filled with zeros, a shared \
      block stored as often as it is run. It is as large as float32 blocks of the full model's width are.
      """)

  @Argument(help: "The emulator: its folder, or its name on the Hub.")
  var emulator: String

  @Option(help: "The folder to write.")
  var out: String

  @OptionGroup var common: CommonOptions

  struct Report: Encodable {
    var recipe: String
    var bytes: Int
    var emulatorBytes: Int
    var blocks: Int
    var storedBlocks: Int
    var parameters: Int
    var folder: String
  }

  func run() async throws {
    let target = URL(path: out)
    try CheckpointWriter.checkOutput(target, inputs: [URL(model: emulator)])
    let source = try Checkpoint(folder: URL(model: emulator))
    guard source.emulatorJSON != nil else {
      throw PeatError.badData(
        "'\(emulator)' is a plain checkpoint already: it has no emulator.json, and transformers loads it as it is. Name the folder of an emulator, as 'fedpeat compress' makes one."
      )
    }
    let own = try Emulator(folder: source.folder)
    try checkInterruption()
    let plain = try own.export(to: target, source: source)
    let report = Report(
      recipe: own.recipe.description, bytes: try Checkpoint(folder: target).byteCount,
      emulatorBytes: source.byteCount, blocks: plain.blocks.count,
      storedBlocks: own.model.blocks.count, parameters: plain.parameterCount,
      folder: target.relativePath)
    try common.report(
      report,
      text: Format.table([
        ["written to", report.folder], ["recipe", report.recipe],
        ["blocks", "\(report.blocks), of \(report.storedBlocks) that the emulator stores"],
        ["parameters", Format.count(report.parameters)],
        [
          "bytes",
          "\(Format.count(report.bytes)), the emulator's are \(Format.count(report.emulatorBytes))",
        ],
      ]))
  }
}
