import Foundation
import GRDB
import PeatFederation
import PeatTensor
import Synchronization

/// What is kept of a run: small things in SQLite, large ones as files beside it.
///
///     NAME/run.sqlite     machine, events, clients, rounds, notes
///     NAME/blobs/         adapters and what strategies remember, each named by its SHA-256
///     NAME/updates/       updates of the round that is under way, and what has arrived of others
///     NAME/lock           held by whoever writes
///
/// The write-ahead log is written for each commit, so that whatever the process dies of, a commit stays. On the disk it is brought where a round begins, is
/// closed or is given up. What a loss of power takes of a round that is under way is asked for again.
public final class RunDatabase: RunStore {
  public let name: String
  public let folder: URL
  public let blobs: FolderBlobStore
  private let queue: DatabaseQueue
  private let now: @Sendable () -> Date
  /// `nil` where it is only read.
  private let lock: FolderLock?
  /// Whether it goes again where the run does not begin.
  private let isProvisional = Mutex(false)

  static let file = "run.sqlite"
  /// Of the databases that this program writes.
  public static var version: String { RunSchema.version }

  /// Opens a run's folder to write, or makes it.
  ///
  /// - Parameter now: for times that people look at; nothing depends on them.
  /// - Throws: `usage` where another process has it, `badData` where it is damaged or of a newer version.
  public convenience init(
    _ folder: URL, now: @escaping @Sendable () -> Date = { Date() }
  ) throws {
    do {
      try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    } catch {
      throw PeatError.inputOutput(
        "Can't make the folder '\(folder.path)', where the run is to be kept: \(error.localizedDescription)",
        cause: error)
    }
    let lock = try FolderLock(
      folder,
      isBusy:
        "The run '\(folder.lastPathComponent)' is under way in another process, which works in '\(folder.path)'. Let it end, or stop it."
    )
    try self.init(folder, lock: lock, now: now)
    try translatingErrors(of: name) { [self] in try RunSchema.migrate(queue, named: name) }
  }

  /// Opens a run's folder to read; another process may write.
  public convenience init(reading folder: URL) throws {
    let file = folder.appendingPathComponent(Self.file)
    guard FileManager.default.fileExists(atPath: file.path) else {
      throw PeatError.inputOutput("There is no run in '\(folder.path)'.")
    }
    try self.init(folder, lock: nil, now: { Date() })
    try translatingErrors(of: name) { [self] in
      try RunSchema.check(queue, named: name)
      try RunSchema.checkTables(queue, named: name)
    }
  }

  private init(_ folder: URL, lock: FolderLock?, now: @escaping @Sendable () -> Date) throws {
    name = folder.lastPathComponent
    self.folder = folder
    self.lock = lock
    self.now = now
    var configuration = Configuration()
    configuration.journalMode = .wal
    configuration.busyMode = .timeout(10)
    configuration.label = "run"
    configuration.readonly = lock == nil
    if lock != nil {
      configuration.prepareDatabase { try $0.execute(sql: "PRAGMA journal_size_limit = 16777216") }
    }
    (blobs, queue) = try translatingErrors(of: folder.lastPathComponent) {
      let file = folder.appendingPathComponent(Self.file)
      return (
        try FolderBlobStore(folder),
        lock == nil
          ? try Self.reading(file, configuration)
          : try DatabaseQueue(path: file.path, configuration: configuration)
      )
    }
  }

  /// Opens a database to read. SQLite wants to write beside one whose log it keeps: where nothing may be written, as on a medium that was archived, a copy is read.
  private static func reading(
    _ file: URL, _ configuration: Configuration
  ) throws -> DatabaseQueue {
    do {
      let queue = try DatabaseQueue(path: file.path, configuration: configuration)
      _ = try queue.read { try Row.fetchOne($0, sql: "SELECT 1 FROM sqlite_master") }
      return queue
    } catch let error as DatabaseError where error.resultCode == .SQLITE_CANTOPEN {
      let copy = FileManager.default.temporaryDirectory
        .appendingPathComponent("fedpeat-run-\(UUID().uuidString)")
      defer { try? FileManager.default.removeItem(at: copy) }
      try FileManager.default.createDirectory(at: copy, withIntermediateDirectories: true)
      for end in ["", "-wal"] where FileManager.default.fileExists(atPath: file.path + end) {
        try FileManager.default.copyItem(
          atPath: file.path + end, toPath: copy.appendingPathComponent(Self.file + end).path)
      }
      let queue = try DatabaseQueue()
      try DatabaseQueue(path: copy.appendingPathComponent(Self.file).path).backup(to: queue)
      return queue
    }
  }

