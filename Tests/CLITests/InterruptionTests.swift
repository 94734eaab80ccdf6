import Foundation
import TestSupport
import Testing

/// Ctrl-C ends a command and all that it started, with 130.
@Suite("Interruption") struct InterruptionTests {
  /// Processes that run in a folder or below it, by their working folder.
  private func processes(in folder: URL) -> [String] {
    let path = folder.resolvingSymlinksInPath().path
    let numbers = (try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []
    return numbers.filter { number in
      guard Int(number) != nil,
        let place = try? FileManager.default.destinationOfSymbolicLink(
          atPath: "/proc/\(number)/cwd")
      else { return false }
      return place == path || place.hasPrefix(path + "/")
    }
  }

  private func expectInterrupted(
    _ arguments: [String], after text: String, signal: Int32 = SIGINT, in folder: URL,
    sourceLocation: SourceLocation = #_sourceLocation
  ) async throws {
    let command = try RunningCommand(arguments, in: folder)
    try await command.send(signal, after: text, sourceLocation: sourceLocation)
    let result = try await command.finish(seconds: 30)
    #expect(result.status == 130, "\(result)", sourceLocation: sourceLocation)
    #expect(result.errors.contains("Interrupted"), "\(result)", sourceLocation: sourceLocation)
    #expect(result.output.isEmpty, sourceLocation: sourceLocation)
    expectNoCrash(result, sourceLocation: sourceLocation)
    expectNothingPartial(in: folder, sourceLocation: sourceLocation)
    #expect(processes(in: folder) == [], sourceLocation: sourceLocation)
  }

  @Test func `a calibration goes on with the same command`() async throws {
    try await withWorkshop { workshop, folder in
      let calibrate = [
        "calibrate", workshop.runFile, "--rounds", "20", "--threads", "1", "--out", "edge.yaml",
      ]
      try await expectInterrupted(calibrate, after: "in 20 rounds", in: folder)
      let record = folder.appendingPathComponent("edge.yaml.calibration")
      #expect(FileManager.default.fileExists(atPath: record.path))
      // Other settings are measured anew.
      let other = try await FedpeatCommand.succeed(
        calibrate + ["--learning-rate", "0.001"], in: folder)
      #expect(!other.errors.contains("goes on"), "\(other.errors)")
      #expect(!FileManager.default.fileExists(atPath: record.path))

      try await expectInterrupted(calibrate, after: "in 20 rounds", in: folder)
      let rest = try await FedpeatCommand.succeed(calibrate, in: folder)
      #expect(rest.errors.contains("interrupted calibration left: times"), "\(rest.errors)")
      #expect(!FileManager.default.fileExists(atPath: record.path))
      let edge = folder.appendingPathComponent("edge.yaml")
      let parts = try String(contentsOf: edge, encoding: .utf8)
      _ = try await FedpeatCommand.succeed(calibrate, in: folder)
      let whole = try String(contentsOf: edge, encoding: .utf8)
      // What losses say does not depend on the break; times do.
      func learning(_ text: String) -> String {
        String(text.components(separatedBy: "learning:").last?.prefix(200) ?? "")
      }
      #expect(learning(parts) == learning(whole))
      // A record that no calibration wrote is not gone on from.
      try await expectInterrupted(calibrate, after: "in 20 rounds", in: folder)
      var table = try #require(
        JSONSerialization.jsonObject(with: Data(contentsOf: record)) as? [String: Any])
      table["times"] = [Any]()
      try JSONSerialization.data(withJSONObject: table).write(to: record)
      let damaged = try await FedpeatCommand.succeed(calibrate, in: folder)
      #expect(damaged.errors.contains("begins anew"), "\(damaged.errors)")
    }
  }

  @Test func `of a run with several seeds those that are done are kept`() async throws {
    try await withWorkshop { workshop, folder in
      try await expectInterrupted(
        [
          "simulate", workshop.url("run.yaml").path, "--seeds", "100", "--seed", "7", "--threads",
          "1", "--out", "result", "--json",
        ], after: "seed 9", in: folder)
      let results = try JSONSerialization.jsonObject(
        with: Data(contentsOf: folder.appendingPathComponent("result/results.json")))
      let table = try #require(results as? [String: Any])
      let seeds = try #require(table["seeds"] as? [[String: Any]])
      #expect(seeds.count >= 2 && table["seedsAsked"] as? Int == 100)
      #expect((table["ending"] as? [String: Any])?["kind"] as? String == "cancelled")
      // And may be made again there.
      _ = try await FedpeatCommand.succeed(
        [
          "simulate", workshop.url("run.yaml").path, "--seeds", "2", "--seed", "7", "--threads",
          "1", "--out", "result", "--json",
        ], in: folder)
      for number in 0..<seeds.count {
        let own = folder.appendingPathComponent("result/seed-\(7 + number)/results.json")
        #expect(FileManager.default.fileExists(atPath: own.path))
      }
    }
  }

