import Foundation
import TestSupport
import Testing

@Suite("runs", .timeLimit(.minutes(10))) struct RunsTests {
  /// A run file of the workshop's, with keys over it.
  private func runFile(_ folder: URL, _ keys: String = "") async throws -> String {
    let workshop = try await TinyWorkshop.shared()
    let text = try String(contentsOfFile: workshop.runFile, encoding: .utf8)
    let file = folder.appendingPathComponent("run.yaml")
    func key(_ line: Substring) -> Substring { line.prefix { $0 != ":" } }
    let own = keys.split(separator: "\n")
    let named = Set(own.map(key))
    let others = (text + "\nevaluateEvery: 1\nfullFineTuning: false").split(separator: "\n")
      .filter { !named.contains(key($0)) }
    try Data((others + own).joined(separator: "\n").utf8).write(to: file)
    return file.path
  }

  private func adapter(_ folder: URL, _ name: String) throws -> Data {
    try Data(
      contentsOf: folder.appendingPathComponent(name)
        .appendingPathComponent("adapter_model.safetensors"))
  }

  private func runs(_ words: String..., in folder: URL) async throws -> [String: Any] {
    try await FedpeatCommand.succeed(["runs"] + words + ["--json"], in: folder).object()
  }

  @Test(arguments: [
    "strategy: fedavg", "strategy: product-exact", "attackers: 0.4\nattacks: [stale]",
  ])
  func `a simulation that is interrupted is resumed, and comes to the same`(
    keys: String
  ) async throws {
    try await withTemporaryFolder { folder in
      let file = try await runFile(folder, "rounds: 40\n\(keys)\n")
      let running = try RunningCommand(["simulate", file, "--out", "cut"], in: folder)
      try await running.send(SIGINT, after: "round 5 of")
      let cut = try await running.finish()
      #expect(cut.status == 130)
      #expect(
        cut.errors.contains("fedpeat runs resume run-0 --store ")
          && cut.errors.contains("cut.runs"),
        "\(cut)")
      let shown = try await runs("show", "run-0", "--store", "cut.runs", in: folder)
      let state = try #require(shown["state"] as? [String: Any])
      #expect(state["state"] as? String == "stopped")
      #expect(state["rounds"] as? Int ?? 0 >= 4 && state["roundsInAll"] as? Int == 40)
      let resumed = try await FedpeatCommand.succeed(
        ["runs", "resume", "run-0", "--store", "cut.runs", "--json"], in: folder)
      #expect(resumed.errors.contains("goes on"), "\(resumed)")
      let whole = try await FedpeatCommand.succeed(
        ["simulate", file, "--out", "whole", "--json"], in: folder)
      #expect(try adapter(folder, "cut") == adapter(folder, "whole"))
      let (mine, other) = (try resumed.object(), try whole.object())
      // Bytes up differ with the digits of times in updates' headers.
      for key in ["fiveNumbers", "bestRound", "bestPlugIn", "rounds", "bytesDown"] {
        #expect(mine[key] as? NSObject == other[key] as? NSObject, "\(key)")
      }
    }
  }

  /// Also where all rounds are over, and only what the run came to is still to be written.
  @Test(arguments: [6, 30])
  func `a run in a simulated cell is played again as far as it came`(round: Int) async throws {
    try await withTemporaryFolder { folder in
      let file = try await runFile(
        folder, "rounds: 30\nedge: pedestrian\nplanner: heuristic\nminimumUpdates: 1\n")
      let running = try RunningCommand(["simulate", file, "--out", "cut"], in: folder)
      try await running.send(SIGKILL, after: "round \(round) of")
      _ = try await running.finish()
      let again = try await FedpeatCommand.succeed(
        ["simulate", file, "--out", "cut", "--json"], in: folder
      ).object()
      let whole = try await FedpeatCommand.succeed(
        ["simulate", file, "--out", "whole", "--json"], in: folder
      ).object()
      #expect(try adapter(folder, "cut") == adapter(folder, "whole"))
      #expect(again["simulation"] as? NSObject == whole["simulation"] as? NSObject)
      #expect(again["simulatedSeconds"] as? Double == whole["simulatedSeconds"] as? Double)
    }
  }

  @Test(arguments: ["fedavg", "fedex"])
  func `runs are listed, shown, exported, rolled back, verified and deleted`(
    strategy: String
  ) async throws {
    try await withTemporaryFolder { folder in
      let file = try await runFile(folder, "rounds: 4\nstrategy: \(strategy)\n")
      try await FedpeatCommand.succeed(["simulate", file, "--out", "result"], in: folder)
      let store = ["--store", "result.runs"]
      let list = try await runs("list", "--store", "result.runs", in: folder)
      let first = try #require((list["runs"] as? [[String: Any]])?.first)
      #expect(first["run"] as? String == "run-0" && first["state"] as? String == "finished")
      let shown = try await runs("show", "run-0", "--store", "result.runs", in: folder)
      let rounds = try #require(shown["roundRecords"] as? [[String: Any]])
      #expect(rounds.count == 4 && rounds.allSatisfy { $0["isAdapterKept"] as? Bool == true })
      #expect((shown["results"] as? [String: Any])?["rounds"] as? Int == 4)
      #expect((shown["command"] as? [String])?.first == "simulate")

      // The last round's adapter is the result's; that of round 2 is another, and plugs in.
      _ = try await runs("export", "run-0", "--store", "result.runs", "--out", "last", in: folder)
      #expect(try adapter(folder, "last") == adapter(folder, "result"))
      let second = try await runs(
        "export", "run-0", "--store", "result.runs", "--round", "2", "--out", "second", in: folder)
      #expect(second["round"] as? Int == 2)
      #expect(try adapter(folder, "second") != adapter(folder, "result"))
      // What took long to make is not lost for it.
      let workshop = try await TinyWorkshop.shared()
      let model = try workshop.copy("model", to: folder)
      let export = ["runs", "export", "run-0", "--store", "result.runs", "--out"]
      try await expect(
        74, saying: ["holds a model"], from: export + [model.path], in: folder)
      try await expect(
        74, saying: ["results of a run"], from: export + ["result"], in: folder)
      #expect(
        FileManager.default.fileExists(
          atPath: folder.appendingPathComponent("result/results.json").path))
      let plugged = try await FedpeatCommand.succeed(
        ["evaluate", "second", "--text", workshop.text, "--limit", "50", "--json"], in: folder)
      #expect(try plugged.object()["perplexity"] is NSNumber)

      let whole = try await runs("verify", "run-0", "--store", "result.runs", in: folder)
      #expect(whole["isWhole"] as? Bool == true)
      let back = try await runs(
        "rollback", "run-0", "--store", "result.runs", "--round", "2", in: folder)
      #expect(back["forgotten"] as? Int == 2)
      let before = try adapter(folder, "result")
      try await FedpeatCommand.succeed(["runs", "resume", "run-0"] + store, in: folder)
      #expect(try adapter(folder, "result") == before)

      // A byte that changed is found.
      let blobs = folder.appendingPathComponent("result.runs/run-0/blobs")
      let name = try #require(
        try FileManager.default.contentsOfDirectory(atPath: blobs.path).sorted().first)
      try Data("something else".utf8).write(to: blobs.appendingPathComponent(name))
      let damaged = try await FedpeatCommand.run(
        ["runs", "verify", "run-0", "--json"] + store, in: folder)
      #expect(damaged.status == 65 && damaged.errors.contains("damaged"), "\(damaged)")
      #expect((try damaged.object()["problems"] as? [String])?.first?.contains(name) == true)

      let gone = try await runs("delete", "run-0", "--store", "result.runs", in: folder)
      #expect(gone["bytes"] as? Int ?? 0 > 0)
      #expect(
        !FileManager.default.fileExists(atPath: folder.appendingPathComponent("result.runs").path))
      #expect(try adapter(folder, "result") == before)
    }
  }

  @Test func `another configuration under a run's name is refused, and what differs is said`()
    async throws
  {
    try await withTemporaryFolder { folder in
      let file = try await runFile(folder, "rounds: 4000\n")
      let running = try RunningCommand(["simulate", file, "--out", "result"], in: folder)
      try await running.waits(for: "round 2 of")
      // Another process can't have it meanwhile.
      let second = try await FedpeatCommand.run(["simulate", file, "--out", "result"], in: folder)
      #expect(
        second.status == 64 && second.errors.contains("under way in another process"), "\(second)")
      let busy = try await FedpeatCommand.run(
        ["runs", "delete", "run-0", "--store", "result.runs"], in: folder)
      #expect(busy.status == 64, "\(busy)")
      let list = try await runs("list", "--store", "result.runs", in: folder)
      #expect((list["runs"] as? [[String: Any]])?.first?["state"] as? String == "running")
      running.send(SIGKILL)
      _ = try await running.finish()
      let other = try await FedpeatCommand.run(
        ["simulate", file, "--out", "result", "--learning-rate", "0.5", "--rounds", "3"],
        in: folder)
      #expect(other.status == 64, "\(other)")
      for text in ["learningRate was", "rounds was 4000 and is 3", "--anew", "runs resume run-0"] {
        #expect(other.errors.contains(text), "not '\(text)': \(other)")
      }
      try await FedpeatCommand.succeed(
        ["simulate", file, "--out", "result", "--rounds", "3", "--anew"], in: folder)
      // A finished simulation is made again, as its results are replaced.
      try await FedpeatCommand.succeed(
        ["simulate", file, "--out", "result", "--rounds", "2"], in: folder)
      let served = try await FedpeatCommand.run(
        ["serve", file, "--out", "result", "--rounds", "2", "--minimum-clients", "2"], in: folder)
      #expect(served.status == 64 && served.errors.contains("finished"), "\(served)")
    }
  }

  @Test func `a run that is refused leaves nothing, and --anew takes nothing for it`() async throws
  {
    try await withTemporaryFolder { folder in
      let file = try await runFile(folder, "rounds: 2\n")
      let runs = folder.appendingPathComponent("result.runs")
      // 4096 is more than the model is wide.
      let wrong = ["simulate", file, "--out", "result", "--rank", "4096"]
      #expect(try await FedpeatCommand.run(wrong, in: folder).status != 0)
      #expect(!FileManager.default.fileExists(atPath: runs.path))
      try await FedpeatCommand.succeed(["simulate", file, "--out", "result"], in: folder)
      func state() async throws -> [String: Any] {
        let shown = try await self.runs("show", "run-0", "--store", "result.runs", in: folder)
        return try #require(shown["state"] as? [String: Any])
      }
      // A finished one is replaced, but only by one that begins; so is any by --anew.
      for more in [[], ["--anew"]] {
        #expect(try await FedpeatCommand.run(wrong + more, in: folder).status != 0)
        #expect(try await state()["state"] as? String == "finished")
      }
      let server = try LoopbackServer { _ in .init() }
      let busy = try await FedpeatCommand.run(
        [
          "serve", file, "--out", "result", "--anew", "--listen", "127.0.0.1:\(server.port)",
          "--insecure",
        ], in: folder)
      #expect(busy.status == 69 && busy.errors.contains("in use"), "\(busy)")
      #expect(try await state()["state"] as? String == "finished")
      #expect(try await state()["rounds"] as? Int == 2)
      try await FedpeatCommand.succeed(
        ["simulate", file, "--out", "result", "--rounds", "1", "--anew"], in: folder)
      #expect(try await state()["rounds"] as? Int == 1)
      #expect(try FileManager.default.contentsOfDirectory(atPath: runs.path) == ["run-0"])
      server.stop()
    }
  }

  @Test func `adapters whose database is gone are not deleted`() async throws {
    try await withTemporaryFolder { folder in
      let file = try await runFile(folder, "rounds: 2\n")
      try await FedpeatCommand.succeed(["simulate", file, "--out", "result"], in: folder)
      let place = folder.appendingPathComponent("result.runs/run-0")
      func blobs() throws -> [String] {
        try FileManager.default.contentsOfDirectory(
          atPath: place.appendingPathComponent("blobs").path
        ).sorted()
      }
      let before = try blobs()
      for name in ["run.sqlite", "run.sqlite-wal", "run.sqlite-shm"] {
        try? FileManager.default.removeItem(at: place.appendingPathComponent(name))
      }
      for command in ["simulate", "serve"] {
        try await expect(
          65, saying: ["run.sqlite", "missing", "--anew"],
          from: [command, file, "--out", "result", "--quiet"], in: folder)
        #expect(try blobs() == before)
      }
      try await FedpeatCommand.succeed(["simulate", file, "--out", "result", "--anew"], in: folder)
    }
  }

  @Test(arguments: ["evaluationData", "realignData", "serverData"])
  func `a run goes on only with the texts that it began with`(key: String) async throws {
    try await withTemporaryFolder { folder in
      let text = folder.appendingPathComponent("own.txt")
      try Data(TinyWorkshop.sentences(20, seed: 5).joined(separator: "\n").utf8).write(to: text)
      let also = key == "serverData" ? "participate: true\n" : ""
      let measured =
        key == "evaluationData"
        ? "" : "evaluationData: \(try await TinyWorkshop.shared().text)\n"
      let file = try await runFile(
        folder, "rounds: 4000\n\(key): \(text.path)\n\(also)\(measured)")
      func cut() async throws {
        let running = try RunningCommand(["simulate", file, "--out", "result"], in: folder)
        try await running.send(SIGKILL, after: "of 4000")
        _ = try await running.finish()
      }
      try await cut()
      let before = try Data(contentsOf: text)
      try Data("Quite another text. It is easy.".utf8).write(to: text)
      try await expect(
        65, saying: ["the text of \(key)", "can't go on", "--anew"],
        from: ["simulate", file, "--out", "result", "--quiet"], in: folder)
      try before.write(to: text)
      try await cut()
    }
  }

  @Test func `runs that can't be read are told, and the others are shown`() async throws {
    try await withTemporaryFolder { folder in
      let file = try await runFile(folder, "rounds: 2\nevaluateEvery: 0\n")
      try await FedpeatCommand.succeed(["simulate", file, "--out", "result"], in: folder)
      let shelf = folder.appendingPathComponent("result.runs")
      // What was measured at the end is told, where rounds were not measured.
      func state(_ verb: String...) async throws -> [String: Any] {
        let shown = try await FedpeatCommand.succeed(
          ["runs"] + verb + ["--store", "result.runs", "--json"], in: folder
        ).object()
        return try #require(
          (shown["runs"] as? [[String: Any]])?.first ?? shown["state"] as? [String: Any])
      }
      #expect(try await state("list")["plugIn"] is NSNumber)
      #expect(try await state("show", "run-0")["plugIn"] is NSNumber)
      // A database of noise, an empty one, none, one of something else.
      for number in 1...4 {
        let place = shelf.appendingPathComponent("run-\(number)")
        try FileManager.default.copyItem(at: shelf.appendingPathComponent("run-0"), to: place)
        for name in ["run.sqlite", "run.sqlite-wal", "run.sqlite-shm"] {
          try? FileManager.default.removeItem(at: place.appendingPathComponent(name))
        }
        let file = place.appendingPathComponent("run.sqlite")
        switch number {
        case 1: try Data(repeating: 7, count: 20_000).write(to: file)
        case 2: try Data().write(to: file)
        case 3: break
        default: try Data("SQLite format 3\0 and no more".utf8).write(to: file)
        }
      }
      let list = try await FedpeatCommand.run(
        ["runs", "list", "--store", "result.runs"], in: folder)
      #expect(list.status == 65 && list.errors.contains("4 of 5 runs can't be read"), "\(list)")
      #expect(list.output.contains("finished") && !list.output.contains("no runs"), "\(list)")
      for (number, word) in [(1, "damaged"), (2, "empty"), (3, "missing"), (4, "damaged")] {
        #expect(list.output.contains("run-\(number)  unreadable"), "\(list)")
        for verb in ["show", "verify", "resume"] {
          let result = try await FedpeatCommand.run(
            ["runs", verb, "run-\(number)", "--store", "result.runs"], in: folder)
          #expect(result.status == 65 && result.errors.contains(word), "\(result)")
        }
        let back = try await FedpeatCommand.run(
          ["runs", "rollback", "run-\(number)", "--store", "result.runs", "--round", "1"],
          in: folder)
        #expect(back.status == 65 && back.errors.contains(word), "\(back)")
        try await FedpeatCommand.succeed(
          ["runs", "delete", "run-\(number)", "--store", "result.runs"], in: folder)
      }
      #expect(try await state("list")["state"] as? String == "finished")
      // Gone back from, it came to nothing yet.
      _ = try await runs("rollback", "run-0", "--store", "result.runs", "--round", "1", in: folder)
      #expect(try await state("list")["plugIn"] is NSNull)
      try await expect(
        74, saying: ["is a file"], from: ["runs", "list", "--store", "run.yaml"], in: folder)
    }
  }

  @Test func `attempts that did not count are shown, with the reasons`() async throws {
    try await withTemporaryFolder { folder in
      let file = try await runFile(
        folder,
        "rounds: 6\nminimumUpdates: 2\nclientDropouts: 0.3\nattempts: 20\ngatheringDeadline: 1\n")
      let result = try await FedpeatCommand.succeed(
        ["simulate", file, "--out", "result", "--json"], in: folder)
      let failed = try #require(try result.object()["failedAttempts"] as? [[String: Any]])
      #expect(!failed.isEmpty)
      let shown = try await runs("show", "run-0", "--store", "result.runs", in: folder)
      let records = try #require(shown["failedAttemptRecords"] as? [[String: Any]])
      #expect(records.count == failed.count && shown["failedAttempts"] as? Int == failed.count)
      let outcome = try #require((records.first?["outcomes"] as? [[String: Any]])?.first)
      #expect(
        outcome["client"] is String && (outcome["result"] as? [String: Any])?["kind"] is String)
      let text = try await FedpeatCommand.succeed(
        ["runs", "show", "run-0", "--store", "result.runs"], in: folder)
      let round = try #require(records.first?["round"] as? Int)
      #expect(text.output.contains("attempts that did not count: \(failed.count)"), "\(text)")
      #expect(text.output.contains("round \(round), attempt 1: client-1 "), "\(text)")
    }
  }

  @Test func `a run that is not there is told, with those that are`() async throws {
    try await withTemporaryFolder { folder in
      for verb in ["show", "resume", "verify", "delete"] {
        try await expect(
          74, saying: ["no runs in"], from: ["runs", verb, "run-0", "--store", "none"], in: folder)
      }
      try await expect(
        74, saying: ["no runs in"],
        from: ["runs", "rollback", "run-0", "--round", "1", "--store", "none"], in: folder)
      try await expect(
        64, saying: ["can't name a run"],
        from: ["runs", "show", "../x", "--store", "none"], in: folder)
      let list = try await runs("list", "--store", "none", in: folder)
      #expect((list["runs"] as? [Any])?.isEmpty == true)
      try await expect(
        64, saying: ["--anew"],
        from: ["simulate", try await TinyWorkshop.shared().runFile, "--anew"], in: folder)
    }
  }
}
