import Foundation
import Testing

/// Runs the built program as a user does.
public enum FedpeatCommand {
  /// The program: `FEDPEAT_BINARY`, or the one beside the running tests, or the release build.
  public static let binary: URL = {
    if let path = ProcessInfo.processInfo.environment["FEDPEAT_BINARY"], !path.isEmpty {
      return URL(fileURLWithPath: path)
    }
    let beside = URL(fileURLWithPath: CommandLine.arguments.first ?? "")
      .deletingLastPathComponent().appendingPathComponent("fedpeat")
    if FileManager.default.isExecutableFile(atPath: beside.path) { return beside }
    return ProjectFolders.root.appendingPathComponent(".build/release/fedpeat")
  }()

  /// What `FEDPEAT_HOME` names for it.
  public static let home = FileManager.default.temporaryDirectory.appendingPathComponent(
    "fedpeat-tests-home-\(ProcessInfo.processInfo.processIdentifier)")

  /// Runs it to its end.
  @discardableResult
  ///
  /// - Parameter environment: variables over those of the tests.
  public static func run(
    _ arguments: [String], in folder: URL, environment: [String: String] = [:]
  ) async throws -> CommandResult {
    try await RunningCommand(arguments, in: folder, environment: environment).finish()
  }

  /// Runs it to its end, which must be a success.
  @discardableResult
  public static func succeed(
    _ arguments: [String], in folder: URL, sourceLocation: SourceLocation = #_sourceLocation
  ) async throws -> CommandResult {
    let result = try await run(arguments, in: folder)
    try #require(
      result.status == 0, "fedpeat \(arguments.joined(separator: " ")): \(result)",
      sourceLocation: sourceLocation)
    return result
  }
}

/// How a run of the program ended.
public struct CommandResult: Sendable, CustomStringConvertible {
  public let arguments: [String]
  /// The exit code; 128 and the signal's number where a signal ended it, as a shell says it.
  public let status: Int32
  public let output: String
  public let errors: String

  public var description: String {
    "fedpeat \(arguments.joined(separator: " ")) ended with \(status)\n\(errors.suffix(1500))\(output.prefix(500))"
  }

  /// Standard output as the one JSON object that it must be.
  public func object(sourceLocation: SourceLocation = #_sourceLocation) throws -> [String: Any] {
    let value = try? JSONSerialization.jsonObject(with: Data(output.utf8))
    return try #require(
      value as? [String: Any], "not one JSON object: \(self)", sourceLocation: sourceLocation)
  }
}

/// The program while it runs. Its output goes to files, so that nothing here waits on a pipe.
public final class RunningCommand: Sendable {
  private let arguments: [String]
  private let process: Process
  private let outputFile: URL
  private let errorFile: URL

  /// - Parameter wrapper: a command that runs it, such as `ip netns exec NAME`.
  public init(
    _ arguments: [String], in folder: URL, environment: [String: String] = [:],
    through wrapper: [String] = []
  ) throws {
    self.arguments = arguments
    let stem = FileManager.default.temporaryDirectory.appendingPathComponent(
      "fedpeat-command-\(UUID().uuidString)")
    outputFile = stem.appendingPathExtension("out")
    errorFile = stem.appendingPathExtension("err")
    process = Process()
    process.executableURL =
      wrapper.isEmpty ? FedpeatCommand.binary : URL(fileURLWithPath: "/usr/bin/env")
    // Authorities that the program makes for its user are the tests' own.
    process.environment = ProcessInfo.processInfo.environment
      .merging(["FEDPEAT_HOME": FedpeatCommand.home.path]) { $1 }.merging(environment) { $1 }
    process.arguments =
      wrapper.isEmpty ? arguments : wrapper + [FedpeatCommand.binary.path] + arguments
    process.currentDirectoryURL = folder
    process.standardInput = FileHandle.nullDevice
    for file in [outputFile, errorFile] {
      try Data().write(to: file)
    }
    try process.run(output: outputFile, errors: errorFile)
  }

