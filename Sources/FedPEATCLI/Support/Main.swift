import ArgumentParser
import FedPEAT
import Foundation

@main
enum Main {
  static func main() async {
    if let missing = Processor.missingFeature {
      Terminal.error(
        "This program was built for processors with \(missing), which this one lacks. Build it for this one "
          + "(./fedpeat does so by itself), or for any: FEDPEAT_KERNELS=portable ./fedpeat …")
      exit(PeatError.Code.unavailable.rawValue)
    }
    // What a coordinator frees is of use to all its threads.
    let verb = CommandLine.arguments.dropFirst().prefix(2)
    if verb.first == "serve" || verb.elementsEqual(["bench", "federation"]) {
      ProcessMeasurement.shareFreeMemory()
    }
    // Writing to a pipe whose reader is gone is an error to handle, not a reason to die.
    signal(SIGPIPE, SIG_IGN)
    let task = Task { try await run() }
    Interruption.install { task.cancel() }
    ParentWatch.begin()
    switch await task.result {
    case .success: exit(0)
    case .failure(let error): fail(error)
    }
  }

  private static func run() async throws {
    let arguments = try Arguments.prepared(Array(CommandLine.arguments.dropFirst()))
    try Fedpeat.checkVerb(arguments)
    var command: any ParsableCommand
    do { command = try Fedpeat.parseAsRoot(arguments) } catch { endParsing(error) }
    if var asynchronous = command as? any AsyncParsableCommand {
      try await asynchronous.run()
    } else {
      try command.run()
    }
  }

  /// Ends as the argument parser does, with help or with what is wrong about the arguments; an error begins as all do.
  private static func endParsing(_ error: any Error) -> Never {
    let message = Fedpeat.fullMessage(for: error).trimmingCharacters(in: .newlines)
    let beginning = "Error: "
    guard message.hasPrefix(beginning) else { Fedpeat.exit(withError: error) }
    Terminal.error(String(message.dropFirst(beginning.count)))
    exit(Fedpeat.exitCode(for: error).rawValue)
  }

  /// Prints what went wrong, and ends with the code that DESIGN gives it.
  private static func fail(_ error: any Error) -> Never {
    Terminal.finishStatus()
    switch error {
    case let error as PeatError:
      if error.code == .interrupted || Interruption.isRequested {
        Terminal.error(error.code == .interrupted ? error.message : "Interrupted.")
        exit(PeatError.Code.interrupted.rawValue)
      }
      Terminal.error(error.message)
      exit(error.code.rawValue)
    case is CancellationError:
      Terminal.error("Interrupted.")
      exit(PeatError.Code.interrupted.rawValue)
    case is ExitCode, is CleanExit, is ValidationError: endParsing(error)
    default:
      if Interruption.isRequested {
        Terminal.error("Interrupted.")
        exit(PeatError.Code.interrupted.rawValue)
      }
      // Asking for help is an error too, in the argument parser's eyes.
      let code = Fedpeat.exitCode(for: error)
      if code == .success || code == .validationFailure { endParsing(error) }
      Terminal.error("Something went wrong that should not have: \(error)")
      exit(PeatError.Code.internalError.rawValue)
    }
  }
}