  /// Forgets all that is kept, and begins anew in the same folder.
  public func emptied() throws -> RunDatabase {
    guard let lock else { throw PeatError(.internalError, "A run that is read can't be emptied.") }
    try translatingErrors(of: name) { try queue.close() }
    do {
      for name in try FileManager.default.contentsOfDirectory(atPath: folder.path)
      where name != "lock" {
        try FileManager.default.removeItem(at: folder.appendingPathComponent(name))
      }
    } catch {
      throw PeatError.inputOutput(
        "Can't empty '\(folder.path)': \(error.localizedDescription)", cause: error)
    }
    let database = try RunDatabase(folder, lock: lock, now: now)
    try translatingErrors(of: name) { try RunSchema.migrate(database.queue, named: name) }
    return database
  }

  // MARK: Beginning

  /// Nothing is to be kept of the run until it has begun: see `begin` and `leave`.
  public func markProvisional() { isProvisional.withLock { $0 = true } }

  /// Whether what is kept stays when its process ends.
  public var hasBegun: Bool { !isProvisional.withLock { $0 } }

  /// The run begins: from now on clients may come. A run that was moved aside for it goes.
  public func begin() throws {
    guard isProvisional.withLock({ $0 }) else { return }
    try RunShelf(folder.deletingLastPathComponent()).dropAside(of: RunID(name))
    isProvisional.withLock { $0 = false }
  }

  /// Removes what is kept of a run that did not begin, and puts back the one that was moved aside for it. It can't be used after that. Of a run that has begun all stays.
  public func leave() {
    guard isProvisional.withLock({ $0 }), let run = try? RunID(name) else { return }
    try? queue.close()
    try? RunShelf(folder.deletingLastPathComponent()).giveUp(run)
  }

  /// Whether nobody took part in the run yet, so that nothing would be lost with it.
  public var isUntouched: Bool {
    get throws {
      guard let run = try load() else { return true }
      return run.rounds.isEmpty && run.failedAttempts.isEmpty && run.updates.isEmpty
        && run.clients.isEmpty
    }
  }

  // MARK: Keeping

  public func commit(_ changes: RunChanges) throws {
    let dropped = try translatingErrors(of: name) {
      try queue.writeWithoutTransaction { database in
        // In write-ahead mode NORMAL writes to the log and does not wait for the disk; FULL waits, for all that was written before, too.
        try database.execute(
          sql: "PRAGMA synchronous = \(changes.isToSurvivePowerLoss ? "FULL" : "NORMAL")")
        var dropped: Set<String> = []
        try database.inTransaction(.immediate) {
          try write(changes, to: database)
          dropped = try dropAdapters(changes, in: database)
          return .commit
        }
        return dropped
      }
    }
    remove(dropped)
  }

