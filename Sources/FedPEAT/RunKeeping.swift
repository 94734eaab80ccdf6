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
  /// A new one is kept for good when it begins (`RunDatabase.begin`): whoever opens it says in the end `leave`, and where it did not come to begin nothing stays of it, and what it
  /// was to take the place of is there as before.
  ///
  /// - Throws: `usage` where another run has its name: another configuration, one that is finished, or one that is under way; `badData` where adapters of one lie there
  ///   without their database.
  public func open(_ configuration: RunConfiguration, command: Command) throws -> RunDatabase {
    let run = try configuration.runID
    // A process may have been killed before its run began.
    try shelf.putBack(run)
    if isAnew {
      if shelf.hasAnything(of: run) { try shelf.setAside(run) }
    } else {
      try shelf.checkDatabase(of: run)
      if finished == .isReplaced, try isFinished(run) { try shelf.setAside(run) }
    }
    let database = try shelf.open(run)
    let effective = configuration.withWholePaths()
    guard let data = try database.note(Self.configurationNote), try database.load() != nil else {
      return try new(database, effective, command)
    }
    let kept = try KeptJSON.decode(
      [String: JSONValue].self, from: data, "the configuration of '\(run)'")
    do { try check(effective, against: kept, run) } catch {
      // Nobody took part: what was kept is worth nothing, and the configuration may have been wrong.
      guard try database.isUntouched else { throw error }
      return try new(database, effective, command)
    }
    guard try database.note(Self.doneNote) == nil else { throw try refusal(of: database, run) }
    return database
  }

  private func new(
    _ database: RunDatabase, _ configuration: RunConfiguration, _ command: Command
  ) throws -> RunDatabase {
    let database = try database.emptied()
    database.markProvisional()
    do {
      try database.keep(command, as: Self.commandNote)
      try database.keep(configuration, as: Self.configurationNote)
    } catch {
      database.leave()
      throw error
    }
    return database
  }

  private func isFinished(_ run: RunID) throws -> Bool {
    guard shelf.has(run) else { return false }
    return try shelf.open(run).note(Self.doneNote) != nil
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

  /// - Parameter texts: what the run is measured and trained with on the owner's side, files or folders by their keys in a run file.
  init(
    _ owner: ModelOwner, _ adapter: Adapter, _ packages: [Package], texts: [String: URL]
  ) throws {
    digests = ["the model": owner.digest.hex, "the first adapter": adapter.state.digest.hex]
    for (level, package) in packages.enumerated() {
      digests["emulator \(level)"] = package.digest.hex
    }
    for (key, place) in texts { digests[Self.texts + key] = try Digest(ofDataAt: place).hex }
  }

  /// What the names of texts begin with. Runs that earlier versions kept have no digests of them.
  private static let texts = "the text of "

  /// Keeps them of a new run, or throws where those that are kept are others.
  func check(in database: RunDatabase) throws {
    guard var kept = try database.note(RunFacts.self, RunKeeping.factsNote) else {
      return try database.keep(self, as: RunKeeping.factsNote)
    }
    let other = Set(digests.keys).union(kept.digests.keys).sorted().filter { name in
      let isText = name.hasPrefix(Self.texts)
      if isText, digests[name] == nil || kept.digests[name] == nil { return false }
      return digests[name] != kept.digests[name]
    }
    guard let first = other.first else {
      let before = kept
      kept.digests.merge(digests) { $1 }
      if kept != before { try database.keep(kept, as: RunKeeping.factsNote) }
      return
    }
    throw PeatError.badData(
      "The run '\(database.name)' can't go on: \(first) is \(digests[first]?.prefix(12) ?? "not there")…, and was \(kept.digests[first]?.prefix(12) ?? "not there")… when the run began. What was measured before can't be compared with what would be measured now: put it back as it was, or begin anew (--anew)."
    )
  }
}
