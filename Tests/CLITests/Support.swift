import Foundation
import TestSupport
import Testing

/// The verbs of DESIGN's table.
let verbs = [
  "demo", "pull", "inspect", "evaluate", "generate", "compress", "export", "tune", "plug-in",
  "aggregate", "serve", "join", "simulate", "attack", "compare-emulators", "reports", "pretrain",
  "calibrate", "estimate",
  "train-controller", "evaluate-controller", "bench", "doctor", "verify",
]

/// The exit codes that there are.
let exitCodes: Set<Int32> = [0, 64, 65, 69, 70, 74, 130]

/// Runs a command that must end with an exit code and say something on standard error; nothing may be left half-written
/// in the folder it ran in.
func expect(
  _ status: Int32, saying texts: [String] = [], from arguments: [String], in folder: URL,
  sourceLocation: SourceLocation = #_sourceLocation
) async throws {
  let result = try await FedpeatCommand.run(arguments, in: folder)
  #expect(result.status == status, "\(result)", sourceLocation: sourceLocation)
  for text in texts {
    #expect(
      result.errors.contains(text), "not '\(text)': \(result)", sourceLocation: sourceLocation)
  }
  #expect(result.output.isEmpty, "\(result)", sourceLocation: sourceLocation)
  expectNoCrash(result, sourceLocation: sourceLocation)
  expectNothingPartial(in: folder, sourceLocation: sourceLocation)
}

func expectNoCrash(_ result: CommandResult, sourceLocation: SourceLocation = #_sourceLocation) {
  #expect(exitCodes.contains(result.status), "\(result)", sourceLocation: sourceLocation)
  for sign in ["Fatal error", "crashed", "Backtrac", "should not have"] {
    #expect(!result.errors.contains(sign), "\(result)", sourceLocation: sourceLocation)
  }
}

func expectNothingPartial(in folder: URL, sourceLocation: SourceLocation = #_sourceLocation) {
  let files = FileManager.default.enumerator(atPath: folder.path)?.compactMap { $0 as? String }
  let partial = files?.filter { $0.contains(".partial") } ?? []
  #expect(partial == [], sourceLocation: sourceLocation)
}

extension TinyWorkshop {
  /// A copy of one of its folders or files, to spoil.
  func copy(_ name: String, to folder: URL, as newName: String? = nil) throws -> URL {
    let target = folder.appendingPathComponent(newName ?? name)
    try FileManager.default.copyItem(at: url(name), to: target)
    return target
  }
}

/// The run's workshop, and a folder of the test's own.
func withWorkshop(_ body: (TinyWorkshop, URL) async throws -> Void) async throws {
  let workshop = try await TinyWorkshop.shared()
  try await withTemporaryFolder { try await body(workshop, $0) }
}
