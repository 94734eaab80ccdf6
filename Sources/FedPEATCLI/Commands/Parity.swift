import ArgumentParser
import FedPEAT
import Foundation
import PeatEvaluation
import PeatModels
import PeatTensor

/// `fedpeat parity`: whether this program computes of a checkpoint what another does.
struct Parity: FedpeatCommand {
  static let configuration = CommandConfiguration(
    abstract: "Compare what this program computes of a model with what transformers does.",
    discussion: """
      Example: fedpeat parity model reference.safetensors

      Logits, the loss, and the gradient of every weight, each as the largest difference over the largest value. The reference is made by
      Tools/golden/reference.py MODEL reference.safetensors, which needs Python with transformers.
      """)

  @OptionGroup var common: CommonOptions
  @Argument(help: "The model's folder.")
  var model: String
  @Argument(help: "A file that reference.py made of it.")
  var reference: String

  func run(_ output: Output) async throws {
    let checkpoint = try Checkpoint(folder: folder(model))
    let reference = try ModelReference(contentsOf: URL(fileURLWithPath: reference))
    let found = try reference.agreement(of: checkpoint.model(), threads: common.threadCount)
    output.line("architecture      \(checkpoint.configuration.modelType)")
    output.line("logits            \(scientific(found.logits))")
    output.line("loss              \(scientific(found.loss))")
    output.line(
      "gradients         \(scientific(found.gradient)) at most, of \(found.gradients): \(found.furthest)")
    try output.json(
      Report(architecture: checkpoint.configuration.modelType, agreement: found))
  }

  private struct Report: Encodable {
    var architecture: String
    var agreement: ModelReference.Agreement
  }
}