  private func write(_ changes: RunChanges, to database: Database) throws {
    func execute(_ sql: String, _ arguments: StatementArguments) throws {
      try database.cachedStatement(sql: sql).execute(arguments: arguments)
    }
    let time = now().formatted(.iso8601)
    if let start = changes.start, let machine = changes.machine {
      try execute(
        """
        INSERT INTO run (id, machine, startAdapter, startState, seconds, created, changed)
        VALUES (1, ?, ?, ?, 0, ?, ?)
        """, [try json(machine), start.adapter.hex, start.state.hex, time, time])
    }
    try execute(
      "UPDATE run SET seconds = ?, ending = ?, changed = ? WHERE id = 1",
      [changes.seconds, try changes.ending.map(json), time])
    guard database.changesCount == 1 else {
      throw PeatError(.internalError, "A run is kept from its start on.")
    }
    if let machine = changes.machine {
      try execute("UPDATE run SET machine = ? WHERE id = 1", [try json(machine)])
      try execute("DELETE FROM event", [])
    } else if let event = changes.event {
      try execute("INSERT INTO event (event) VALUES (?)", [try json(event)])
    }
    for (client, content) in changes.clients {
      try execute(
        "INSERT OR REPLACE INTO client (name, content) VALUES (?, ?)",
        [client.name, try json(content)])
    }
    if changes.forgetsUpdates { try execute("DELETE FROM taken", []) }
    for update in changes.updates {
      try execute(
        "INSERT OR REPLACE INTO taken (client, round, number, content) VALUES (?, ?, ?, ?)",
        [update.client.name, update.header.round, update.number, try json(update)])
    }
    if let round = changes.round {
      try execute(
        "INSERT OR REPLACE INTO round (round, record, adapter, state, closed) VALUES (?, ?, ?, ?, ?)",
        [
          round.record.round, try json(round.record), round.adapter?.adapter.hex,
          round.adapter?.state.hex, time,
        ])
    }
    if let attempt = changes.failedAttempt {
      try execute("INSERT INTO failedAttempt (record) VALUES (?)", [try json(attempt)])
    }
    if let levels = changes.levels {
      try execute("UPDATE run SET levels = ? WHERE id = 1", [try json(levels)])
    }
    if let planner = changes.planner {
      try execute("UPDATE run SET planner = ? WHERE id = 1", [Data(planner)])
    }
  }

  /// Forgets the adapters of rounds that are long over. Returns the blobs that nothing names any more.
  private func dropAdapters(_ changes: RunChanges, in database: Database) throws -> Set<String> {
    guard changes.round != nil, changes.keptAdapters < Int.max else { return [] }
    let first = try Int.fetchOne(
      database, sql: "SELECT round FROM round ORDER BY round DESC LIMIT 1 OFFSET ?",
      arguments: [max(changes.keptAdapters, 1) - 1])
    guard let first else { return [] }
    let rows = try Row.fetchAll(
      database, sql: "SELECT round, adapter, state FROM round WHERE round < ? AND adapter NOT NULL",
      arguments: [first])
    var dropped: Set<String> = []
    for row in rows where !changes.keptRounds.contains(row["round"]) {
      try database.execute(
        sql: "UPDATE round SET adapter = NULL, state = NULL WHERE round = ?",
        arguments: [row["round"] as Int])
      for name in [row["adapter"], row["state"]] as [String?] {
        if let name { dropped.insert(name) }
      }
    }
    return dropped.isEmpty ? [] : dropped.subtracting(try named(in: database))
  }

  /// The blobs that something names.
  private func named(in database: Database) throws -> Set<String> {
    try Set(
      String.fetchAll(
        database,
        sql: """
          SELECT startAdapter FROM run UNION SELECT startState FROM run
          UNION SELECT adapter FROM round WHERE adapter NOT NULL
          UNION SELECT state FROM round WHERE state NOT NULL
          """))
  }

  private func remove(_ names: some Sequence<String>) {
    for digest in names.compactMap(Digest.init(hex:)) {
      try? FileManager.default.removeItem(at: blobs.url(of: digest))
    }
  }

  public func note(_ name: String) throws -> Data? {
    try read {
      try Data.fetchOne($0, sql: "SELECT content FROM note WHERE name = ?", arguments: [name])
    }
  }

  public func keep(_ note: Data, as name: String) throws {
    try translatingErrors(of: self.name) {
      try queue.write {
        try $0.execute(
          sql: "INSERT OR REPLACE INTO note (name, content) VALUES (?, ?)",
          arguments: [name, note])
      }
    }
  }

  /// Forgets a note.
  public func forget(_ note: String) throws {
    try translatingErrors(of: name) {
      try queue.write {
        try $0.execute(sql: "DELETE FROM note WHERE name = ?", arguments: [note])
      }
    }
  }

  // MARK: Reading

  public func load() throws -> KeptRun? {
    let found = try read(kept)
    // What a coordinator that was killed wrote and had not named yet.
    if lock != nil { sweep(keeping: try read(named)) }
    return found
  }

  private func read<Value>(_ work: (Database) throws -> Value) throws -> Value {
    try translatingErrors(of: name) { try queue.read(work) }
  }

