import Foundation
import PeatTensor
import TestSupport
import Testing

/// Pictures through every verb: tiny models of pictures without a head learn to tell two kinds apart.
@Suite("Classification") struct ClassificationTests {
  /// Pictures of 8 × 8 that are bright on the left (0) or on the right (1), with some noise, as idx files.
  private func writePictures(_ count: Int, seed: Int, _ name: String, in folder: URL) throws {
    func header(_ numbers: [UInt32]) -> Data {
      numbers.reduce(into: Data()) { data, number in
        withUnsafeBytes(of: number.bigEndian) { data.append(contentsOf: $0) }
      }
    }
    var state = UInt64(seed)
    func noise() -> Int {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return Int(state >> 58)
    }
    var pixels = header([2051, UInt32(count), 8, 8])
    var labels = header([2049, UInt32(count)])
    for number in 0..<count {
      let isRight = number % 2 == 1
      for place in 0..<64 {
        pixels.append(UInt8(((place % 8 >= 4) == isRight ? 150 : 40) + noise()))
      }
      labels.append(isRight ? 1 : 0)
    }
    try pixels.write(to: folder.appendingPathComponent("\(name)-images-idx3-ubyte"))
    try labels.write(to: folder.appendingPathComponent("\(name)-labels-idx1-ubyte"))
  }

  private func withPictures(
    _ model: String = "vit", _ body: (URL) async throws -> Void
  ) async throws {
    try await withTemporaryFolder { folder in
      try writePictures(64, seed: 1, "train", in: folder)
      try writePictures(40, seed: 2, "test", in: folder)
      try FileManager.default.copyItem(
        at: ProjectFolders.golden.appendingPathComponent("families/\(model)"),
        to: folder.appendingPathComponent("model"))
      try await body(folder)
    }
  }

  private func accuracy(_ words: [String], in folder: URL) async throws -> Double {
    let outcome = try await FedpeatCommand.succeed(
      ["evaluate"] + words + ["--labels", "test-images-idx3-ubyte", "--json"], in: folder)
    return try #require(try outcome.object()["accuracy"] as? Double)
  }

  /// A vision transformer, CLIP's tower, and what is no transformer at all, whose pictures have no token of the model's own.
  @Test(arguments: [("vit", 17), ("clip", 17), ("mixer", 16)])
  func `a federation finds the classes, and what it made is the same in every form`(
    model: String, context: Int
  ) async throws {
    try await withPictures(model) { folder in
      let run = """
        model: model
        task: classification
        data: train-images-idx3-ubyte
        evaluationData: test-images-idx3-ubyte
        partition: dirichlet=10:label
        clients: 3
        emulators: [layer-drop=1]
        rounds: 6
        localSteps: 10
        batch: 8
        context: \(context)
        learningRate: 0.01
        fullFineTuningRate: 0.005
        out: result
        """
      try Data(run.utf8).write(to: folder.appendingPathComponent("run.yaml"))
      let result = try await FedpeatCommand.succeed(
        ["simulate", "run.yaml", "--json", "--seed", "2"], in: folder
      ).object()
      let numbers = try #require(result["fiveNumbers"] as? [String: Any])
      #expect(numbers["metric"] as? String == "accuracy")
      #expect(numbers["higherIsBetter"] as? Bool == true)
      let plugIn = try #require(numbers["plugIn"] as? Double)
      #expect(plugIn > 0.9, "\(numbers)")
      for name in ["fullZeroShot", "emulatorZeroShot", "emulatorTuned", "fullFineTuning"] {
        #expect((0...1).contains(try #require(numbers[name] as? Double)))
      }
      #expect(try await accuracy(["model", "--adapter", "result"], in: folder) == plugIn)
      try await FedpeatCommand.succeed(
        ["plug-in", "model", "result", "--out", "plugged"], in: folder)
      #expect(try await accuracy(["plugged"], in: folder) == plugIn)
      try await FedpeatCommand.succeed(
        ["plug-in", "model", "result", "--merge", "--out", "merged"], in: folder)
      #expect(try await accuracy(["merged"], in: folder) == plugIn)
    }
  }

  /// A run file for the pictures, `run.yaml`.
  private func writeRun(in folder: URL, clients: Int, rounds: Int, _ more: String = "") throws {
    let run = """
      model: model
      task: classification
      data: train-images-idx3-ubyte
      evaluationData: test-images-idx3-ubyte
      clients: \(clients)
      emulators: [layer-drop=1]
      rounds: \(rounds)
      localSteps: 10
      batch: 8
      context: 17
      learningRate: 0.01
      fullFineTuning: false
      \(more)
      """
    try Data(run.utf8).write(to: folder.appendingPathComponent("run.yaml"))
  }

