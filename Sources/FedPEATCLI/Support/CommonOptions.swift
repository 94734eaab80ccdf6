import ArgumentParser
import FedPEAT
import Foundation

/// What every verb takes.
struct CommonOptions: ParsableArguments {
  @Flag(help: "Print one JSON object on standard output; everything else goes to standard error.")
  var json = false

  @Flag(help: "Print no progress; cautions and errors are printed all the same.")
  var quiet = false

  @Option(help: "Where all chance comes from: the same seed gives the same result. (default: 0)")
  var seed: UInt64?

  @Option(help: "Number of threads; all cores if not given.")
  var threads: Int?

  func validate() throws {
    if let threads, threads < 1 || threads > 1024 {
      throw ValidationError("--threads is \(threads); it must be between 1 and 1024.")
    }
    if let seed, seed > UInt64(Int.max) {
      throw ValidationError("--seed is \(seed); it must be between 0 and \(Int.max).")
    }
    Terminal.setQuiet(quiet)
  }

  var threadCount: Int { threads ?? ProcessInfo.processInfo.activeProcessorCount }
  var seedValue: UInt64 { seed ?? 0 }

  /// Prints the result: as JSON, or as text for people.
  func report(_ value: some Encodable, text: @autoclosure () -> String) throws {
    if json {
      let data = try JSONFile.encode(value, dates: .iso8601)
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

extension URL {
  /// The folder of a model that a person names: by its path, or as it is called on the Hub, if it was pulled.
  init(model text: String) throws { self = try ModelFolder.url(text) }

  /// The same of an adapter.
  init(adapter text: String) throws { self = try ModelFolder.url(text, of: .adapter) }
}

extension ClientID {
  /// A name as a person types it: a wrong one is wrong usage.
  init(typed name: String) throws {
    do { try self.init(name) } catch let error as PeatError { throw PeatError.usage(error.message) }
  }
}

/// Throws where somebody asked to stop.
func checkInterruption() throws {
  if Interruption.isRequested { throw PeatError(.interrupted, "Interrupted.") }
}