  private func sweep(keeping named: Set<String>) {
    let files = FileManager.default
    let all = folder.appendingPathComponent("blobs")
    for name in (try? files.contentsOfDirectory(atPath: all.path)) ?? []
    where !named.contains(name) {
      try? files.removeItem(at: all.appendingPathComponent(name))
    }
    for name in (try? files.contentsOfDirectory(atPath: folder.path)) ?? []
    where name.hasPrefix("new-") || name.hasPrefix(".new-") {
      try? files.removeItem(at: folder.appendingPathComponent(name))
    }
  }

  private func kept(in database: Database) throws -> KeptRun? {
    guard let row = try Row.fetchOne(database, sql: "SELECT * FROM run") else { return nil }
    func value<Value: Decodable>(_ type: Value.Type, _ text: String, _ what: String) throws -> Value
    {
      try KeptJSON.decode(type, from: Data(text.utf8), "\(name): \(what)")
    }
    func digest(_ text: String) throws -> Digest {
      guard let digest = Digest(hex: text) else {
        throw PeatError.badData("The database of the run '\(name)' names a blob '\(text)'.")
      }
      return digest
    }
    func adapter(_ adapter: String?, _ state: String?) throws -> KeptAdapter? {
      guard let adapter, let state else { return nil }
      return KeptAdapter(adapter: try digest(adapter), state: try digest(state))
    }
    var run = KeptRun(
      machine: try value(RoundStateMachine.self, row["machine"], "the machine"),
      start: KeptAdapter(
        adapter: try digest(row["startAdapter"]), state: try digest(row["startState"])))
    run.events = try String.fetchAll(database, sql: "SELECT event FROM event ORDER BY number").map {
      try value(RoundEvent.self, $0, "an event")
    }
    for row in try Row.fetchAll(database, sql: "SELECT name, content FROM client") {
      run.clients[try ClientID(row["name"])] = try value(
        KeptClient.self, row["content"], "a client")
    }
    run.updates = try String.fetchAll(
      database, sql: "SELECT content FROM taken ORDER BY client, round, number"
    )
    .map { try value(KeptUpdate.self, $0, "an update") }
    let rounds = "SELECT record, adapter, state FROM round ORDER BY round"
    run.rounds = try Row.fetchAll(database, sql: rounds).map {
      KeptRound(
        record: try value(RoundRecord.self, $0["record"], "a round"),
        adapter: try adapter($0["adapter"], $0["state"]))
    }
    run.failedAttempts = try String.fetchAll(
      database, sql: "SELECT record FROM failedAttempt ORDER BY number"
    ).map { try value(RoundRecord.self, $0, "an attempt") }
    if let levels: String = row["levels"] {
      run.levels = try value(KeptLevels.self, levels, "the levels")
    }
    if let planner: Data = row["planner"] { run.planner = Array(planner) }
    run.seconds = row["seconds"]
    if let ending: String = row["ending"] {
      run.ending = try value(RunEnding.self, ending, "the ending")
    }
    return run
  }

  /// When the run was begun, and last changed.
  public func times() throws -> (created: String, changed: String)? {
    try read { database in
      try Row.fetchOne(database, sql: "SELECT created, changed FROM run").map {
        ($0["created"], $0["changed"])
      }
    }
  }

  // MARK: Care

  /// What is wrong with the database and the files that it names; nothing where all is well.
  ///
  /// A process may be at work on the run meanwhile: what it let go of between two looks is no damage.
  public func problems() throws -> [String] {
    var found = try problemsNow()
    for _ in 0..<2 where !found.isEmpty && lock == nil {
      let again = Set(try problemsNow())
      found = found.filter(again.contains)
    }
    return found
  }

  private func problemsNow() throws -> [String] {
    var problems: [String] = []
    let messages = try read { try String.fetchAll($0, sql: "PRAGMA integrity_check") }
    problems += messages.filter { $0 != "ok" }.map { "run.sqlite: \($0)" }
    for digest in try read(named).sorted().compactMap(Digest.init(hex:)) {
      problems += check(blobs.url(of: digest), digest)
    }
    let run = try read(kept)
    for update in run?.neededUpdates ?? [] {
      let digest = update.payload.digest
      problems += check(
        folder.appendingPathComponent("updates/\(digest.hex).safetensors"), digest)
    }
    return problems
  }

