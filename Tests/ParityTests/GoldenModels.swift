import Foundation
import PeatModels
import PeatTensor
import TestSupport

/// The tiny checkpoints of Golden/checkpoints.
enum GoldenModels {
  static let names = [
    "llama-tiny", "llama-tiny-untied", "llama-tiny-bf16", "gpt2-tiny", "gpt2-tiny-f16",
  ]

  static func folder(_ name: String) -> URL {
    ProjectFolders.golden.appendingPathComponent("checkpoints/\(name)")
  }

  static func checkpoint(_ name: String) throws -> Checkpoint {
    try Checkpoint(folder: folder(name))
  }

  static func model(_ name: String) throws -> TransformerModel { try checkpoint(name).model() }
}

extension GoldenCase {
  /// Rows of token numbers.
  func rows(_ name: String = "inputIDs") throws -> [[Int32]] {
    try fact(name, as: [[Int]].self).map { $0.map(Int32.init) }
  }

  /// A `[B, T, width]` tensor as the rows `[B·T, width]` that activations are.
  func matrix(_ name: String) throws -> Tensor {
    let tensor = try tensor(name)
    return tensor.reshaped([tensor.count / (tensor.shape.last ?? 1), tensor.shape.last ?? 1])
  }
}

extension TransformerModel {
  /// Logits of equally long rows.
  func logits(_ rows: [[Int32]]) -> Tensor {
    logits(rows.flatMap { $0 }, length: rows[0].count)
  }

  /// The mean loss of predicting each row's next tokens.
  func meanLoss(_ rows: [[Int32]]) -> Double {
    let inputs = rows.flatMap { $0.dropLast() }
    let targets = rows.flatMap { $0.dropFirst() }
    return inputs.withUnsafeBufferPointer { inputs in
      targets.withUnsafeBufferPointer { targets in
        loss(
          inputs, targets: targets,
          layout: SequenceLayout(rows: inputs.count, length: rows[0].count - 1), on: Tape()
        ).mean
      }
    }
  }
}

/// The relative distance ‖a − b‖ / ‖b‖, over the elements outside `skipped`.
func frobeniusDistance(_ found: Tensor, _ expected: Tensor, skipping skipped: Set<Int> = [])
  -> Double
{
  guard found.shape == expected.shape else { return .infinity }
  var difference = 0.0
  var size = 0.0
  for (index, (a, b)) in zip(found.scalars, expected.scalars).enumerated() {
    if skipped.contains(index) { continue }
    difference += (Double(a) - Double(b)) * (Double(a) - Double(b))
    size += Double(b) * Double(b)
  }
  return size == 0 ? difference.squareRoot() : (difference / size).squareRoot()
}
