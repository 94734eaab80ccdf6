import Foundation
import Testing

/// The Python that has PyTorch, transformers and PEFT, for what only they can say: `FEDPEAT_PYTHON`, or the one in
/// `../shared/peers` once it has made its environment.
public enum PeerPython {
  public static let path: String? = {
    let environment = ProcessInfo.processInfo.environment
    if let path = environment["FEDPEAT_PYTHON"], !path.isEmpty { return path }
    let shared = ProjectFolders.root.deletingLastPathComponent()
      .appendingPathComponent("shared/peers/python").path
    // Its first call downloads; no test may start that.
    let home = environment["FEDPEAT_PEERS"] ?? "\(environment["HOME"] ?? "")/.cache/fedpeat-peers"
    let isReady = FileManager.default.fileExists(atPath: "\(home)/.ok")
    return isReady && FileManager.default.isExecutableFile(atPath: shared) ? shared : nil
  }()

  /// Runs a script of Tools/golden; gives what it writes to standard output.
  ///
  /// - Throws: where it ends with an error, with what it said.
  public static func run(
    _ script: String, _ arguments: [String], environment: [String: String] = [:], in scratch: URL
  ) async throws -> Data {
    let python = try #require(path)
    let tools = ProjectFolders.root.appendingPathComponent("Tools/golden")
    let output = scratch.appendingPathComponent("\(UUID().uuidString).out")
    let log = scratch.appendingPathComponent("\(UUID().uuidString).log")
    for url in [output, log] { try Data().write(to: url) }
    let process = Process()
    process.executableURL = URL(fileURLWithPath: python)
    process.arguments = [tools.appendingPathComponent(script).path] + arguments
    process.environment = ProcessInfo.processInfo.environment
      .merging(["PYTHONDONTWRITEBYTECODE": "1"]) { $1 }.merging(environment) { $1 }
    try process.run(output: output, errors: log)
    while process.isRunning { try await Task.sleep(for: .milliseconds(5)) }
    let said = String(decoding: try Data(contentsOf: log), as: UTF8.self)
    try #require(process.terminationStatus == 0, "\(script) failed: \(said.suffix(2000))")
    return try Data(contentsOf: output)
  }
}

extension Trait where Self == ConditionTrait {
  /// Skips the test where there is no Python with the peers.
  public static var needsPeers: Self {
    .enabled(
      if: PeerPython.path != nil,
      "no Python with torch, transformers and peft. Set FEDPEAT_PYTHON to one that has them.")
  }
}