  private func check(_ file: URL, _ digest: Digest) -> [String] {
    let place = file.path.dropFirst(folder.path.count + 1)
    guard FileManager.default.fileExists(atPath: file.path) else { return ["\(place): is missing"] }
    do {
      return try FolderBlobStore.digest(of: file) == digest
        ? [] : ["\(place): is damaged: it is not what it was when it was written"]
    } catch { return ["\(place): can't be read: \((error as? PeatError)?.message ?? "\(error)")"] }
  }

  /// Goes back to what the run was after a round, 0: before the first. What clients have seen stays counted.
  ///
  /// - Throws: `usage` where that round was not made, or its adapter is kept no longer; `badData` where that is damaged.
  public func rollBack(to round: Int) throws {
    guard let run = try load() else { throw PeatError.usage("The run '\(name)' has not begun.") }
    let made = run.rounds.map(\.record.round)
    guard round == 0 || made.contains(round) else {
      throw PeatError.usage(
        "The run '\(name)' can go back to the rounds 0 to \(made.last ?? 0), not to \(round).")
    }
    guard let place = run.adapter(after: round) else {
      let kept = run.roundsWithAdapter.map(String.init)
      throw PeatError.usage(
        "The adapter of round \(round) is kept no longer; those of the rounds \(kept.joined(separator: ", ")) are (keepAdapters in the run file says how many)."
      )
    }
    let damage = [place.adapter, place.state].flatMap { check(blobs.url(of: $0), $0) }
    guard damage.isEmpty else { throw PeatError.badData(damage.joined(separator: "; ") + ".") }
    let all = run.lastMachine.rules.rounds
    guard round < all else {
      throw PeatError.usage(
        "Round \(round) is the last of the run '\(name)': there is nothing to go on with after it. 'fedpeat runs export' gives its adapter; for more rounds begin another run."
      )
    }
    let machine = run.lastMachine.rolledBack(to: round)
    try translatingErrors(of: name) {
      try queue.write { database in
        for (sql, arguments) in [
          ("DELETE FROM round WHERE round > ?", [round]), ("DELETE FROM event", []),
          ("DELETE FROM taken", []), ("DELETE FROM note WHERE name IN ('done', 'results')", []),
        ] as [(String, StatementArguments)] {
          try database.execute(sql: sql, arguments: arguments)
        }
        try database.execute(
          sql: "UPDATE run SET machine = ?, ending = NULL, changed = ? WHERE id = 1",
          arguments: [try json(machine), now().formatted(.iso8601)])
        for (client, own) in run.clients {
          let counted = run.rounds.last {
            $0.record.round <= round && $0.record.delivered.contains(client)
          }
          try database.execute(
            sql: "UPDATE client SET content = ? WHERE name = ?",
            arguments: [
              try json(own.rolledBack(to: counted?.record.round ?? 0)), client.name,
            ])
        }
      }
    }
    sweep(keeping: try read(named))
  }
}

private func json(_ value: some Encodable) throws -> String {
  String(decoding: try KeptJSON.encode(value), as: UTF8.self)
}

/// Does something with a run's database and gives SQLite's errors as those of the project.
func translatingErrors<Result>(of run: String, _ work: () throws -> Result) throws -> Result {
  do { return try work() } catch let error as DatabaseError {
    let detail = "(\(error.message ?? "no reason given"))"
    switch error.resultCode {
    case .SQLITE_FULL:
      throw PeatError.inputOutput(
        "The disk is full: the run '\(run)' can't be written \(detail).", cause: error)
    case .SQLITE_READONLY, .SQLITE_PERM, .SQLITE_CANTOPEN, .SQLITE_AUTH:
      throw PeatError.inputOutput(
        "The run '\(run)' can't be written: its folder may not be, or its disk is read-only \(detail).",
        cause: error)
    case .SQLITE_CORRUPT, .SQLITE_NOTADB, .SQLITE_FORMAT:
      throw PeatError.badData(
        "The database of the run '\(run)' is damaged \(detail). Adapters beside it, in 'blobs', are whole where their SHA-256 is their name.",
        cause: error)
    case .SQLITE_BUSY, .SQLITE_LOCKED:
      throw PeatError.unavailable(
        "The run '\(run)' is being written by another process \(detail). Try again.", cause: error)
    default:
      throw PeatError.inputOutput(
        "The run '\(run)' can't be read or written \(detail).", cause: error)
    }
  }
}
