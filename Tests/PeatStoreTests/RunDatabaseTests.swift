import Foundation
import GRDB
import PeatFederation
import PeatStore
import PeatTensor
import TestSupport
import Testing

@Suite("RunDatabase", .timeLimit(.minutes(10))) struct RunDatabaseTests {
  /// A finished run of four rounds.
  private func finished(_ folder: URL, rounds: Int = 4) async throws -> RunReport {
    var federation = MortalFederation()
    federation.rounds = rounds
    return try await federation.run(.sqlite, in: folder).report
  }

  private func place(_ folder: URL) -> URL { folder.appendingPathComponent("run") }

  @Test func `adapters of the last rounds are kept, and no others`() async throws {
    try await withTemporaryFolder { folder in
      let report = try await finished(folder)
      let database = try RunDatabase(place(folder))
      let run = try #require(try database.load())
      #expect(run.ending == .completed)
      #expect(run.rounds.map { $0.adapter != nil } == [false, false, true, true])
      let file = database.blobs.url(of: try #require(run.last).adapter)
      #expect(try SafeTensorsFile(contentsOf: file).tensors().digest == report.adapter.digest)
      let files = try FileManager.default.contentsOfDirectory(
        atPath: place(folder).appendingPathComponent("blobs").path)
      // Two adapters, the first one, and an empty state of the strategy.
      #expect(files.count == 4)
      #expect(try database.problems().isEmpty)
    }
  }

  @Test func `goes back to a round, and on from there to the same end`() async throws {
    try await withTemporaryFolder { folder in
      let report = try await finished(folder)
      do {
        let database = try RunDatabase(place(folder))
        expectError(.usage, "0 to 4", "not to 9") { try database.rollBack(to: 9) }
        // The run would go on with a fifth round of four.
        expectError(.usage, "Round 4 is the last") { try database.rollBack(to: 4) }
        #expect(try database.load()?.ending == .completed)
        expectError(.usage, "kept no longer", "0, 3, 4") { try database.rollBack(to: 1) }
        try database.rollBack(to: 3)
        let run = try #require(try database.load())
        #expect(run.rounds.map(\.record.round) == [1, 2, 3] && run.ending == nil)
        #expect(run.lastMachine.round == 4)
      }
      let again = try await MortalFederation().run(.sqlite, in: folder)
      #expect(again.report.adapter.digest == report.adapter.digest)
      #expect(again.report.rounds.count == 4)
      try RunDatabase(place(folder)).rollBack(to: 0)
      let anew = try await MortalFederation().run(.sqlite, in: folder)
      #expect(anew.report.adapter.digest == report.adapter.digest)
    }
  }

  @Test func `a run is one process's`() throws {
    try withTemporaryFolder { folder in
      let database = try RunDatabase(place(folder))
      expectError(.usage, "under way in another process") { _ = try RunDatabase(place(folder)) }
      try database.keep(Data("x".utf8), as: "note")
      // Who reads is not kept out.
      let reader = try RunDatabase(reading: place(folder))
      #expect(try reader.note("note") == Data("x".utf8))
      expectError(.usage, "under way") { try RunShelf(folder).delete("run") }
      #expect(try reader.problems().isEmpty)
    }
  }

  @Test func `what a process that was killed had not named yet is swept away`() throws {
    try withTemporaryFolder { folder in
      let database = try RunDatabase(place(folder))
      try database.keep(Data("x".utf8), as: "note")
      let blob = Digest(of: Data("nobody's".utf8)).description
      let left = [
        "new-1.safetensors", ".new-1.safetensors.partial-1-2", "blobs/\(blob)",
        "blobs/.\(blob).partial-1-2",
      ].map { place(folder).appendingPathComponent($0) }
      for file in left { try Data("y".utf8).write(to: file) }
      // Whoever reads only leaves them: they may be somebody's who is at work.
      _ = try RunDatabase(reading: place(folder)).load()
      #expect(left.allSatisfy { FileManager.default.fileExists(atPath: $0.path) })
      _ = try database.load()
      #expect(left.allSatisfy { !FileManager.default.fileExists(atPath: $0.path) })
      #expect(try database.note("note") == Data("x".utf8))
    }
  }

  @Test func `clocks that jump change nothing`() throws {
    try withTemporaryFolder { folder in
      let times = [0, 1e9, -1e9, 4e9].map(Date.init(timeIntervalSince1970:))
      for (number, time) in times.enumerated() {
        let database = try RunDatabase(place(folder), now: { time })
        var changes = RunChanges()
        if number == 0 {
          changes.machine = RoundStateMachine(rules: RoundRules(rounds: 9))
          changes.start = KeptAdapter(adapter: Digest(of: Data()), state: Digest(of: Data()))
        }
        let record = RoundRecord(round: number + 1, attempt: 1, plan: RoundPlan([:]), outcomes: [])
        changes.round = KeptRound(record: record, adapter: nil)
        changes.seconds = Double(number)
        try database.commit(changes)
      }
      let database = try RunDatabase(place(folder))
      let run = try #require(try database.load())
      #expect(run.rounds.map(\.record.round) == [1, 2, 3, 4] && run.seconds == 3)
    }
  }

  @Test func `numbers that are none are kept`() throws {
    try withTemporaryFolder { folder in
      let database = try RunDatabase(place(folder))
      var changes = RunChanges()
      changes.machine = RoundStateMachine(rules: RoundRules(rounds: 9))
      changes.start = KeptAdapter(adapter: Digest(of: Data()), state: Digest(of: Data()))
      let metrics = ["a": Double.infinity, "b": -.infinity, "c": .nan, "d": 0.1 + 0.2]
      changes.round = KeptRound(
        record: RoundRecord(
          round: 1, attempt: 1, plan: RoundPlan([:]), outcomes: [], metrics: metrics),
        adapter: nil)
      try database.commit(changes)
      let found = try #require(try database.load()?.rounds.first).record.metrics
      #expect(found["a"] == .infinity && found["b"] == -.infinity && found["d"] == 0.1 + 0.2)
      #expect(found["c"]?.isNaN == true)
    }
  }

  // MARK: Versions

  @Test func `a database of a newer version is refused, and says so`() throws {
    try withTemporaryFolder { folder in
      _ = try RunDatabase(place(folder))
      let file = place(folder).appendingPathComponent("run.sqlite").path
      try DatabaseQueue(path: file).write {
        try $0.execute(sql: "INSERT INTO grdb_migrations VALUES ('7')")
      }
      expectError(.badData, "newer version", "7", "knows up to 1") {
        _ = try RunDatabase(place(folder))
      }
      expectError(.badData, "newer version") { _ = try RunDatabase(reading: place(folder)) }
    }
  }

  /// Each version that was ever released has a run in Versions/, as SQL.
  @Test(arguments: ["1"])
  func `a run that an earlier version kept is read, and goes on`(version: String) throws {
    let source = ProjectFolders.root.appendingPathComponent(
      "Tests/PeatStoreTests/Versions/version-\(version).sql")
    let sql = try String(contentsOf: source, encoding: .utf8)
    try withTemporaryFolder { folder in
      try FileManager.default.createDirectory(at: place(folder), withIntermediateDirectories: true)
      let file = place(folder).appendingPathComponent("run.sqlite").path
      try DatabaseQueue(path: file).writeWithoutTransaction { try $0.execute(sql: sql) }
      let database = try RunDatabase(place(folder))
      let run = try #require(try database.load())
      // It was stopped in its third round, with one update taken.
      #expect(run.rounds.map(\.record.round) == [1, 2])
      #expect(run.lastMachine.round == 3 && run.lastMachine.isInRound)
      #expect(run.updates.count == 1 && run.clients.count == 3)
      #expect(run.rounds[1].record.delivered == ["a", "b", "c"])
      #expect(run.clients["a"]?.traffic.bytesUp ?? 0 > 0)
      #expect(try database.note("configuration") == Data("{}".utf8))
    }
  }

  /// Writes the file that the test above reads, for the version that this program is of: FEDPEAT_RECORD_VERSION=1 swift test --filter 'records a run'.
  @Test(
    .enabled(
      if: ProcessInfo.processInfo.environment["FEDPEAT_RECORD_VERSION"] != nil,
      "only where a new version is released"))
  func `records a run of this version, stopped in its third round`() async throws {
    try await withTemporaryFolder { folder in
      for commit in 10...60 {
        let own = folder.appendingPathComponent("\(commit)")
        let stopped = MortalFederation.Death(commit: commit, isKept: true)
        _ = try? await MortalFederation().run(
          .sqlite, in: own, deaths: [stopped], stopsThere: true)
        let database = try RunDatabase(place(own))
        guard let run = try database.load(), run.rounds.count == 2, run.updates.count == 1,
          run.lastMachine.isInRound
        else { continue }
        try database.keep(Data("{}".utf8), as: "configuration")
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/sqlite3")
        process.arguments = [place(own).appendingPathComponent("run.sqlite").path, ".dump"]
        let pipe = Pipe()
        process.standardOutput = pipe
        try process.run()
        let dump = pipe.fileHandleForReading.readDataToEndOfFile()
        try dump.write(
          to: ProjectFolders.root.appendingPathComponent(
            "Tests/PeatStoreTests/Versions/version-\(RunDatabase.version).sql"))
        return
      }
      Issue.record("no run was stopped so")
    }
  }

  // MARK: Damage

  private func damage(_ file: URL, at offset: UInt64 = 100) throws {
    let handle = try FileHandle(forUpdating: file)
    try handle.seek(toOffset: offset)
    try handle.write(contentsOf: Data(repeating: 0xA5, count: 64))
    try handle.close()
  }

  @Test func `a damaged adapter is named, and the round before it is whole`() async throws {
    try await withTemporaryFolder { folder in
      let report = try await finished(folder)
      var file: URL
      do {
        let database = try RunDatabase(place(folder))
        let last = try #require(try database.load()?.last)
        file = database.blobs.url(of: last.adapter)
        try damage(file)
        #expect(
          try database.problems()
            == ["blobs/\(last.adapter.hex): is damaged: it is not what it was when it was written"])
        expectError(.badData, "is damaged") { try database.rollBack(to: 4) }
      }
      let database = try RunDatabase(place(folder))
      let error = await #expect(throws: PeatError.self) {
        _ = try await MortalFederation().coordinator(folder, store: database)
      }
      #expect(error?.code == .badData)
      #expect(
        error?.message.contains(file.lastPathComponent) == true, "\(String(describing: error))")
      #expect(error?.message.contains("runs rollback") == true)
      try database.rollBack(to: 3)
      let coordinator = try await MortalFederation().coordinator(folder, store: database)
      #expect(await coordinator.report.rounds.count == 3)
      _ = report
    }
  }

  @Test func `an update that is damaged is asked again`() async throws {
    try await withTemporaryFolder { folder in
      let federation = MortalFederation()
      let expected = try await federation.run(nil, in: folder.appendingPathComponent("plain"))
      let own = folder.appendingPathComponent("kept")
      // Until an update of the first round was taken.
      try await damageAfterDeath(federation, own)
      let outcome = try await federation.run(.sqlite, in: own)
      #expect(outcome.report.adapter.digest == expected.report.adapter.digest)
      #expect(outcome.report.rounds.count == federation.rounds)
    }
  }

  /// Lets the coordinator die with an update taken, and damages that.
  private func damageAfterDeath(
    _ federation: MortalFederation, _ folder: URL
  ) async throws {
    let store = MortalStore(
      try RunDatabase(folder.appendingPathComponent("run")), diesAtUpdate: true)
    let coordinator = try await federation.coordinator(folder, store: store)
    let transport = InMemoryTransport(coordinator, chunkBytes: 64)
    let running = Task { try await coordinator.run() }
    let clients = try federation.clients.map { id, target in
      try Client(
        ClientConfiguration(client: id), connection: transport.connect(),
        trainer: ToyTrainer(target: target, examples: 1 + Int(abs(target))),
        workFolder: folder.appendingPathComponent("client-\(id)"), logger: .quiet)
    }
    let tasks = clients.map { client in Task { try await client.run() } }
    let updates = store.folder.appendingPathComponent("updates")
    await #expect(throws: PeatError.self) { try await running.value }
    await transport.disconnect()
    for task in tasks { task.cancel() }
    for task in tasks { _ = await task.result }
    let taken = try FileManager.default.contentsOfDirectory(atPath: updates.path)
      .filter { $0.hasSuffix(".safetensors") }
    #expect(!taken.isEmpty)
    for name in taken { try damage(updates.appendingPathComponent(name)) }
  }

  @Test func `a damaged database is told, not read`() async throws {
    try await withTemporaryFolder { folder in
      _ = try await finished(folder)
      let file = place(folder).appendingPathComponent("run.sqlite")
      try damage(file, at: 0)
      expectError(.badData, "damaged") { _ = try RunDatabase(place(folder)) }
    }
  }

  // MARK: Disks

  /// A small disk of its own, in memory; `nil` where that is not allowed here.
  private func withDisk(
    _ folder: URL, kilobytes: Int, _ body: (URL) async throws -> Void
  ) async throws -> Bool {
    let disk = folder.appendingPathComponent("disk")
    try FileManager.default.createDirectory(at: disk, withIntermediateDirectories: true)
    guard
      shell("mount", "-t", "tmpfs", "-o", "size=\(kilobytes)k", "tmpfs", disk.path)
    else { return false }
    defer { _ = shell("umount", "-l", disk.path) }
    try await body(disk)
    return true
  }

  @discardableResult
  private func shell(_ words: String...) -> Bool {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = words
    process.standardError = FileHandle.nullDevice
    do { try process.run() } catch { return false }
    process.waitUntilExit()
    return process.terminationStatus == 0
  }

  static let mayMount =
    FileManager.default.isExecutableFile(atPath: "/usr/bin/mount") && geteuid() == 0

  @Test(.enabled(if: mayMount, "mounting a small disk needs root"))
  func `a full disk stops the run, and nothing is lost`() async throws {
    try await withTemporaryFolder { folder in
      let federation = MortalFederation()
      let expected = try await federation.run(nil, in: folder.appendingPathComponent("plain"))
      let mounted = try await withDisk(folder, kilobytes: 1024) { disk in
        // Room is left for a round or so.
        let filler = disk.appendingPathComponent("filler")
        try Data(count: 700 << 10).write(to: filler)
        let place = disk.appendingPathComponent("run")
        do {
          let store = MortalStore(try RunDatabase(place))
          let coordinator = try await federation.coordinator(folder, store: store)
          // The rest of the disk.
          let rest = disk.appendingPathComponent("rest")
          _ = FileManager.default.createFile(atPath: rest.path, contents: nil)
          if let handle = try? FileHandle(forWritingTo: rest) {
            while (try? handle.write(contentsOf: Data(count: 4096))) != nil {}
          }
          await coordinator.process(
            .clientJoined("someone", restarted: true))
          for _ in 0..<200 where await coordinator.keepingFailure == nil {
            await coordinator.process(.clientJoined("x", restarted: true))
            await coordinator.process(.clientLost("x", reason: "test"))
          }
          let failure = try #require(await coordinator.keepingFailure)
          #expect(
            failure.code == .inputOutput && failure.message.contains("disk is full"), "\(failure)")
          #expect(failure.message.contains("same command again"))
          let error = await #expect(throws: PeatError.self) { try await coordinator.run() }
          #expect(error?.code == .inputOutput)
          store.die()
          try FileManager.default.removeItem(at: rest)
        }
        try FileManager.default.removeItem(at: filler)
        try FileManager.default.createSymbolicLink(
          at: folder.appendingPathComponent("run"), withDestinationURL: place)
        let outcome = try await federation.run(.sqlite, in: folder)
        #expect(outcome.report.adapter.digest == expected.report.adapter.digest)
      }
      if !mounted { print("no small disk could be mounted here") }
    }
  }

  @Test func `what can't be written while a round is aggregated stops the coordinator alone`()
    async throws
  {
    try await withTemporaryFolder { folder in
      let federation = MortalFederation()
      let expected = try await federation.run(nil, in: folder.appendingPathComponent("plain"))
      let blobs = place(folder).appendingPathComponent("blobs")
      let away = folder.appendingPathComponent("away")
      do {
        let store = MortalStore(try RunDatabase(place(folder)))
        let coordinator = try await federation.coordinator(folder, store: store) { event in
          // As where the disk is full: nothing more can be written there.
          guard case .aggregating(2, _) = event else { return }
          try? FileManager.default.moveItem(at: blobs, to: away)
          _ = FileManager.default.createFile(atPath: blobs.path, contents: nil)
        }
        let transport = InMemoryTransport(coordinator, chunkBytes: 64)
        let working = try federation.clients.map { id, target in
          let client = try Client(
            ClientConfiguration(
              client: id, retry: RetryPolicy(attempts: 3, initial: .milliseconds(2))),
            connection: transport.connect(),
            trainer: ToyTrainer(target: target, examples: 1 + Int(abs(target)), steps: 3),
            workFolder: folder.appendingPathComponent("client-\(id)"), logger: .quiet,
            freeMemory: { 1 << 20 })
          return Task { try await client.run() }
        }
        let error = await #expect(throws: PeatError.self) { try await coordinator.run() }
        #expect(error?.code == .inputOutput, "\(String(describing: error))")
        #expect(error?.message.contains("same command again") == true)
        for task in working {
          // It is not told that the run has failed, but tries again.
          let error = await #expect(throws: PeatError.self) { try await task.value }
          #expect(error?.code == .unavailable, "\(String(describing: error))")
        }
        store.die()
      }
      try FileManager.default.removeItem(at: blobs)
      try FileManager.default.moveItem(at: away, to: blobs)
      let outcome = try await federation.run(.sqlite, in: folder)
      #expect(outcome.report.rounds.count == 4)
      #expect(outcome.report.adapter.digest == expected.report.adapter.digest)
    }
  }

  @Test func `a run that does not begin leaves nothing, and the one before it comes back`() throws {
    try withTemporaryFolder { folder in
      let shelf = RunShelf(folder.appendingPathComponent("runs"))
      func note() throws -> String? {
        try shelf.read("run").note("which").map { String(decoding: $0, as: UTF8.self) }
      }
      func begin(_ name: String, begins: Bool) throws {
        try shelf.putBack("run")
        if shelf.hasAnything(of: "run") { try shelf.setAside("run") }
        let database = try shelf.open("run")
        database.markProvisional()
        try database.keep(Data(name.utf8), as: "which")
        if begins { try database.begin() }
        database.leave()
      }
      try begin("first", begins: false)
      #expect(!FileManager.default.fileExists(atPath: shelf.folder.path))
      try begin("second", begins: true)
      #expect(try note() == "second")
      try begin("third", begins: false)
      #expect(try note() == "second")
      try begin("fourth", begins: true)
      #expect(try note() == "fourth")
      let names = try FileManager.default.contentsOfDirectory(atPath: shelf.folder.path)
      #expect(names == ["run"])
      // Killed before it began, so that nobody said 'leave'.
      do {
        try shelf.setAside("run")
        let database = try shelf.open("run")
        database.markProvisional()
        #expect(shelf.runs == ["run"])
        // It is under way.
        expectError(.usage, "under way") { try shelf.putBack("run") }
      }
      try shelf.putBack("run")
      #expect(try note() == "fourth")
    }
  }

  @Test func `adapters without their database are not begun anew upon`() throws {
    try withTemporaryFolder { folder in
      let shelf = RunShelf(folder)
      try shelf.checkDatabase(of: "run")
      do {
        let database = try shelf.open("run")
        try Data("x".utf8).write(to: database.blobs.url(of: Digest(of: Data("x".utf8))))
      }
      try shelf.checkDatabase(of: "run")
      let file = folder.appendingPathComponent("run/run.sqlite")
      try Data().write(to: file)
      expectError(.badData, "is empty", "--anew") { try shelf.checkDatabase(of: "run") }
      try FileManager.default.removeItem(at: file)
      expectError(.badData, "is missing", "--anew") { try shelf.checkDatabase(of: "run") }
    }
  }

  @Test(.enabled(if: mayMount, "mounting a small disk needs root"))
  func `a disk that may only be read is told at once`() async throws {
    try await withTemporaryFolder { folder in
      _ = try await withDisk(folder, kilobytes: 4096) { disk in
        let place = disk.appendingPathComponent("run")
        do { try RunDatabase(place).keep(Data("x".utf8), as: "note") }
        #expect(shell("mount", "-o", "remount,ro", disk.path))
        // What is there can be read, as what was archived.
        #expect(try RunDatabase(reading: place).note("note") == Data("x".utf8))
        #expect(try RunDatabase(reading: place).problems().isEmpty)
        expectError(.inputOutput, "run") { _ = try RunDatabase(place) }
        expectError(.inputOutput, "Can't make the folder") {
          _ = try RunDatabase(disk.appendingPathComponent("other"))
        }
        #expect(shell("mount", "-o", "remount,rw", disk.path))
        _ = try RunDatabase(place)
      }
    }
  }
}
