import ArgumentParser
import FedPEAT
import Foundation

/// What every verb takes.
struct CommonOptions: ParsableArguments {
  @Flag(help: "Print one JSON object on standard output; everything else goes to standard error.")
  var json = false

  @Flag(help: "Print no progress.")
  var quiet = false

  @Option(help: "Where all chance comes from: the same seed gives the same result.")
  var seed: UInt64?

  @Option(help: "Number of threads; all cores if not given.")
  var threads: Int?

  func validate() throws {
    if let threads, threads < 1 || threads > 1024 {
      throw ValidationError("--threads is \(threads); it must be between 1 and 1024.")
    }
    Terminal.setQuiet(quiet)
  }

  var threadCount: Int { threads ?? ProcessInfo.processInfo.activeProcessorCount }
  var seedValue: UInt64 { seed ?? 0 }

  /// Prints the result: as JSON, or as text for people.
  func report(_ value: some Encodable, text: @autoclosure () -> String) throws {
    if json {
      let data = try JSONFile.encode(value)
      try Terminal.print(String(decoding: data, as: UTF8.self).trimmingCharacters(in: .newlines))
    } else {
      try Terminal.print(text())
    }
  }
}

extension URL {
  /// A path as a person types it.
  init(path text: String) {
    self.init(fileURLWithPath: (text as NSString).expandingTildeInPath)
  }
}

/// Throws where somebody asked to stop.
func checkInterruption() throws {
  if Interruption.isRequested { throw PeatError(.interrupted, "Interrupted.") }
}
