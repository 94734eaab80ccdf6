import ArgumentParser
import FedPEAT
import Foundation

/// Where a run is kept, so that it goes on after it was stopped.
struct StoreOptions: ParsableArguments {
  @Option(
    help:
      "The folder in which the run is kept, so that the same command goes on with it after it was stopped, in whatever way; beside --out as OUT.runs if not given."
  )
  var store: String?

  @Flag(help: "Begin anew: what is kept of an earlier run of this name is deleted.")
  var anew = false

  /// Opens the run; `nil` where it is not to be kept.
  ///
  /// - Parameter finished: what becomes of a finished run of the name.
  func open(
    _ configuration: RunConfiguration, finished: RunKeeping.FinishedRun = .isRefused
  ) throws -> RunDatabase? {
    let shelf =
      store.map { RunShelf(URL(path: $0)) }
      ?? configuration.out.map { RunShelf.beside(URL(path: $0)) }
    guard let shelf else {
      guard !anew else {
        throw PeatError.usage("--anew is about a run that is kept: name --out or --store.")
      }
      return nil
    }
    let arguments = try Arguments.prepared(Array(CommandLine.arguments.dropFirst()))
    return try RunKeeping(shelf, finished: finished, isAnew: anew).open(
      configuration,
      command: .init(
        arguments: arguments, folder: FileManager.default.currentDirectoryPath))
  }
}
