import Foundation
import TestSupport
import Testing

/// Ways to run rounds, with the program itself.
@Suite("Ways to run rounds", .timeLimit(.minutes(20))) struct RoundModeTests {
  /// The workshop's run file with more lines.
  private func write(
    _ lines: String, _ workshop: TinyWorkshop, _ folder: URL, as name: String = "run.yaml"
  ) throws {
    let run = try String(contentsOf: workshop.url("run.yaml"), encoding: .utf8)
    try Data("\(run)\nfullFineTuning: false\n\(lines)\n".utf8)
      .write(to: folder.appendingPathComponent(name))
  }

  private func records(_ result: [String: Any]) throws -> [[[String: Any]]] {
    try #require(result["roundRecords"] as? [[String: Any]])
      .map { try #require($0["outcomes"] as? [[String: Any]]) }
  }

  private func ending(_ result: [String: Any]) throws -> [String: Any] {
    try #require(result["ending"] as? [String: Any])
  }

  // MARK: Sampling and asynchronous runs

  @Test(arguments: ["random", "availability", "utility"])
  func `a part of the clients is asked, more than needed`(planner: String) async throws {
    try await withWorkshop { workshop, folder in
      try write(
        "planner: \(planner)\nclientsPerRound: 2\noverSelection: 1.5", workshop, folder)
      let text = try String(contentsOf: folder.appendingPathComponent("run.yaml"), encoding: .utf8)
      try Data(text.replacing("clients: 2", with: "clients: 5").utf8)
        .write(to: folder.appendingPathComponent("run.yaml"))
      let result = try await FedpeatCommand.succeed(
        ["simulate", "run.yaml", "--rounds", "3", "--threads", "1", "--json"], in: folder
      ).object()
      for outcomes in try records(result) {
        let kinds = outcomes.compactMap { ($0["result"] as? [String: Any])?["kind"] as? String }
        #expect(kinds.filter { $0 == "delivered" }.count >= 2, "\(kinds)")
        #expect(Set(kinds).isSubset(of: ["delivered", "surplus"]), "\(kinds)")
      }
    }
  }

  @Test func `a buffer is aggregated as it fills, in one process and over the network`()
    async throws
  {
    try await withWorkshop { workshop, folder in
      try write("mode: asynchronous\nbufferSize: 2\nconcurrency: 2", workshop, folder)
      let inProcess = try await FedpeatCommand.succeed(
        [
          "simulate", "run.yaml", "--rounds", "4", "--strategy", "fedavgm", "--threads", "1",
          "--json",
        ], in: folder
      ).object()
      #expect(inProcess["rounds"] as? Int == 4)
      for outcomes in try records(inProcess) {
        #expect(outcomes.count >= 2 && outcomes.allSatisfy { $0["staleness"] is Int })
      }
      let numbers = try #require(inProcess["fiveNumbers"] as? [String: Any])
      let (before, after) = (numbers["fullZeroShot"] as? Double, numbers["plugIn"] as? Double)
      #expect(try #require(after) < (try #require(before)) * 1.05)

      let serving = try RunningCommand(
        [
          "serve", "run.yaml", "--rounds", "3", "--minimum-clients", "2", "--address-file",
          "address", "--out", "result", "--threads", "1", "--evaluation-data", workshop.text,
          "--json",
        ], in: folder)
      let address = folder.appendingPathComponent("address")
      try await serving.waits(for: "the address") {
        (try? String(contentsOf: address, encoding: .utf8))?.hasSuffix("\n") ?? false
      }
      let place = try String(contentsOf: address, encoding: .utf8)
        .trimmingCharacters(in: .whitespacesAndNewlines)
      let joins = try ["ada", "bo"].map { name in
        try RunningCommand(
          [
            "join", "--coordinator", place, "--data", workshop.text, "--name", name, "--threads",
            "1",
          ], in: folder)
      }
      for join in joins { #expect(try await join.finish().status == 0) }
      let served = try await serving.finish()
      #expect(served.status == 0, "\(served)")
      #expect(try served.object()["rounds"] as? Int == 3)

      // ---- What it released can be checked: each update's signature, and the coordinator's.
      let check = try await FedpeatCommand.succeed(["verify", "result", "--json"], in: folder)
        .object()
      #expect(check["signed"] as? Bool == true && check["trusted"] as? Bool == false)
      #expect(check["round"] as? Int == 3 && check["clients"] as? Int == 2)
      #expect(check["updates"] as? Int == check["signedUpdates"] as? Int)
      #expect((check["updates"] as? Int ?? 0) >= 6)
      // Another authority vouches for nothing.
      try await FedpeatCommand.succeed(["ca", "init", "other"], in: folder)
      try await expect(
        65, saying: ["comes from no authority"],
        from: ["verify", "result", "--trust", "other/ca.pem"], in: folder)
      // A word that is changed is found.
      let file = folder.appendingPathComponent("result/lineage.json")
      let lineage = try String(contentsOf: file, encoding: .utf8)
      try Data(lineage.replacing("\"ada\"", with: "\"eve\"").utf8).write(to: file)
      try await expect(65, saying: ["signed"], from: ["verify", "result"], in: folder)
      try Data(lineage.replacing("\"exampleCount\" : ", with: "\"exampleCount\" : 1").utf8)
        .write(to: file)
      try await expect(65, saying: ["changed"], from: ["verify", "result"], in: folder)
      try Data(lineage.utf8).write(to: file)
      let adapter = folder.appendingPathComponent("result/adapter_model.safetensors")
      try FileManager.default.removeItem(at: adapter)
      try FileManager.default.copyItem(
        at: workshop.url("adapter/adapter_model.safetensors"), to: adapter)
      try await expect(65, saying: ["is another one"], from: ["verify", "result"], in: folder)
    }
  }

  @Test func `an authority that was named vouches for the coordinator`() async throws {
    try await withWorkshop { workshop, folder in
      try write("", workshop, folder)
      let serving = try RunningCommand(
        [
          "serve", "run.yaml", "--rounds", "1", "--minimum-clients", "1", "--address-file",
          "address", "--out", "result", "--ca", "authority", "--threads", "1",
        ], in: folder)
      let address = folder.appendingPathComponent("address")
      try await serving.waits(for: "the address") {
        (try? String(contentsOf: address, encoding: .utf8))?.hasSuffix("\n") ?? false
      }
      let place = try String(contentsOf: address, encoding: .utf8)
        .trimmingCharacters(in: .whitespacesAndNewlines)
      let seed = try await FedpeatCommand.succeed(
        ["ca", "token", "authority", "--run", "run-0"], in: folder)
      try Data(seed.output.utf8).write(to: folder.appendingPathComponent("token"))
      try await FedpeatCommand.succeed(
        [
          "join", "--coordinator", place, "--data", workshop.text, "--name", "ada", "--token",
          "token", "--threads", "1",
        ], in: folder)
      #expect(try await serving.finish().status == 0)
      let check = try await FedpeatCommand.succeed(
        ["verify", "result", "--trust", "authority/ca.pem", "--json"], in: folder
      ).object()
      #expect(check["trusted"] as? Bool == true)
      #expect((check["signer"] as? String)?.hasPrefix("coordinator") == true)
      let text = try await FedpeatCommand.succeed(
        ["verify", "result", "--trust", "authority/ca.pem"], in: folder)
      #expect(text.output.contains("vouches for"))
    }
  }

  // MARK: How a run ends

  @Test func `a run says why it ended before its last round`() async throws {
    try await withWorkshop { workshop, folder in
      try write("plateauRounds: 2\nplateauGain: 0.9", workshop, folder)
      let plateau = try await FedpeatCommand.succeed(
        ["simulate", "run.yaml", "--rounds", "9", "--threads", "1", "--json"], in: folder
      ).object()
      #expect(plateau["rounds"] as? Int == 3)
      #expect(try ending(plateau)["cause"] as? String == "plateau")
      #expect(try ending(plateau)["kind"] as? String == "completed")
      try write("byteBudget: 1000", workshop, folder)
      let bytes = try await FedpeatCommand.succeed(
        ["simulate", "run.yaml", "--rounds", "9", "--threads", "1"], in: folder)
      #expect(bytes.output.contains("the run ended after 1 rounds"), "\(bytes)")
      #expect(bytes.output.contains("the budget is 1000"))
      try write("timeBudget: 3600", workshop, folder)
      let all = try await FedpeatCommand.succeed(
        ["simulate", "run.yaml", "--threads", "1", "--json"], in: folder
      ).object()
      #expect(try ending(all)["cause"] as? String == "rounds")
    }
  }

  // MARK: The release gate

  @Test func `an adapter that makes the owner's texts worse is not released`() async throws {
    try await withWorkshop { workshop, folder in
      let word = String(repeating: "the ", count: 60)
      try TinyWorkshop.jsonLines(Array(repeating: ["text": word], count: 8))
        .write(to: folder.appendingPathComponent("word.jsonl"))
      try write("releaseGate: zero-shot", workshop, folder)
      let arguments = [
        "simulate", "run.yaml", "--data", "word.jsonl", "--rounds", "3", "--learning-rate", "0.02",
        "--evaluation-data", workshop.text, "--threads", "1", "--out", "result", "--json",
      ]
      let outcome = try await FedpeatCommand.run(arguments, in: folder)
      #expect(outcome.status == 1, "\(outcome)")
      #expect(outcome.errors.contains("The adapter is not released"), "\(outcome)")
      let release = try #require(try outcome.object()["release"] as? [String: Any])
      #expect(release["released"] as? Bool == false && release["gate"] as? String == "zero-shot")
      let names = try FileManager.default.contentsOfDirectory(
        atPath: folder.appendingPathComponent("result").path
      ).sorted()
      #expect(names == ["results.json", "run.yaml", "withheld"], "\(names)")
      try await expect(74, saying: ["lineage.json"], from: ["verify", "result"], in: folder)
      try await expect(
        74, saying: ["withheld"], from: ["verify", "result/withheld"], in: folder)
      // It can be looked at all the same, and the next run takes its place.
      try await FedpeatCommand.succeed(
        ["evaluate", "result/withheld", "--text", workshop.text, "--context", "16"], in: folder)
      #expect(try await FedpeatCommand.run(arguments, in: folder).status == 1)
    }
  }

  @Test func `one that is better is released, and measured against the last`() async throws {
    try await withWorkshop { workshop, folder in
      try write("releaseGate: zero-shot", workshop, folder)
      let first = try await FedpeatCommand.run(
        [
          "simulate", "run.yaml", "--rounds", "3", "--threads", "1", "--out", "first", "--json",
          "--evaluation-data", workshop.text,
        ], in: folder)
      #expect(first.status == 0, "\(first)")
      let check = try await FedpeatCommand.succeed(["verify", "first", "--json"], in: folder)
        .object()
      #expect(check["signed"] as? Bool == false && check["gate"] as? String == "zero-shot")
      // A run of one step from the beginning is not as good.
      try write(
        "releaseGate: last-released\nlastReleased: first\nlocalSteps: 1".replacing(
          "localSteps: 1", with: ""), workshop, folder, as: "second.yaml")
      let second = try await FedpeatCommand.run(
        [
          "simulate", "second.yaml", "--rounds", "1", "--threads", "1", "--out", "second",
          "--json", "--evaluation-data", workshop.text, "--learning-rate", "1e-6",
        ], in: folder)
      #expect(second.status == 1, "\(second)")
      let release = try #require(try second.object()["release"] as? [String: Any])
      let reference = try #require(release["reference"] as? Double)
      let numbers = try #require(try first.object()["fiveNumbers"] as? [String: Any])
      #expect(abs(reference / (numbers["plugIn"] as? Double ?? 0) - 1) < 1e-4)
      try write("releaseGate: zero-shot", workshop, folder)
      try await expect(
        64, saying: ["releaseGate", "--evaluation-data"],
        from: ["serve", "run.yaml", "--minimum-clients", "1", "--insecure"], in: folder)
    }
  }
}
