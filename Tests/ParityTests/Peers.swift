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
    let python = try #require(PeerPython.path)
    let input = scratch.appendingPathComponent("ids.json")
    let output = scratch.appendingPathComponent("\(UUID().uuidString).safetensors")
    try JSONEncoder().encode(ids).write(to: input)
    let tools = ProjectFolders.root.appendingPathComponent("Tools/golden")
    let arguments =
      [tools.appendingPathComponent(script).path] + folders.map(\.path) + [input.path, output.path]
    let environment = ProcessInfo.processInfo.environment.merging([
      "HF_HUB_OFFLINE": "1", "PYTHONDONTWRITEBYTECODE": "1",
    ]) { $1 }
    let log = scratch.appendingPathComponent("log.txt")
    try Data().write(to: log)
    let status = try await gate.run {
      let process = Process()
      process.executableURL = URL(fileURLWithPath: python)
      process.arguments = arguments
      process.environment = environment
      let handle = try FileHandle(forWritingTo: log)
      process.standardOutput = handle
      process.standardError = handle
      try process.run()
      while process.isRunning { try await Task.sleep(for: .milliseconds(5)) }
      return process.terminationStatus
    }
    let said = String(decoding: try Data(contentsOf: log), as: UTF8.self)
    try #require(status == 0, "\(script) failed: \(said.suffix(2000))")
    let logits = try SafeTensorsFile(contentsOf: output).tensor(named: "logits").copied()
    return logits.reshaped([logits.shape[0] * logits.shape[1], logits.shape[2]])
  }
}
