import Foundation
import TestSupport
import Testing

/// Heads whose classes are others than the data's.
@Suite("Classes that a model does not know") struct NewHeadTests {
  /// Texts of so many classes, by a rule for their names.
  private func write(
    _ name: String, classes: Int, in folder: URL, _ label: (Int) -> String
  ) throws {
    let rows = TinyWorkshop.sentences(60, seed: 3).enumerated().map {
      "\($1),\(label($0 % classes))"
    }
    try Data((["text,label"] + rows).joined(separator: "\n").utf8).write(
      to: folder.appendingPathComponent(name))
  }

  private func withClassifier(_ body: (URL) async throws -> Void) async throws {
    try await withTemporaryFolder { folder in
      try TinyEncoder.write("bert-classes", to: folder.appendingPathComponent("model"))
      try await body(folder)
    }
  }

  private let steps = ["--steps", "2", "--batch", "2", "--rank", "2"]

  @Test func `numbers are the outputs that are called by them`() async throws {
    try await withClassifier { folder in
      try write("data.csv", classes: 3, in: folder) { "\($0)" }
      try write("named.csv", classes: 3, in: folder) { "LABEL_\($0)" }
      try await FedpeatCommand.succeed(
        ["tune", "model", "--data", "data.csv", "--out", "adapter"] + steps, in: folder)
      let reports = [
        try await FedpeatCommand.succeed(
          ["evaluate", "model", "--labels", "data.csv", "--json"], in: folder
        ).object(),
        try await FedpeatCommand.succeed(
          ["evaluate", "model", "--labels", "named.csv", "--json"], in: folder
        ).object(),
      ]
      #expect(reports[0]["accuracy"] as? Double == reports[1]["accuracy"] as? Double)
      #expect(reports[0]["examples"] as? Int == 60)
    }
  }

  @Test func `a new head is drawn for the data's classes, and goes with the adapter`() async throws
  {
    try await withClassifier { folder in
      try write("data.csv", classes: 4, in: folder) { "class-\($0)" }
      let tune = ["tune", "model", "--data", "data.csv"] + steps
      try await expect(
        65, saying: ["'class-", "--new-head"], from: tune + ["--out", "x"], in: folder)
      try await expect(
        64, saying: ["LABEL_0", "--new-head"],
        from: tune + ["--labels", "a,b,c,d", "--out", "x"], in: folder)
      try await FedpeatCommand.succeed(tune + ["--new-head", "--out", "adapter"], in: folder)
      let report = try await FedpeatCommand.succeed(
        ["evaluate", "model", "--adapter", "adapter", "--labels", "data.csv", "--json"], in: folder
      ).object()
      #expect((report["labels"] as? [Any])?.count == 4)
      try await FedpeatCommand.succeed(
        ["plug-in", "model", "adapter", "--merge", "--out", "merged"], in: folder)
      let merged = try await FedpeatCommand.succeed(
        ["evaluate", "merged", "--labels", "data.csv", "--json"], in: folder
      ).object()
      #expect(merged["accuracy"] as? Double == report["accuracy"] as? Double)
      // It goes on from there, and another head would be in the way.
      try await FedpeatCommand.succeed(
        ["tune", "model", "--data", "data.csv", "--from", "adapter", "--out", "more"] + [
          "--steps", "1", "--batch", "2",
        ], in: folder)
      try await expect(
        64, saying: ["--from 'adapter' brings the head"],
        from: tune + ["--new-head", "--from", "adapter", "--out", "x"], in: folder)
    }
  }

  @Test func `a federation draws one, too`() async throws {
    try await withClassifier { folder in
      try write("data.csv", classes: 4, in: folder) { "class-\($0)" }
      let run = """
        model: model
        data: data.csv
        newHead: true
        clients: 2
        emulators: [layer-drop=1]
        rounds: 1
        localSteps: 2
        batch: 4
        fullFineTuning: false
        out: result
        """
      try Data(run.utf8).write(to: folder.appendingPathComponent("run.yaml"))
      let result = try await FedpeatCommand.succeed(["simulate", "run.yaml"], in: folder)
      #expect(result.output.contains("accuracy (higher is better)"))
      #expect(result.output.contains(/PLUG-IN[^\n]* \d+\.\d %/), "\(result.output)")
      #expect(result.errors.contains(/measured     plug-in: \d+\.\d %/), "\(result.errors)")
      let report = try await FedpeatCommand.succeed(
        ["evaluate", "result", "--labels", "data.csv", "--json"], in: folder
      ).object()
      #expect((report["labels"] as? [Any])?.count == 4)
      // Texts of which less is read are told of, of one client.
      let short = try await FedpeatCommand.succeed(
        ["simulate", "run.yaml", "--context", "4", "--out", "short"], in: folder)
      #expect(
        short.errors.matches(of: /of its \d+ texts are cut to their first 4 tokens/).count == 1,
        "\(short)")
      try Data(run.replacingOccurrences(of: "newHead: true\n", with: "").utf8).write(
        to: folder.appendingPathComponent("old.yaml"))
      try await expect(
        65, saying: ["newHead: true"], from: ["simulate", "old.yaml"], in: folder)
    }
  }

  @Test func `the task follows from the head where labels are given`() async throws {
    try await withClassifier { folder in
      try write("data.csv", classes: 3, in: folder) { ["a", "b", "c"][$0] }
      let tune = ["tune", "model", "--data", "data.csv"] + steps
      try await FedpeatCommand.succeed(
        tune + ["--labels", "a,b,c", "--out", "adapter"], in: folder)
      let report = try await FedpeatCommand.succeed(
        ["evaluate", "model", "--adapter", "adapter", "--labels", "data.csv", "--json"], in: folder
      ).object()
      #expect((report["labels"] as? [Any])?.count == 3)
      try TinyEncoder.write("bert-masked", to: folder.appendingPathComponent("masked"))
      try await expect(
        64, saying: ["--labels are of --task classification", "no head of classes"],
        from: ["tune", "masked", "--data", "data.csv", "--labels", "a,b,c", "--out", "x"],
        in: folder)
      try await expect(
        64, saying: ["--learning-rate is 0"],
        from: tune + ["--learning-rate", "0", "--out", "x"], in: folder)
    }
  }

  @Test func `T5 says that it has no head of classes`() async throws {
    try await withTemporaryFolder { folder in
      try TinyEncoder.write("t5", to: folder.appendingPathComponent("model"))
      try write("data.csv", classes: 2, in: folder) { "\($0)" }
      try await expect(
        64, saying: ["no head of classes", "prompt and a completion"],
        from: ["tune", "model", "--task", "classification", "--data", "data.csv", "--out", "x"],
        in: folder)
    }
  }
}