  @Test func `it is calibrated, estimated and played in a simulated cell by a planner`()
    async throws
  {
    try await withPictures { folder in
      try writeRun(in: folder, clients: 3, rounds: 3)
      let fitted = try await FedpeatCommand.succeed(
        ["calibrate", "run.yaml", "--rounds", "3", "--out", "edge.yaml", "--json", "--seed", "2"],
        in: folder
      ).object()
      let levels = try #require(fitted["levels"] as? [[String: Any]])
      let losses = try #require(levels[0]["losses"] as? [Double])
      // Nats of classes, not accuracies.
      #expect(losses.count == 4 && losses[3] < losses[0], "\(losses)")
      let estimate = try await FedpeatCommand.succeed(
        ["estimate", "run.yaml", "--edge", "edge.yaml", "--runs", "4", "--json"], in: folder
      ).object()
      #expect(estimate["isMeasured"] as? Bool == true, "\(estimate)")
      let result = try await FedpeatCommand.succeed(
        [
          "simulate", "run.yaml", "--edge", "edge.yaml", "--planner", "heuristic", "--json",
          "--seed", "2", "--out", "result",
        ], in: folder
      ).object()
      #expect((result["simulatedSeconds"] as? Double ?? 0) > 0)
      let numbers = try #require(result["fiveNumbers"] as? [String: Any])
      #expect(numbers["metric"] as? String == "accuracy")
      let written = try #require(
        try JSONSerialization.jsonObject(
          with: Data(contentsOf: folder.appendingPathComponent("result/results.json")))
          as? [String: Any])
      let simulation = try #require(written["simulation"] as? [String: Any])
      let rounds = try #require(simulation["rounds"] as? [[String: Any]])
      let last = try #require(rounds.last?["measuredLoss"] as? Double)
      #expect(last > 0 && last < losses[0])
      #expect(rounds.last?["predictedLoss"] is Double)
    }
  }

  @Test(arguments: ["vit-classes", "clip-classes", "mixer-classes"])
  func `emulators are made by what pictures show, and distilled on them`(model: String) async throws
  {
    try await withPictures(model) { folder in
      // Of the model's classes the first two.
      let json = try JSONFile.read(
        JSONValue.self, from: folder.appendingPathComponent("model/config.json"))
      let names = json["label_names"]?.array?.compactMap(\.string) ?? ["LABEL_0", "LABEL_1"]
      for (number, name) in names.prefix(2).enumerated() {
        try FileManager.default.createDirectory(
          at: folder.appendingPathComponent("pictures/\(name)"),
          withIntermediateDirectories: true)
        for file in ["grey.png", "rgb.png", "photo.png", "palette.png"] {
          try FileManager.default.copyItem(
            at: ProjectFolders.golden.appendingPathComponent("images/\(file)"),
            to: folder.appendingPathComponent("pictures/\(name)/\(number)-\(file)"))
        }
      }
      for recipe in ["int4=gptq", "weighted-low-rank=0.5", "importance=1"] {
        let report = try await FedpeatCommand.succeed(
          [
            "compress", "model", "--bottom", "1", "--top", "1", "--recipe", recipe,
            "--calibration", "pictures", "--distill", "pictures", "--distill-steps", "3",
            "--out", "emulator-\(recipe)", "--json",
          ], in: folder
        ).object()
        #expect(report["fidelity"] is [String: Any], "\(recipe)")
      }
    }
  }

  @Test func `clients with inverted pictures are measured on such, and nobody else is`()
    async throws
  {
    try await withPictures { folder in
      func numbers(_ transforms: String) async throws -> [String: Any] {
        try writeRun(in: folder, clients: 2, rounds: 5, "clientTransforms: \(transforms)")
        let result = try await FedpeatCommand.succeed(
          ["simulate", "run.yaml", "--json", "--seed", "2", "--out", "result"], in: folder
        ).object()
        return try #require(result["fiveNumbers"] as? [String: Any])
      }
      // Turned by a half, left is right: who learns from those alone tells upright ones wrongly.
      let turned = try await numbers("rotate=180")
      #expect(try #require(turned["plugIn"] as? Double) > 0.9)
      #expect(try await accuracy(["model", "--adapter", "result"], in: folder) < 0.3)
      // Both together can't be told apart.
      let both = try await numbers("[none, rotate=180]")
      #expect(try #require(both["plugIn"] as? Double) < 0.8)
      try await expect(
        64, saying: ["'spin' is nothing that is done to pictures", "rotate=90"],
        from: ["simulate", "run.yaml", "--client-transforms", "none,spin"], in: folder)
      let texts = "model: model\ntask: next-token\ndata: x\nclientTransforms: invert\n"
      try Data(texts.utf8).write(to: folder.appendingPathComponent("texts.yaml"))
      try await expect(
        65, saying: ["clientTransforms", "task: classification"], from: ["simulate", "texts.yaml"],
        in: folder)
    }
  }

  @Test(arguments: ["vit", "mixer"])
  func `a new model of pictures is trained, and an interrupted one goes on to the same bits`(
    family: String
  ) async throws {
    try await withPictures { folder in
      let pretrain = [
        "pretrain", "--images", "train-images-idx3-ubyte", "--family", family, "--patch-size", "2",
        "--blocks", "2", "--hidden-size", "16", "--batch", "8", "--steps", "200", "--threads", "1",
        "--json",
      ]
      let report = try await FedpeatCommand.succeed(pretrain + ["--out", "whole"], in: folder)
        .object()
      #expect(try #require(report["accuracy"] as? Double) > 0.9)
      #expect(report["classes"] as? [String] == ["0", "1"])
      #expect(try await accuracy(["whole"], in: folder) > 0.9)

      let command = try RunningCommand(pretrain + ["--out", "broken"], in: folder)
      try await command.send(SIGINT, after: "pretraining: step")
      let ended = try await command.finish(seconds: 30)
      // A fast machine may have been done already.
      if ended.status == 130 {
        try await expect(
          64, saying: ["--resume"], from: pretrain + ["--out", "broken"], in: folder)
        try await FedpeatCommand.succeed(pretrain + ["--out", "broken", "--resume"], in: folder)
      }
      func weights(_ name: String) throws -> Data {
        try Data(contentsOf: folder.appendingPathComponent("\(name)/model.safetensors"))
      }
      #expect(try weights("broken") == weights("whole"))
      #expect(
        try FileManager.default.contentsOfDirectory(
          atPath: folder.appendingPathComponent("broken").path
        ).allSatisfy { !$0.contains("state") && !$0.contains("best") })
      try await expect(
        74, saying: ["no saved state"], from: pretrain + ["--out", "other", "--resume"], in: folder)
    }
  }

  @Test func `what pretraining can't make of pictures says so`() async throws {
    try await withPictures { folder in
      func refused(_ words: [String], saying: [String], _ status: Int32 = 64) async throws {
        try await expect(
          status, saying: saying,
          from: ["pretrain", "--images", "train-images-idx3-ubyte", "--out", "x"] + words,
          in: folder)
      }
      try await refused(["--text", "y"], saying: ["--text or --images"])
      try await refused(["--vocabulary", "300"], saying: ["--vocabulary is about text"])
      try await refused(["--family", "resnet"], saying: ["Unknown family 'resnet'"])
      try await refused(["--token-mixing-size", "8"], saying: ["--family mixer"])
      try await refused(["--patch-size", "9"], saying: ["can't be cut"], 65)
      try await refused(
        ["--model-config", "model/config.json", "--blocks", "2"], saying: ["--model-config already"]
      )
      // A shape that somebody else says.
      let report = try await FedpeatCommand.succeed(
        [
          "pretrain", "--images", "train-images-idx3-ubyte", "--model-config", "model/config.json",
          "--steps", "2", "--batch", "4", "--out", "shaped", "--json",
        ], in: folder
      ).object()
      #expect(try #require(report["parameters"] as? Int) > 6000)
      try await FedpeatCommand.succeed(["inspect", "shaped"], in: folder)
    }
  }

  @Test func `one device tunes alone; what does not go together says so`() async throws {
    try await withPictures { folder in
      try await FedpeatCommand.succeed(
        [
          "tune", "model", "--task", "classification", "--data", "train-images-idx3-ubyte",
          "--steps", "60", "--batch", "8", "--learning-rate", "0.01", "--out", "adapter",
        ], in: folder)
      #expect(try await accuracy(["model", "--adapter", "adapter"], in: folder) > 0.9)
      // A part is held back to validate with.
      try await FedpeatCommand.succeed(
        [
          "tune", "model", "--task", "classification", "--data", "train-images-idx3-ubyte",
          "--steps", "2", "--batch", "8", "--validation-share", "0.2", "--out", "validated",
        ], in: folder)
      try await expect(
        64, saying: ["no room for virtual tokens"],
        from: [
          "tune", "model", "--task", "classification", "--data", "train-images-idx3-ubyte",
          "--method", "prefix-tuning", "--out", "x",
        ], in: folder)
      try await expect(
        64, saying: ["no head", "--task classification"],
        from: ["tune", "model", "--data", "train-images-idx3-ubyte", "--out", "x"], in: folder)
      try await expect(
        64, saying: ["has no head of classes", "--task classification"],
        from: ["evaluate", "model", "--labels", "test-images-idx3-ubyte"], in: folder)
      try await expect(
        64, saying: ["Unknown task 'classify'"],
        from: [
          "tune", "model", "--task", "classify", "--data", "train-images-idx3-ubyte", "--out", "x",
        ], in: folder)
      try await expect(
        64, saying: ["sees pictures"], from: ["generate", "model", "--prompt", "a"], in: folder)
    }
  }
}
