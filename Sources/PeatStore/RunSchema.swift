import GRDB
import PeatTensor

/// The tables of a run's database, and how each version came from the one before.
///
/// A migration that was released is never changed: a later one follows on it.
enum RunSchema {
  static var migrator: DatabaseMigrator {
    var migrator = DatabaseMigrator()
    migrator.registerMigration("1", migrate: version1)
    return migrator
  }

  /// Of this program.
  static var version: String { migrator.migrations.last ?? "0" }

  private static func version1(_ database: Database) throws {
    try database.execute(
      sql: """
        CREATE TABLE run (
          id INTEGER PRIMARY KEY CHECK (id = 1),
          machine TEXT NOT NULL,
          startAdapter TEXT NOT NULL,
          startState TEXT NOT NULL,
          levels TEXT,
          planner BLOB,
          seconds REAL NOT NULL,
          ending TEXT,
          created TEXT NOT NULL,
          changed TEXT NOT NULL
        );
        CREATE TABLE event (number INTEGER PRIMARY KEY AUTOINCREMENT, event TEXT NOT NULL);
        CREATE TABLE client (name TEXT PRIMARY KEY, content TEXT NOT NULL) WITHOUT ROWID;
        CREATE TABLE taken (
          client TEXT NOT NULL,
          round INTEGER NOT NULL,
          number INTEGER NOT NULL,
          content TEXT NOT NULL,
          PRIMARY KEY (client, round, number)
        ) WITHOUT ROWID;
        CREATE TABLE round (
          round INTEGER PRIMARY KEY,
          record TEXT NOT NULL,
          adapter TEXT,
          state TEXT,
          closed TEXT NOT NULL
        );
        CREATE TABLE failedAttempt (number INTEGER PRIMARY KEY AUTOINCREMENT, record TEXT NOT NULL);
        CREATE TABLE note (name TEXT PRIMARY KEY, content BLOB NOT NULL) WITHOUT ROWID;
        """)
  }

  /// Brings a database to this program's version.
  ///
  /// - Throws: `badData` where it is of a newer one.
  static func migrate(_ queue: DatabaseQueue, named name: String) throws {
    try check(queue, named: name)
    try migrator.migrate(queue)
  }

  /// Throws where a database that is only read was never begun, or is not a run's.
  static func checkTables(_ queue: DatabaseQueue, named name: String) throws {
    guard try queue.read({ try migrator.appliedIdentifiers($0) }).isEmpty else { return }
    throw PeatError.badData(
      "The database of the run '\(name)' is empty, or not a run's: it has none of its tables. Put the right one back; 'runs delete' deletes what is there."
    )
  }

  /// Throws where a database is of a newer version than this program's.
  static func check(_ queue: DatabaseQueue, named name: String) throws {
    let newer = try queue.read { database -> [String] in
      guard try migrator.hasBeenSuperseded(database) else { return [] }
      return try String.fetchAll(
        database, sql: "SELECT identifier FROM grdb_migrations ORDER BY identifier")
    }
    guard newer.isEmpty else {
      throw PeatError.badData(
        "The run '\(name)' was kept by a newer version of the program: its database has the versions \(newer.joined(separator: ", ")); this program knows up to \(version). Use the newer program, or 'runs delete' with it."
      )
    }
  }
}
