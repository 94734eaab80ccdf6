import Foundation
import TestSupport
import Testing

/// `--json` prints exactly one JSON object with the keys that DESIGN names, and nothing else on standard output.
@Suite("JSON") struct JSONTests {
  struct Case: Sendable, CustomTestStringConvertible {
    let arguments: [String]
    let keys: [String]
    var testDescription: String { arguments.joined(separator: " ") }

    init(_ arguments: String, _ keys: String) {
      self.arguments = arguments.split(separator: " ").map(String.init)
      self.keys = keys.split(separator: " ").map(String.init)
    }
  }

  static let inspectKeys =
    "kind architecture parameters blocks hiddenSize vocabularySize bytes digest"
  static let federationKeys = "run rounds fiveNumbers bytesUp bytesDown"
  static let cases = [
    Case("inspect MODEL", inspectKeys), Case("inspect EMULATOR", inspectKeys + " keptBlocks"),
    Case("inspect ADAPTER", inspectKeys),
    Case("evaluate MODEL --text TEXT", "perplexity loss bitsPerByte tokens"),
    Case("evaluate EMULATOR --text DOCUMENTS --documents", "perplexity loss bitsPerByte tokens"),
    Case("evaluate MODEL --choices CHOICES", "accuracy normalizedAccuracy"),
    Case("evaluate MODEL --labels LABELS", "accuracy normalizedAccuracy"),
    Case("generate MODEL --prompt the --max-tokens 4", "text tokens tokensPerSecond"),
    Case(
      "compress MODEL --bottom 1 --top 1 --recipe layer-drop=1 --out x",
      "bytes fullBytes blocks keptBlocks parameters exposure fidelity"),
    Case(
      "compress MODEL --recipe layer-drop=2 --calibration TEXT --out x",
      "bytes fullBytes blocks keptBlocks parameters exposure fidelity"),
    Case(
      "compress MODEL --recipe gradient-channels=0.5,int4=gptq --calibration TEXT --html p.html --out x",
      "bytes fullBytes blocks keptBlocks parameters exposure fidelity cost"),
    Case(
      "attack MODEL EMULATOR --task TEXT --held-out TEXT --public TEXT --steps 2 --public-epochs 1 --dry-run",
      "margin marginAfterAttack leastMarginAfterAttack hasModelPrivacy runs"),
    Case(
      "compare-emulators MODEL --task TEXT --held-out TEXT --recipe layer-drop=1 --recipe int8 --steps 2 --out x",
      "fullZeroShot ceiling fullFineTuning lines fullBytes"),
    Case(
      "reports --out x --reports 20 --people 2 --reports-per-person 3 --held-out 2", "files folder"),
    Case(
      "export EMULATOR --out x", "recipe bytes emulatorBytes blocks storedBlocks parameters folder"),
    Case(
      "tune EMULATOR --data TEXT --steps 2 --validation-share 0.2 --out x",
      "steps finalLoss tokensPerSecond peakMemoryBytes trainableParameters validationLoss"),
    Case(
      "tune MODEL --data DOCUMENTS --method end-blocks --bottom 1 --top 1 --steps 2 --out x",
      "steps finalLoss tokensPerSecond peakMemoryBytes trainableParameters"),
    Case(
      "tune MODEL --data DOCUMENTS --method full --steps 2 --out x",
      "steps finalLoss tokensPerSecond peakMemoryBytes trainableParameters"),
    Case("plug-in MODEL ADAPTER --out x", "parameters replacedTensors"),
    Case("plug-in MODEL ADAPTER --out x --merge", "parameters replacedTensors"),
    Case("aggregate ADAPTER ADAPTER --strategy fedavg --out x", "clients strategy"),
    Case("simulate RUN --out x", federationKeys + " simulatedSeconds"),
    Case(
      "simulate RUN --edge pedestrian --planner lookahead --out x",
      federationKeys + " simulatedSeconds simulation"),
    Case(
      "simulate RUN --edge pedestrian --planner heuristic --learning-model",
      "fiveNumbers rounds bytesUp bytesDown simulatedSeconds planner gap overSeeds table seeds"),
    Case(
      "estimate RUN --edge dense --runs 2 --deadline 100", "planner isMeasured cautions estimate"),
    Case(
      "calibrate RUN --rounds 3 --work --out x.yaml",
      "levels adapterBytes compute learning fitError out"),
    Case(
      "train-controller --environment anchor --steps 400 --processes 4 --out x.safetensors",
      "meanReturn standardError stepsPerSecond"),
    Case(
      "evaluate-controller heuristic --episodes 2", "meanReturn standardError stepsPerSecond"),
    Case("simulate RUN --seeds 2", "fiveNumbers rounds bytesUp bytesDown simulatedSeconds"),
    Case(
      "pretrain --text TEXT --out x --vocabulary 270 --blocks 2 --hidden-size 16 --heads 2 --context 16 --steps 3",
      "parameters loss perplexity"),
    Case(
      "bench step --layers 1 --batch 1 --context 8 --runs 1",
      "seconds tokensPerSecond peakMemoryBytes"),
    Case(
      "bench generate --layers 1 --prompt-tokens 2 --tokens 3 --runs 1",
      "seconds tokensPerSecond peakMemoryBytes weightBytes gigabytesPerSecond shareOfReadBandwidth"),
    Case("bench peak --runs 1", "seconds peakMemoryBytes gigaflops"),
    Case("doctor", "checks"),
    Case(
      "demo --model MODEL --data DOCUMENTS --clients-by user --clients 2 --rounds 1 --local-steps 1",
      "fiveNumbers clients rounds bytesUp bytesDown model"),
  ]

