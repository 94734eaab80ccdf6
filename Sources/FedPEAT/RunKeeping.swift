import Foundation
import PeatFederation
import PeatStore

/// Opens the place where a run is kept: a new one, or one that was stopped, and goes on.
public struct RunKeeping: Sendable {
  /// What `runs resume` does again.
  public struct Command: Sendable, Codable, Equatable {
    /// The verb and what followed it.
    public var arguments: [String]
    /// The folder that it was started in.
    public var folder: String

    public init(arguments: [String], folder: String) {
      self.arguments = arguments
      self.folder = folder
    }
  }

  /// When a finished run of the same name is there.
  public enum FinishedRun: Sendable {
    case isRefused
    /// What is kept of it goes, as its results do.
    case isReplaced
  }

  /// Names of notes.
  static let configurationNote = "configuration"
  static let commandNote = "command"
  static let factsNote = "facts"
  static let zeroShotNote = "zero-shot"
  static let portNote = "port"
  static let resultsNote = "results"
  static let doneNote = "done"

  /// Keys of a configuration that do not decide what a run comes to.
  private static let free: Set<RunConfiguration.CodingKeys> = [
    .out, .listen, .insecure, .withoutModelPrivacy, .threads, .keepAdapters,
  ]

  public let shelf: RunShelf
  public var finished = FinishedRun.isRefused
  /// Whether what is kept of an earlier run of the name goes, whatever it is.
  public var isAnew = false

  public init(_ shelf: RunShelf, finished: FinishedRun = .isRefused, isAnew: Bool = false) {
    self.shelf = shelf
    self.finished = finished
    self.isAnew = isAnew
  }

  /// Opens the run of a configuration.
  ///
  /// - Throws: `usage` where another run has its name: another configuration, one that is finished, or one that is under way.
  public func open(_ configuration: RunConfiguration, command: Command) throws -> RunDatabase {
    let run = try configuration.runID
    if isAnew, shelf.has(run) { try shelf.delete(run) }
    var database = try shelf.open(run)
    if finished == .isReplaced, try database.note(Self.doneNote) != nil {
      database = try database.emptied()
    }
    let effective = configuration.withWholePaths()
    if let data = try database.note(Self.configurationNote) {
      let kept = try KeptJSON.decode(
        [String: JSONValue].self, from: data, "the configuration of '\(run)'")
      try check(effective, against: kept, run)
      guard try database.note(Self.doneNote) == nil else { throw try refusal(of: database, run) }
      return database
    }
    try database.keep(command, as: Self.commandNote)
    try database.keep(effective, as: Self.configurationNote)
    return database
  }

  private func check(
    _ configuration: RunConfiguration, against kept: [String: JSONValue], _ run: RunID
  ) throws {
    let new = try KeptJSON.decode(
      [String: JSONValue].self, from: KeptJSON.encode(configuration), "the configuration")
    let free = Set(Self.free.map(\.rawValue))
    let differing = Set(new.keys).union(kept.keys).subtracting(free)
      .filter { (new[$0] ?? .null) != (kept[$0] ?? .null) }.sorted()
    guard !differing.isEmpty else { return }
    func said(_ value: JSONValue?) -> String {
      (try? KeptJSON.encode(value ?? .null)).map { String(decoding: $0, as: UTF8.self) } ?? "?"
    }
    let shown = differing.prefix(6).map { "\($0) was \(said(kept[$0])) and is \(said(new[$0]))" }
    let rest = differing.count > shown.count ? "; and \(differing.count - shown.count) more" : ""
    throw PeatError.usage(
      "The run '\(run)' in '\(shelf.folder.relativePath)' has another configuration: \(shown.joined(separator: "; "))\(rest). To go on with it, start it as it was ('fedpeat runs resume \(run) --store \(shelf.folder.relativePath)'). For another run take another --seed, --out or --store; --anew deletes what is kept of the old one."
    )
  }

  private func refusal(of database: RunDatabase, _ run: RunID) throws -> PeatError {
    let done = try database.note(Done.self, Self.doneNote)
    let place = done?.out.map { " Its results are in '\($0)'." } ?? ""
    return .usage(
      "The run '\(run)' in '\(shelf.folder.relativePath)' is finished, all \(done?.rounds ?? 0) rounds of it.\(place) 'fedpeat runs export' gives the adapter of any of its rounds, 'runs rollback' goes back to one. For another run take another --seed, --out or --store; --anew makes it again."
    )
  }

  /// A run whose results were written.
  struct Done: Codable {
    var rounds: Int
    var out: String?
  }
}

/// What a run's material must still be when it is gone on with.
struct RunFacts: Codable, Equatable {
  /// Digests by what they are of.
  var digests: [String: String]

  init(_ owner: ModelOwner, _ adapter: Adapter, _ packages: [Package]) {
    digests = ["the model": owner.digest.hex, "the first adapter": adapter.state.digest.hex]
    for (level, package) in packages.enumerated() {
      digests["emulator \(level)"] = package.digest.hex
    }
  }

  /// Keeps them of a new run, or throws where those that are kept are others.
  func check(in database: RunDatabase) throws {
    guard let kept = try database.note(RunFacts.self, RunKeeping.factsNote) else {
      return try database.keep(self, as: RunKeeping.factsNote)
    }
    let other = Set(digests.keys).union(kept.digests.keys).sorted()
      .filter { digests[$0] != kept.digests[$0] }
    guard let first = other.first else { return }
    throw PeatError.badData(
      "The run '\(database.name)' can't go on: \(first) is \(digests[first]?.prefix(12) ?? "not there")…, and was \(kept.digests[first]?.prefix(12) ?? "not there")… when the run began. Put back the model and the emulators as they were, or begin anew (--anew)."
    )
  }
}
