import Foundation
import TestSupport
import Testing

@Suite("A run's best round") struct BestRoundTests {
  private func numbers(_ result: [String: Any]) throws -> [String: Any] {
    try #require(result["fiveNumbers"] as? [String: Any])
  }

  @Test func `the adapter of the best round is kept beside the last one`() async throws {
    try await withWorkshop { workshop, folder in
      // The longer it is tuned on one word, the less it knows of the others.
      let word = String(repeating: "the ", count: 60)
      try TinyWorkshop.jsonLines(Array(repeating: ["text": word], count: 8))
        .write(to: folder.appendingPathComponent("word.jsonl"))
      let run = try String(contentsOf: workshop.url("run.yaml"), encoding: .utf8)
        .appending("\nevaluateEvery: 1\nfullFineTuning: false\n")
      try Data(run.utf8).write(to: folder.appendingPathComponent("run.yaml"))
      let arguments = [
        "simulate", "run.yaml", "--data", "word.jsonl", "--rounds", "6", "--learning-rate", "0.02",
        "--evaluation-data", workshop.text, "--threads", "1", "--out", "result",
      ]
      let outcome = try await FedpeatCommand.succeed(arguments + ["--json"], in: folder)
      let result = try outcome.object()
      let records = try #require(result["roundRecords"] as? [[String: Any]])
      let course = try records.map { record in
        try #require((record["metrics"] as? [String: Double])?["plugIn"])
      }
      let least = try #require(course.min())
      let round = try #require(course.firstIndex(of: least)) + 1
      #expect(round <= 3 && course[5] > least, "\(course)")
      #expect(result["bestRound"] as? Int == round)
      #expect(result["bestPlugIn"] as? Double == least)
      #expect(try numbers(result)["plugIn"] as? Double == course.last)
      let best = folder.appendingPathComponent("result/best-round")
      for (place, perplexity) in [(best.path, least), ("result", course[5])] {
        let measured = try await FedpeatCommand.succeed(
          [
            "evaluate", place, "--text", workshop.text, "--context", "16", "--threads", "1",
            "--json",
          ], in: folder)
        let found = try #require(try measured.object()["perplexity"] as? Double)
        #expect(abs(found / perplexity - 1) < 1e-5)
      }
      let warnings = try #require(result["warnings"] as? [String])
      // It never was as good as the untouched model either, which is said first.
      let untouched = try #require(try numbers(result)["fullZeroShot"] as? Double)
      #expect(least > untouched)
      #expect(warnings.count == 2, "\(warnings)")
      #expect(warnings.first?.contains("3 measured rounds") == true, "\(warnings)")
      #expect(warnings.last?.contains("after round \(round)") == true, "\(warnings)")
      #expect(outcome.errors.components(separatedBy: "warning ").count == 3, "\(outcome.errors)")
      let ending = try #require(result["ending"] as? [String: Any])
      #expect(ending["kind"] as? String == "completed" && ending["reason"] is NSNull)
      // A second run takes the first one's place, and says the same in words.
      let text = try await FedpeatCommand.succeed(arguments, in: folder)
      #expect(text.output.contains("the best round was \(round) of 6"), "\(text.output)")
    }
  }

  @Test func `where the last round is the best there is one adapter`() async throws {
    try await withWorkshop { workshop, folder in
      let result = try await FedpeatCommand.succeed(
        ["simulate", workshop.runFile, "--threads", "1", "--out", "result", "--json"], in: folder
      ).object()
      #expect(result["bestRound"] as? Int == 2)
      #expect(result["bestPlugIn"] as? Double == (try numbers(result)["plugIn"] as? Double))
      #expect((result["warnings"] as? [String])?.isEmpty == true)
      let names = try FileManager.default.contentsOfDirectory(
        atPath: folder.appendingPathComponent("result").path)
      #expect(!names.contains("best-round"))
    }
  }

  @Test func `with nothing to measure on there is no best round`() async throws {
    try await withWorkshop { workshop, folder in
      let result = try await FedpeatCommand.succeed(
        [
          "simulate", workshop.runFile, "--planner", "idle", "--threads", "1", "--json", "--rounds",
          "3",
        ], in: folder)
      let table = try result.object()
      let own = try numbers(table)
      // Nobody is asked: what comes out is what went in.
      #expect(own["plugIn"] as? Double == own["fullZeroShot"] as? Double)
      #expect(table["bytesDown"] as? Int == 0 && table["bytesUp"] as? Int == 0)
      #expect(result.errors.contains("passes without clients"))
      #expect((table["warnings"] as? [String])?.count == 1)
      let clients = try #require(table["clients"] as? [[String: Any]])
      #expect(clients.allSatisfy { $0["peakMemoryBytes"] is NSNull })
    }
  }

  @Test func `the run file that a run writes can be used from anywhere`() async throws {
    try await withWorkshop { workshop, folder in
      for name in ["model", "emulator", "documents.jsonl", "text.txt"] {
        try FileManager.default.createSymbolicLink(
          at: folder.appendingPathComponent(name), withDestinationURL: workshop.url(name))
      }
      let run = """
        model: model
        data: documents.jsonl
        evaluationData: text.txt
        realignData: ./text.txt
        evaluateEvery: 1
        emulators: [emulator, layer-drop=1]
        clients: 2
        rounds: 1
        localSteps: 1
        batch: 2
        context: 16
        fullFineTuning: false
        edge: pedestrian
        out: result
        """
      try Data(run.utf8).write(to: folder.appendingPathComponent("run.yaml"))
      let first = try await FedpeatCommand.succeed(
        ["simulate", "run.yaml", "--threads", "1", "--json"], in: folder
      ).object()
      let file = folder.appendingPathComponent("result/run.yaml")
      let written = try String(contentsOf: file, encoding: .utf8)
      for line in [
        "model: ", "data: ", "evaluationData: ", "realignData: ", "out: ", "emulators:\n- ",
      ] {
        #expect(written.contains("\(line)/"), "\(line): \(written)")
      }
      #expect(written.contains("- layer-drop=1") && written.contains("edge: pedestrian"))
      let elsewhere = folder.appendingPathComponent("elsewhere")
      try FileManager.default.createDirectory(at: elsewhere, withIntermediateDirectories: true)
      let second = try await FedpeatCommand.succeed(
        ["simulate", file.path, "--json"], in: elsewhere
      ).object()
      #expect(
        try numbers(first)["plugIn"] as? Double == (try numbers(second)["plugIn"] as? Double))
      #expect(try FileManager.default.contentsOfDirectory(atPath: elsewhere.path).isEmpty)
    }
  }
}
