import Foundation
import TestSupport
import Testing

/// Pictures through every verb: a tiny vision transformer without a head learns to tell two kinds apart.
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

  private func withPictures(_ body: (URL) async throws -> Void) async throws {
    try await withTemporaryFolder { folder in
      try writePictures(64, seed: 1, "train", in: folder)
      try writePictures(40, seed: 2, "test", in: folder)
      try FileManager.default.copyItem(
        at: ProjectFolders.golden.appendingPathComponent("families/vit"),
        to: folder.appendingPathComponent("model"))
      try await body(folder)
    }
  }

  private func accuracy(_ words: [String], in folder: URL) async throws -> Double {
    let outcome = try await FedpeatCommand.succeed(
      ["evaluate"] + words + ["--labels", "test-images-idx3-ubyte", "--json"], in: folder)
    return try #require(try outcome.object()["accuracy"] as? Double)
  }

  @Test func `a federation finds the classes, and what it made is the same in every form`()
    async throws
  {
    try await withPictures { folder in
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
        context: 17
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

  @Test func `one device tunes alone; what does not go together says so`() async throws {
    try await withPictures { folder in
      try await FedpeatCommand.succeed(
        [
          "tune", "model", "--task", "classification", "--data", "train-images-idx3-ubyte",
          "--steps", "20", "--batch", "8", "--learning-rate", "0.01", "--out", "adapter",
        ], in: folder)
      #expect(try await accuracy(["model", "--adapter", "adapter"], in: folder) > 0.9)
      try await expect(
        64, saying: ["no head", "--task classification"],
        from: ["tune", "model", "--data", "train-images-idx3-ubyte", "--out", "x"], in: folder)
      try await expect(
        64, saying: ["sees pictures"],
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