  @Test(arguments: ["lora", "end-blocks", "full"])
  func `tune saves a state that resumes to the same bits`(method: String) async throws {
    let workshop = try await TinyWorkshop.shared()
    try await withTemporaryFolder { folder in
      func tune(_ out: String, _ more: String...) -> [String] {
        let model = method == "full" ? workshop.model : workshop.emulator
        return [
          "tune", model, "--data", workshop.text, "--method", method, "--steps", "2000", "--batch",
          "4", "--learning-rate", "1e-3", "--seed", "5", "--threads", "1", "--out", out,
        ] + more
      }
      let whole = try await FedpeatCommand.succeed(tune("whole"), in: folder)
      #expect(whole.errors.contains("step 1 of 2000"))

      let command = try RunningCommand(tune("parts", "--save-every", "1"), in: folder)
      let state = folder.appendingPathComponent("parts/training_state.json")
      try await command.waits(for: "a saved state") {
        FileManager.default.fileExists(atPath: state.path)
      }
      command.send(SIGINT)
      let stopped = try await command.finish()
      #expect(stopped.status == 130, "\(stopped)")
      #expect(stopped.errors.contains("--resume"), "\(stopped)")
      let saved = try #require(
        JSONSerialization.jsonObject(with: Data(contentsOf: state)) as? [String: Any])
      let step = try #require(saved["step"] as? Int)
      #expect((1..<400).contains(step))
      expectNothingPartial(in: folder)

      let resumed = try await FedpeatCommand.succeed(tune("parts", "--resume"), in: folder)
      #expect(resumed.errors.contains("resumed at step \(step)"))
      let name = method == "lora" ? "adapter_model.safetensors" : "model.safetensors"
      let names = [name, "adapter_model.safetensors", "model.safetensors"]
      let tensors = try #require(
        names.first {
          FileManager.default.fileExists(atPath: folder.appendingPathComponent("whole/\($0)").path)
        })
      #expect(
        try Data(contentsOf: folder.appendingPathComponent("parts/\(tensors)"))
          == Data(contentsOf: folder.appendingPathComponent("whole/\(tensors)")))
      #expect(!FileManager.default.fileExists(atPath: state.path))
    }
  }

  @Test(arguments: ["lora", "full"])
  func `an interrupted tune keeps what an earlier one wrote, until it is finished`(
    method: String
  ) async throws {
    let workshop = try await TinyWorkshop.shared()
    try await withTemporaryFolder { folder in
      func tune(_ seed: String, _ more: String...) -> [String] {
        [
          "tune", workshop.model, "--data", workshop.text, "--method", method, "--out", "x",
          "--threads", "1", "--seed", seed,
        ] + more
      }
      let out = folder.appendingPathComponent("x")
      func names() throws -> Set<String> {
        Set(try FileManager.default.contentsOfDirectory(atPath: out.path))
      }
      let states: Set = ["training_state.json", "training_state.safetensors"]
      func contents() throws -> [String: Data] {
        try names().subtracting(states).reduce(into: [:]) {
          $0[$1] = try Data(contentsOf: out.appendingPathComponent($1))
        }
      }
      try await FedpeatCommand.succeed(tune("1", "--steps", "2"), in: folder)
      let finished = try contents()
      try await expectInterrupted(
        tune("2", "--steps", "1000000", "--save-every", "1"), after: "step 1 of", in: folder)
      #expect(try names().isSuperset(of: states))
      #expect(try contents() == finished)
      try await expect(
        64, saying: ["--resume", "training_state.json"], from: tune("2", "--steps", "9"),
        in: folder)
      let state = try #require(
        JSONSerialization.jsonObject(
          with: Data(contentsOf: out.appendingPathComponent("training_state.json")))
          as? [String: Any])
      let step = try #require(state["step"] as? Int)
      try await FedpeatCommand.succeed(tune("2", "--steps", "\(step + 1)", "--resume"), in: folder)
      #expect(try names() == Set(finished.keys))
      #expect(try contents() != finished)
    }
  }

  @Test
  func
    `a large controller can be interrupted before it is made, and a trained one while it is measured`()
    async throws
  {
    try await withTemporaryFolder { folder in
      try await expectInterrupted(
        [
          "train-controller", "--environment", "anchor", "--width", "4096", "--exchanges", "8",
          "--processes", "1", "--rounds", "10", "--minibatch", "10", "--steps", "10", "--out",
          "large.safetensors",
        ], after: "making the network", in: folder)
      #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path).isEmpty)
      try Data("devices: 100\nrounds: 500\n".utf8)
        .write(to: folder.appendingPathComponent("edge.yaml"))
      try await expectInterrupted(
        [
          "train-controller", "--environment", "edge.yaml", "--processes", "1", "--rounds", "10",
          "--minibatch", "10", "--steps", "10", "--cloning", "0", "--out", "c.safetensors",
        ], after: "measuring", in: folder)
      // All that it was trained for is there.
      for name in ["c.safetensors", "c.csv", "c.svg"] {
        #expect(FileManager.default.fileExists(atPath: folder.appendingPathComponent(name).path))
      }
      #expect(
        !FileManager.default.fileExists(atPath: folder.appendingPathComponent("c.training").path))
    }
  }

  @Test func `a controller's training is not replaced by another`() async throws {
    try await withTemporaryFolder { folder in
      func train(_ more: String...) -> [String] {
        [
          "train-controller", "--environment", "anchor", "--processes", "2", "--rounds", "10",
          "--steps", "1000000",
        ] + (more.contains("--out") ? [] : ["--out", "c.safetensors"]) + more
      }
      let saved = folder.appendingPathComponent("c.training")
      let command = try RunningCommand(train(), in: folder)
      try await command.waits(for: "a saved training") {
        FileManager.default.fileExists(atPath: saved.path)
      }
      // From elsewhere: here a file is being written all the time.
      try await withTemporaryFolder { elsewhere in
        let same = folder.appendingPathComponent("c.safetensors").path
        try await expect(
          64, saying: ["Another training of '\(same)'"],
          from: train("--seed", "2", "--out", same), in: elsewhere)
      }
      command.send(SIGINT)
      let result = try await command.finish()
      #expect(result.status == 130, "\(result)")
      #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path) == ["c.training"])
      // A damaged one says what is wrong with it, not that another name would help.
      let whole = try Data(contentsOf: saved)
      try whole.dropLast(8).write(to: saved)
      try await expect(65, saying: ["c.training"], from: train("--resume"), in: folder)
      try whole.write(to: saved)
      let bytes = try Data(contentsOf: saved)
      try await expect(
        64, saying: ["'c.training'", "--resume", "delete"], from: train("--seed", "2"), in: folder)
      #expect(try Data(contentsOf: saved) == bytes)
      try await expectInterrupted(train("--resume"), after: "going on", in: folder)
    }
  }

  @Test func `a state is refused for other settings`() async throws {
    let workshop = try await TinyWorkshop.shared()
    try await withTemporaryFolder { folder in
      func tune(_ more: String...) -> [String] {
        [
          "tune", workshop.emulator, "--data", workshop.text, "--threads", "1", "--out", "x",
          "--steps", "1000000",
        ] + more
      }
      try await expect(74, saying: ["no saved state"], from: tune("--resume"), in: folder)
      try await expectInterrupted(tune(), after: "step 1 of", signal: SIGTERM, in: folder)
      try await expect(
        65, saying: ["settings differ"], from: tune("--resume", "--batch", "3"), in: folder)
      try await expect(
        65, saying: ["can't be resumed"], from: tune("--resume", "--rank", "4"), in: folder)
      try await expect(
        65, saying: ["lora_alpha was 16, here it is 400"],
        from: tune("--resume", "--alpha", "400"), in: folder)
      try await expect(
        65, saying: ["lora_dropout", "0.2"], from: tune("--resume", "--dropout", "0.2"), in: folder)
      let state = folder.appendingPathComponent("x/training_state.safetensors")
      try Data(contentsOf: state).dropLast(40).write(to: state)
      try await expect(65, saying: ["training_state"], from: tune("--resume"), in: folder)
    }
  }

  @Test(arguments: ["1", "2", "3"])
  func `a measurement is interrupted however many threads compute`(threads: String) async throws {
    let workshop = try await TinyWorkshop.shared()
    try await withTemporaryFolder { folder in
      // Minutes of work.
      let text = try String(contentsOfFile: workshop.text, encoding: .utf8)
      try Data(String(repeating: text, count: 1 + 40_000_000 / text.utf8.count).utf8)
        .write(to: folder.appendingPathComponent("long.txt"))
      let command = try RunningCommand(
        [
          "evaluate", workshop.model, "--text", "long.txt", "--context", "16", "--threads", threads,
        ], in: folder)
      try await Task.sleep(for: .seconds(1))
      command.send(SIGINT)
      let result = try await command.finish(seconds: 60)
      #expect(result.status == 130, "\(result)")
      #expect(result.output.isEmpty)
    }
  }

  @Test func `pretrain, serve and join end`() async throws {
    let workshop = try await TinyWorkshop.shared()
    try await withTemporaryFolder { folder in
      try await expectInterrupted(
        [
          "pretrain", "--text", workshop.text, "--context", "32", "--steps", "100000",
          "--vocabulary", "300", "--out", "x",
        ], after: "pretraining: step", in: folder)
      // What it goes on from, and no model yet.
      let names = try FileManager.default.contentsOfDirectory(
        atPath: folder.appendingPathComponent("x").path)
      #expect(names.contains("training_state.json") && names.contains("pretraining_state.json"))
      #expect(!names.contains("config.json"))
      for signal in [SIGINT, SIGTERM] {
        try await expectInterrupted(
          ["serve", workshop.runFile], after: "listening", signal: signal, in: folder)
      }
      try await expectInterrupted(
        ["join", "--coordinator", "127.0.0.1:1", "--data", workshop.text],
        after: "can't be reached",
        in: folder)
    }
  }

  @Test func `simulate ends in its rounds and in what it compares with`() async throws {
    let workshop = try await TinyWorkshop.shared()
    try await withTemporaryFolder { folder in
      try await expectInterrupted(
        ["simulate", workshop.runFile, "--rounds", "100000", "--out", "x"], after: "round 1 of",
        in: folder)
      let run = folder.appendingPathComponent("run.yaml")
      let text = try String(contentsOfFile: workshop.runFile, encoding: .utf8)
      try Data((text + "\ncomparisonSteps: 100000000\n").utf8).write(to: run)
      try await expectInterrupted(
        ["simulate", "run.yaml"], after: "full fine-tuning: step", in: folder)
    }
  }

  @Test func `simulate keeps the rounds that counted, and an earlier run's result`() async throws {
    try await withWorkshop { workshop, folder in
      // The longer it is tuned on one word, the less it knows of the others.
      let word = String(repeating: "the ", count: 60)
      try TinyWorkshop.jsonLines(Array(repeating: ["text": word], count: 8))
        .write(to: folder.appendingPathComponent("word.jsonl"))
      let run = try String(contentsOfFile: workshop.runFile, encoding: .utf8)
        .appending("\nevaluateEvery: 1\n")
      try Data(run.utf8).write(to: folder.appendingPathComponent("run.yaml"))
      let arguments = [
        "simulate", "run.yaml", "--data", "word.jsonl", "--rounds", "100000", "--learning-rate",
        "0.02", "--evaluation-data", workshop.text, "--threads", "1", "--out", "x",
      ]
      func object(_ path: String) throws -> [String: Any] {
        let data = try Data(contentsOf: folder.appendingPathComponent(path))
        return try #require(JSONSerialization.jsonObject(with: data) as? [String: Any])
      }
      func perplexity(_ place: String) async throws -> Double {
        let measured = try await FedpeatCommand.succeed(
          [
            "evaluate", place, "--text", workshop.text, "--context", "16", "--threads", "1",
            "--json",
          ],
          in: folder)
        return try #require(try measured.object()["perplexity"] as? Double)
      }
      let command = try RunningCommand(arguments, in: folder)
      try await command.send(SIGINT, after: "round 8 of")
      let stopped = try await command.finish(seconds: 30)
      #expect(stopped.status == 130 && stopped.output.isEmpty, "\(stopped)")
      expectNoCrash(stopped)
      expectNothingPartial(in: folder)
      for text in ["Interrupted.", "/x', that of round", "'best-round'"] {
        #expect(stopped.errors.contains(text), "\(stopped)")
      }
      let result = try object("x/results.json")
      let rounds = try #require(result["rounds"] as? Int)
      let records = try #require(result["roundRecords"] as? [[String: Any]])
      #expect(rounds >= 7 && records.count == rounds)
      let ending = try #require(result["ending"] as? [String: Any])
      #expect(ending["kind"] as? String == "cancelled" && ending["reason"] is String)
      let numbers = try #require(result["fiveNumbers"] as? [String: Any])
      #expect(numbers["fullZeroShot"] is Double && numbers["emulatorZeroShot"] is Double)
      let reasons = try #require(numbers["notMeasured"] as? [String: String])
      #expect(Set(reasons.keys) == ["emulatorTuned", "fullFineTuning"])
      for (name, reason) in reasons {
        #expect(numbers[name] is NSNull && reason.contains("after round \(rounds) of 100000"))
      }
      let last = try #require(records.last?["metrics"] as? [String: Double])
      let plugIn = try #require(numbers["plugIn"] as? Double)
      #expect(last["plugIn"] == plugIn)
      let best = try #require(result["bestPlugIn"] as? Double)
      #expect(best < plugIn)
      #expect(abs(try await perplexity("x") / plugIn - 1) < 1e-5)
      #expect(abs(try await perplexity("x/best-round") / best - 1) < 1e-5)
      // A second run leaves what the first gave; whoever wrote something into it is told.
      let kept = try Data(contentsOf: folder.appendingPathComponent("x/results.json"))
      let again = try RunningCommand(arguments + ["--anew"], in: folder)
      try await again.send(SIGTERM, after: "round 3 of")
      let second = try await again.finish(seconds: 30)
      #expect(second.status == 130 && second.errors.contains("/x-ended-early'"), "\(second)")
      #expect(try Data(contentsOf: folder.appendingPathComponent("x/results.json")) == kept)
      #expect(try object("x-ended-early/results.json")["rounds"] as? Int ?? 0 >= 2)
      let notes = folder.appendingPathComponent("x/best-round/notes.txt")
      try Data("mine".utf8).write(to: notes)
      try await expect(74, saying: ["'best-round/notes.txt'"], from: arguments, in: folder)
      #expect(FileManager.default.fileExists(atPath: notes.path))
    }
  }

  @Test(arguments: [SIGINT, SIGTERM])
  func `demo ends with all its processes`(signal: Int32) async throws {
    let workshop = try await TinyWorkshop.shared()
    try await withTemporaryFolder { folder in
      try await expectInterrupted(
        [
          "demo", "--model", workshop.model, "--data", workshop.documents, "--clients-by", "user",
          "--rounds", "100000", "--keep", "kept",
        ], after: "round 2 of", signal: signal, in: folder)
    }
  }

  @Test func `calibrate's process ends at once when it is killed`() async throws {
    let workshop = try await TinyWorkshop.shared()
    try await withTemporaryFolder { folder in
      let command = try RunningCommand(
        [
          "calibrate", workshop.runFile, "--batch", "4096", "--context", "32", "--threads", "1",
          "--out", "edge.yaml",
        ], in: folder)
      func children() -> [String] {
        let all = (try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []
        return all.filter { number in
          let stat = try? String(contentsOfFile: "/proc/\(number)/stat", encoding: .utf8)
          let fields = stat?.split(separator: ")").last?.split(separator: " ") ?? []
          return fields.count > 1 && fields[1] == "\(command.identifier)"
        }
      }
      try await command.waits(for: "its process") { !children().isEmpty }
      let child = try #require(children().first)
      command.send(SIGKILL)
      #expect(try await command.finish().status == 137)
      // Gone, or dead and not yet collected by whoever has it now.
      func isAlive() -> Bool {
        let stat = try? String(contentsOfFile: "/proc/\(child)/stat", encoding: .utf8)
        let state = stat?.split(separator: ")").last?.split(separator: " ").first
        return state.map { $0 != "Z" && $0 != "X" } ?? false
      }
      let end = ContinuousClock.now + .seconds(4)
      while isAlive(), ContinuousClock.now < end { try await Task.sleep(for: .milliseconds(20)) }
      #expect(!isAlive())
    }
  }

  @Test func `demo's processes end when it is killed`() async throws {
    let workshop = try await TinyWorkshop.shared()
    try await withTemporaryFolder { folder in
      let command = try RunningCommand(
        [
          "demo", "--model", workshop.model, "--data", workshop.documents, "--clients-by", "user",
          "--rounds", "100000", "--keep", "kept",
        ], in: folder)
      try await command.waits(for: "round 2 of")
      #expect(processes(in: folder).count == 6)
      command.send(SIGKILL)
      #expect(try await command.finish().status == 137)
      for _ in 0..<2000 where !processes(in: folder).isEmpty {
        try await Task.sleep(for: .milliseconds(5))
      }
      #expect(processes(in: folder) == [])
    }
  }
}