  deinit {
    if process.isRunning { kill(process.processIdentifier, SIGKILL) }
    for file in [outputFile, errorFile] { try? FileManager.default.removeItem(at: file) }
  }

  public var identifier: Int32 { process.processIdentifier }
  public var isRunning: Bool { process.isRunning }
  /// What it wrote to standard error so far.
  public var errors: String { text(of: errorFile) }

  /// Waits until standard error holds a text.
  public func waits(
    for text: String, seconds: Double = 60, sourceLocation: SourceLocation = #_sourceLocation
  ) async throws {
    try await waits(seconds: seconds, for: "'\(text)'", sourceLocation: sourceLocation) {
      self.errors.contains(text)
    }
  }

  /// Waits until something holds; the program must still run then, or have made it hold.
  public func waits(
    seconds: Double = 60, for what: String, sourceLocation: SourceLocation = #_sourceLocation,
    until holds: () -> Bool
  ) async throws {
    let end = ContinuousClock.now + .seconds(seconds)
    while !holds() {
      let waited = ContinuousClock.now > end ? "in \(seconds) s" : "before it ended"
      try #require(
        process.isRunning && ContinuousClock.now < end,
        "\(what) did not come \(waited): fedpeat \(arguments.joined(separator: " "))\n\(errors)",
        sourceLocation: sourceLocation)
      try await Task.sleep(for: .milliseconds(5))
    }
  }

  public func send(_ signal: Int32) { kill(process.processIdentifier, signal) }

  /// Sends a signal as soon as standard error holds a text. A thread of its own looks for it: the tests' own may be busy for seconds, and
  /// the program at its end by then.
  public func send(
    _ signal: Int32, after text: String, seconds: Double = 60,
    sourceLocation: SourceLocation = #_sourceLocation
  ) async throws {
    let (process, file) = (process.processIdentifier, errorFile)
    let isSent = await withCheckedContinuation { (sent: CheckedContinuation<Bool, Never>) in
      Thread.detachNewThread {
        let end = ContinuousClock.now + .seconds(seconds)
        // Signal 0 only asks whether it is there.
        while ContinuousClock.now < end, kill(process, 0) == 0 {
          if let data = try? Data(contentsOf: file),
            String(decoding: data, as: UTF8.self).contains(text)
          {
            return sent.resume(returning: kill(process, signal) == 0)
          }
          usleep(2_000)
        }
        sent.resume(returning: false)
      }
    }
    try #require(
      isSent,
      "'\(text)' did not come in \(seconds) s, or before it ended: fedpeat \(arguments.joined(separator: " "))\n\(errors)",
      sourceLocation: sourceLocation)
  }

  /// Waits for its end. A program that does not end in time is killed, and its status is then 137.
  public func finish(seconds: Double = 120) async throws -> CommandResult {
    let end = ContinuousClock.now + .seconds(seconds)
    while process.isRunning {
      if ContinuousClock.now > end { kill(process.processIdentifier, SIGKILL) }
      try await Task.sleep(for: .milliseconds(5))
    }
    let status = process.terminationStatus
    return CommandResult(
      arguments: arguments,
      status: process.terminationReason == .uncaughtSignal ? 128 + status : status,
      output: text(of: outputFile), errors: errors)
  }

  private func text(of file: URL) -> String {
    (try? Data(contentsOf: file)).map { String(decoding: $0, as: UTF8.self) } ?? ""
  }
}

extension Process {
  /// Starts it, and has it write to two files that are there.
  func run(output: URL, errors: URL) throws {
    let handles = try [output, errors].map { try FileHandle(forWritingTo: $0) }
    standardOutput = handles[0]
    standardError = handles[1]
    try run()
    // The program has its own: a Process keeps these open for as long as the tests run.
    for handle in handles { try handle.close() }
  }
}
