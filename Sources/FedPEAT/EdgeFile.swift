import Foundation

/// A simulated edge by name or from a file.
public enum EdgeFile {
  /// Whether a word names one of the scenarios that need no file.
  public static func isScenario(_ word: String) -> Bool { EdgeConfiguration.examples[word] != nil }

  /// Throws `inputOutput` where an edge file can't be written, or something else would be lost.
  public static func checkOutput(_ url: URL) throws {
    try AtomicOutput.checkFile(url, "edge file") { url in
      // Any text of comments reads as an edge that differs in nothing.
      guard let keys = try? ConfigurationReader.keys(in: url) else { return false }
      return keys.isSuperset(of: ["levels", "calibration"]) && (try? read(url.path)) != nil
    }
  }

  /// - Parameter word: a scenario, or the path of a YAML file that says what differs from `pedestrian`.
  /// - Throws: `usage` where the word is neither; `badData` where the file makes no sense.
  public static func read(
    _ word: String, others: [String] = []
  ) throws -> EdgeConfiguration {
    if let example = EdgeConfiguration.examples[word] { return example }
    let url = URL(fileURLWithPath: word)
    guard FileManager.default.fileExists(atPath: url.path) else {
      let known = others + EdgeConfiguration.examples.keys.sorted()
      throw PeatError.usage(
        "'\(word)' is neither a file nor an environment. \(suggestion(for: url.lastPathComponent, among: known))"
      )
    }
    let configuration = try ConfigurationReader.read(EdgeConfiguration.pedestrian, from: url)
    do { try configuration.validate() } catch let error as PeatError {
      throw PeatError(error.code, "The edge '\(word)': \(error.message)", cause: error)
    }
    return configuration
  }
}
