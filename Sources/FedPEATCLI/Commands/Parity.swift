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

  /// A model of which nothing can be compared.
  struct Failure: Encodable {
    var model: String
    var reason: String
  }

  struct Report: Encodable {
    var agrees: Bool
    var models: [Row]
    var failures: [Failure]
  }

  func run() async throws {
    var rows: [Row] = []
    var failures: [Failure] = []
    var failure: PeatError?
    for name in models {
      try checkInterruption()
      do { rows.append(try row(of: URL(model: name))) } catch let error as PeatError
        where error.code != .interrupted
      {
        failures.append(Failure(model: URL(path: name).lastPathComponent, reason: error.message))
        failure = failure ?? error
      }
    }
    // A single one's reason is the command's.
    if rows.isEmpty, failures.count == 1, let failure { throw failure }
    let worst = rows.reduce(0) {
      max($0, $1.agreement.logits, $1.agreement.loss, $1.agreement.gradient)
    }
    let heading = ["model", "architecture", "logits", "loss", "gradients", "furthest"]
    let table =
      [heading]
      + rows.map { row in
        [
          row.model, row.architecture, Self.short(row.agreement.logits),
          Self.short(row.agreement.loss), Self.short(row.agreement.gradient),
          row.agreement.furthest,
        ]
      }
    try common.report(
      Report(agrees: worst <= tolerance && failures.isEmpty, models: rows, failures: failures),
      text: ([Format.table(table)] + failures.map { "\($0.model): \($0.reason)" })
        .joined(separator: "\n"))
    if worst > tolerance {
      throw PeatError.badData(
        "The largest difference is \(Self.short(worst)), more than --tolerance \(Self.short(tolerance))."
      )
    }
    if let failure {
      throw PeatError(
        failure.code,
        "\(failures.count) of \(models.count) models could not be compared: \(failures.map(\.model).joined(separator: ", ")).",
        cause: failure)
    }
  }

  private func row(of folder: URL) throws -> Row {
    let checkpoint = try Checkpoint(folder: folder)
    let file = folder.appendingPathComponent(ModelReference.fileName)
    guard FileManager.default.fileExists(atPath: file.path) else {
      throw PeatError.inputOutput(
        "'\(folder.path)' has no \(ModelReference.fileName), what transformers computes of it. 'python Tools/golden/reference.py \(folder.path)' makes it, in the project's folder "
          + "and with a Python that has torch, transformers and safetensors.")
    }
    let reference = try ModelReference(contentsOf: file)
    let model = try checkpoint.model()
    return Row(
      model: folder.lastPathComponent, architecture: checkpoint.configuration.modelType,
      parameters: model.parameterCount,
      agreement: try reference.agreement(of: model, threads: common.threadCount))
  }

  private static func short(_ number: Double) -> String { String(format: "%.1e", number) }
}