  private func names() async throws -> [String: String] {
    let workshop = try await TinyWorkshop.shared()
    return [
      "MODEL": workshop.model, "EMULATOR": workshop.emulator, "ADAPTER": workshop.adapter,
      "TEXT": workshop.text, "DOCUMENTS": workshop.documents, "RUN": workshop.runFile,
      "CHOICES": workshop.path("choices.jsonl"), "LABELS": workshop.path("labels.jsonl"),
    ]
  }

  @Test(arguments: cases) func `prints one object with the keys`(one: Case) async throws {
    let names = try await names()
    try await withTemporaryFolder { folder in
      let result = try await FedpeatCommand.succeed(
        one.arguments.map { names[$0] ?? $0 } + ["--json", "--quiet", "--threads", "1"], in: folder)
      let object = try result.object()
      for key in one.keys { #expect(object[key] != nil, "\(key) is missing: \(result)") }
      let progress = result.errors.split(separator: "\n").filter {
        !$0.hasPrefix("caution ") && !$0.hasPrefix("warning ")
      }
      #expect(progress.isEmpty, "--quiet is not: \(result)")
      expectNothingPartial(in: folder)
    }
  }

  @Test func `progress goes to standard error`() async throws {
    let names = try await names()
    try await withTemporaryFolder { folder in
      let run = ["simulate", names["RUN"] ?? "", "--threads", "1"]
      let json = try await FedpeatCommand.succeed(run + ["--json"], in: folder)
      _ = try json.object()
      #expect(json.errors.contains("round 2 of 2"))
      let plain = try await FedpeatCommand.succeed(run, in: folder)
      #expect(plain.output.contains("PLUG-IN"))
      #expect(!plain.output.contains("round 2 of 2"))
    }
  }

  @Test func `a number that was not measured is null, with the reason`() async throws {
    let names = try await names()
    try await withTemporaryFolder { folder in
      let run = folder.appendingPathComponent("run.yaml")
      let text = try String(contentsOfFile: names["RUN"] ?? "", encoding: .utf8)
      try Data((text + "\nfullFineTuning: false\n").utf8).write(to: run)
      for seeds in ["1", "2"] {
        let result = try await FedpeatCommand.succeed(
          ["simulate", run.path, "--seeds", seeds, "--json", "--quiet"], in: folder)
        let numbers = try #require(result.object()["fiveNumbers"] as? [String: Any])
        #expect(numbers["fullFineTuning"] is NSNull)
        let reasons = try #require(numbers["notMeasured"] as? [String: String])
        #expect(reasons["fullFineTuning"]?.contains("not asked for") == true)
        if seeds == "2" {
          let plugIn = try #require(numbers["plugIn"] as? [String: Any])
          #expect(Set(plugIn.keys) == ["mean", "deviation", "runs"])
        } else {
          #expect(numbers["plugIn"] is NSNumber)
        }
      }
    }
  }

  @Test func `the same seed gives the same adapter, another seed another`() async throws {
    let names = try await names()
    try await withTemporaryFolder { folder in
      func digest(_ seed: String, _ out: String) async throws -> String {
        try await FedpeatCommand.succeed(
          [
            "tune", names["EMULATOR"] ?? "", "--data", names["TEXT"] ?? "", "--steps", "3",
            "--seed", seed, "--threads", "2", "--out", out,
          ], in: folder)
        let inspected = try await FedpeatCommand.succeed(["inspect", out, "--json"], in: folder)
        return try #require(try inspected.object()["digest"] as? String)
      }
      let first = try await digest("3", "a")
      #expect(try await digest("3", "b") == first)
      #expect(try await digest("4", "c") != first)
    }
  }
}
