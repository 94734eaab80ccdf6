import Foundation
import PeatData
import PeatModels
import PeatTensor
import PeatTuning
import TestSupport
import Testing

let someTokens: [Int32] = [1, 5, 90, 33, 0, 96, 7, 7, 12]

/// A golden checkpoint: `llama-tiny` has five blocks, `gpt2-tiny` three.
func checkpoint(_ name: String = "llama-tiny") throws -> Checkpoint {
  try Checkpoint(folder: ProjectFolders.golden.appendingPathComponent("checkpoints/\(name)"))
}

extension TransformerModel {
  var someLogits: Tensor { logits(someTokens, length: someTokens.count) }
}

extension Adapter {
  /// A LoRA adapter whose B is not zero, so that it does something.
  static func active(
    for model: TransformerModel, blocks: [Int], rank: Int = 4, targets: [String]? = nil,
    sourceDigest: Digest? = nil, seed: UInt64 = 1
  ) throws -> Adapter {
    let method = Method.lora(
      try LoRAConfiguration(rank: rank, alpha: 8, targetModules: targets))
    var adapter = try Adapter(
      new: method, for: model, blocks: blocks, seed: seed, sourceDigest: sourceDigest)
    var random = SeededRandom(seed: seed, "active")
    for (name, tensor) in adapter.state.sorted(by: { $0.key < $1.key })
    where name.hasSuffix("lora_B.weight") {
      adapter.state[name] = randomTensor(tensor.shape, &random, scale: 0.2)
    }
    return adapter
  }
}

/// Documents of random tokens below 97, of different lengths.
func randomSequences(_ count: Int, seed: UInt64 = 1) -> [TokenSequence] {
  var random = SeededRandom(seed: seed)
  return (0..<count).map { _ in
    let length = 6 + random.integer(below: 20)
    return TokenSequence((0..<length).map { _ in Int32(random.integer(below: 97)) })
  }
}
