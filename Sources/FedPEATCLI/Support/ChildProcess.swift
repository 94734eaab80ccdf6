import FedPEAT
import Foundation
import Synchronization

/// Another process of this program, with what it prints and how it ends.
final class ChildProcess: Sendable {
  let name: String
  private let process: Process
  private let output: Pipe
  private let collected: Task<Data, any Error>

  /// - Parameters:
  ///   - arguments: the verb and its flags.
  ///   - folder: its working folder.
  ///   - showsProgress: whether its progress lines go to this process's standard error.
  ///   - log: where they go otherwise.
  init(
    _ name: String, _ arguments: [String], folder: URL, showsProgress: Bool = false, log: URL? = nil
  ) throws {
    self.name = name
    let process = Process()
    process.executableURL = try ChildProcess.thisProgram()
    process.arguments = arguments
    process.currentDirectoryURL = folder
    var environment = ProcessInfo.processInfo.environment
    environment[ParentWatch.variable] = String(ProcessInfo.processInfo.processIdentifier)
    process.environment = environment
    process.standardInput = FileHandle.nullDevice
    output = Pipe()
    process.standardOutput = output
    if showsProgress {
      process.standardError = FileHandle.standardError
    } else if let log {
      try AtomicOutput.write(Data(), to: log)
      process.standardError = try FileHandle(forWritingTo: log)
    } else {
      process.standardError = FileHandle.nullDevice
    }
    do { try process.run() } catch {
      throw PeatError(
        .internalError, "Can't start '\(name)': \(error.localizedDescription)", cause: error)
    }
    self.process = process
    let reader = output.fileHandleForReading
    // On a thread of its own: a blocked read must not take one from the pool that everything else runs on.
    collected = Task { try await runOnThread { reader.readDataToEndOfFile() } }
  }

  var isRunning: Bool { process.isRunning }
  var identifier: Int32 { process.processIdentifier }

  /// How a process ended.
  enum Ending: CustomStringConvertible {
    case exited(Int32)
    case killed(signal: Int32)

    var isSuccess: Bool { if case .exited(0) = self { true } else { false } }

    /// The code that this process ends with for that reason.
    var code: PeatError.Code {
      if case .exited(let status) = self {
        PeatError.Code(rawValue: status) ?? .internalError
      } else {
        .internalError
      }
    }

    var description: String {
      switch self {
      case .exited(let status): "ended with exit code \(status)"
      case .killed(let signal): "was killed by signal \(signal)"
      }
    }
  }

  /// Waits for its end; what it printed on standard output.
  func finish() async throws -> (ending: Ending, output: Data) {
    // Looks first, and only then reads: so that a cancellation is heard while the process runs.
    while process.isRunning {
      try await Task.sleep(for: .milliseconds(20))
    }
    let status = process.terminationStatus
    return (
      process.terminationReason == .exit ? .exited(status) : .killed(signal: status),
      try await collected.value
    )
  }

  /// Asks it to end and, after a while, ends it.
  func end() async {
    guard process.isRunning else { return }
    process.terminate()
    for _ in 0..<100 {
      if !process.isRunning { return }
      // Not cancellable: this is what happens after a cancellation.
      await Task { try? await Task.sleep(for: .milliseconds(50)) }.value
    }
    kill(process.processIdentifier, SIGKILL)
  }

  private static func thisProgram() throws -> URL {
    #if os(Linux)
      return URL(
        fileURLWithPath: try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
      )
    #else
      guard let url = Bundle.main.executableURL else {
        throw PeatError(.internalError, "The program's own file can't be found.")
      }
      return url
    #endif
  }
}

/// Ends this process when the one that started it is gone, however that ended.
enum ParentWatch {
  static let variable = "FEDPEAT_PARENT"

  /// Begins to watch, if a parent asked for it: its end is a request to stop, as a signal is.
  static func begin() {
    guard let text = ProcessInfo.processInfo.environment[variable], let parent = Int32(text) else {
      return
    }
    Thread.detachNewThread {
      while getppid() == parent { Thread.sleep(forTimeInterval: 0.2) }
      Interruption.request()
      // A step that takes longer is not waited for: nobody is there who wants its result.
      Thread.sleep(forTimeInterval: 1)
      _exit(PeatError.Code.interrupted.rawValue)
    }
  }
}
