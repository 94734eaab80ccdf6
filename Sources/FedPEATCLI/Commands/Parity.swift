import ArgumentParser
import FedPEAT
import Foundation

struct Parity: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Compare what this program computes of models with what transformers does.",
    discussion: """
      Example: fedpeat parity model

      Logits, loss, and the gradient of every weight, each as the largest difference over the largest value. What transformers computes lies \
      in the model's folder as reference.safetensors; Tools/golden/reference.py MODEL makes it, which needs Python with transformers.
      """)

  @Argument(
    help:
      "Models, each with its reference.safetensors: folders, or names on the Hub of what is in the cache."
  )
  var models: [String]

  @Option(help: "The largest difference that counts as agreement.")
  var tolerance = 1e-4

  @OptionGroup var common: CommonOptions

  struct Row: Encodable {
    var model: String
    var architecture: String
    var parameters: Int
    var agreement: ModelReference.Agreement
  }

  struct Report: Encodable {
    var agrees: Bool
    var models: [Row]
  }

  func run() async throws {
    var rows: [Row] = []
    for name in models {
      let folder = try URL(model: name)
      let reference = try ModelReference(
        contentsOf: folder.appendingPathComponent(ModelReference.fileName))
      try checkInterruption()
      let checkpoint = try Checkpoint(folder: folder)
      let model = try checkpoint.model()
      rows.append(
        Row(
          model: folder.lastPathComponent, architecture: checkpoint.configuration.modelType,
          parameters: model.parameterCount,
          agreement: try reference.agreement(of: model, threads: common.threadCount)))
    }
    let worst = rows.reduce(0) {
      max($0, $1.agreement.logits, $1.agreement.loss, $1.agreement.gradient)
    }
    try common.report(
      Report(agrees: worst <= tolerance, models: rows),
      text: Format.table(
        [["model", "architecture", "logits", "loss", "gradients", "furthest"]]
          + rows.map { row in
            [
              row.model, row.architecture, Self.short(row.agreement.logits),
              Self.short(row.agreement.loss), Self.short(row.agreement.gradient),
              row.agreement.furthest,
            ]
          }))
    if worst > tolerance {
      throw PeatError.badData(
        "The largest difference is \(Self.short(worst)), more than --tolerance \(Self.short(tolerance))."
      )
    }
  }

  private static func short(_ number: Double) -> String { String(format: "%.1e", number) }
}
