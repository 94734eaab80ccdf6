import Foundation
import PeatFederation
import PeatTensor
import TestSupport
import Testing

/// What transformers and PEFT compute, asked of the peers' Python.
enum Peers {
  /// One Python at a time: each takes a core and half a gigabyte.
  private static let gate = WorkGate(limit: 1)

  /// Runs a script of Tools/golden that writes `logits`, and returns them. Other tests go on meanwhile.
  static func logits(
    _ script: String, _ folders: [URL], ids: [[Int32]], in scratch: URL
  ) async throws -> Tensor {
    let input = scratch.appendingPathComponent("ids.json")
    let output = scratch.appendingPathComponent("\(UUID().uuidString).safetensors")
    try JSONEncoder().encode(ids).write(to: input)
    _ = try await gate.run {
      try await PeerPython.run(
        script, folders.map(\.path) + [input.path, output.path],
        environment: ["HF_HUB_OFFLINE": "1"], in: scratch)
    }
    let logits = try SafeTensorsFile(contentsOf: output).tensor(named: "logits").copied()
    return logits.reshaped([logits.shape[0] * logits.shape[1], logits.shape[2]])
  }
}
