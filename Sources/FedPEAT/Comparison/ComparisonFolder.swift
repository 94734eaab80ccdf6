import Foundation

/// Where a comparison's records lie: `comparison.json`, its settings, and `records.jsonl`, a record per line, appended as they come.
public struct ComparisonFolder: Sendable {
  public static let settingsName = "comparison.json"
  public static let recordsName = "records.jsonl"
  private static let lockName = ".lock"

  public let url: URL
  public private(set) var records: [EmulatorComparison.Record]
  /// Two commands would write over each other's records.
  private let lock: FolderLock

  /// Opens a folder, or makes it.
  ///
  /// - Throws: `usage` where it holds something else, or records with other settings, or another command works in it.
  public init(_ url: URL, settings: EmulatorComparison.Settings) throws {
    self.url = url
    let files = FileManager.default
    let file = url.appendingPathComponent(Self.settingsName)
    let recordsFile = url.appendingPathComponent(Self.recordsName)
    records = []
    if files.fileExists(atPath: file.path) {
      let saved = try JSONFile.read(EmulatorComparison.Settings.self, from: file)
      guard saved == settings else {
        throw PeatError.usage(
          "'\(url.relativePath)' holds a comparison with other settings, model or texts (\(Self.settingsName)). Give the same, or name another folder."
        )
      }
      lock = try Self.lock(url)
      if files.fileExists(atPath: recordsFile.path) {
        records = try Self.read(recordsFile)
      }
    } else {
      let names = (try? files.contentsOfDirectory(atPath: url.path)) ?? []
      guard names.allSatisfy({ $0 == Self.lockName }) else {
        throw PeatError.usage(
          "The folder '\(url.relativePath)' holds something that is no comparison. Name another folder, or empty this one."
        )
      }
      do {
        try files.createDirectory(at: url, withIntermediateDirectories: true)
      } catch {
        throw PeatError.inputOutput(
          "Can't make the folder '\(url.relativePath)': \(error.localizedDescription)")
      }
      lock = try Self.lock(url)
      try JSONFile.write(settings, to: file)
    }
  }

  private static func lock(_ url: URL) throws -> FolderLock {
    try FolderLock(
      url, name: lockName,
      isBusy:
        "Another comparison works in the folder '\(url.relativePath)'. Wait for it, or name another folder."
    )
  }

  /// Adds a record, on disk first.
  public mutating func append(_ record: EmulatorComparison.Record) throws {
    let file = url.appendingPathComponent(Self.recordsName)
    records.append(record)
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    var data = Data()
    for record in records { data += try encoder.encode(record) + Data("\n".utf8) }
    try AtomicOutput.write(data, to: file)
  }

  public func hasReference(seed: UInt64) -> Bool {
    records.contains { if case .reference(let found) = $0 { found.seed == seed } else { false } }
  }

  public func hasRow(_ candidate: EmulatorComparison.Candidate, seed: UInt64) -> Bool {
    records.contains {
      if case .row(let found) = $0 {
        found.seed == seed && found.candidate == candidate
      } else {
        false
      }
    }
  }

  private static func read(_ file: URL) throws -> [EmulatorComparison.Record] {
    let text = String(decoding: try JSONFile.bytes(of: file), as: UTF8.self)
    return try text.split(separator: "\n").enumerated().map { number, line in
      do {
        return try JSONDecoder().decode(EmulatorComparison.Record.self, from: Data(line.utf8))
      } catch {
        throw PeatError.badData(
          "'\(file.path)', line \(number + 1), is no record of a comparison. Delete the line, or name another folder."
        )
      }
    }
  }
}
