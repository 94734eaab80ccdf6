import Foundation
import PeatTensor
import TestSupport
import Testing

@Suite("Options of methods, and adapters that are started from") struct MethodOptionTests {
  private func tune(_ workshop: TinyWorkshop, _ more: [String]) -> [String] {
    ["tune", workshop.emulator, "--data", workshop.text, "--steps", "1", "--out", "x"] + more
  }

  @Test func `an option that the method does not have, or that contradicts --from, is refused`()
    async throws
  {
    try await withWorkshop { workshop, folder in
      for (more, says) in [
        (["--method", "ia3", "--rank", "4"], ["--rank is no option of the method 'ia3'"]),
        (["--method", "end-blocks", "--dropout", "0.1"], ["--dropout", "takes none"]),
        (["--virtual-tokens", "4"], ["--virtual-tokens", "'lora'"]),
        (["--method", "full", "--alpha", "4"], ["--alpha"]),
        (["--from", workshop.adapter, "--rank", "3"], ["--rank is for a new adapter"]),
        (["--from", workshop.adapter, "--alpha", "3"], ["--alpha"]),
        (["--from", workshop.adapter, "--target-modules", "q_proj"], ["--target-modules"]),
        (["--from", workshop.adapter, "--bottleneck-size", "3"], ["--bottleneck-size"]),
        (["--target-modules", "all-linear,q_proj"], ["all-linear", "stands alone"]),
        (["--target-modules", "q_pro"], ["q_proj", "all-linear"]),
        (["--rank", "65536"], ["rank of 65536", "more than any"]),
        (["--rank-pattern", "down_proj=2,down_proj=3"], ["--rank-pattern says down_proj twice"]),
        (["--alpha-pattern", "q_proj=2,q_proj=2"], ["--alpha-pattern says q_proj twice"]),
        (["--rank-pattern", "(((=2"], ["rank_pattern has '((('", "not closed"]),
        (["--method", "bottleneck", "--activation", "tanh"], ["gelu, relu"]),
        (
          ["--method", "ia3", "--feed-forward-modules", "q_proj"],
          ["'q_proj'", "targets", "mlp.down_proj"]
        ),
      ] {
        try await expect(64, saying: says, from: tune(workshop, more), in: folder)
      }
      for (text, says) in [
        ("method: ia3\nrankPattern: {q_proj: 4}", "'rankPattern' is no option of the method 'ia3'"),
        ("exampleLimit: 0", "exampleLimit"), ("method: lorra", "Unknown method 'lorra'"),
        ("upload: int9", "upload"), ("uploadBits: 3", "3"), ("rankLimits: [0]", "rankLimits"),
        ("rankLimits: [2, 64]", "rankLimits are [2, 64]"), ("rankLimits: []", "rankLimits"),
        ("method: ia3\nrankLimits: [2]", "'ia3' has no rank"),
        ("method: bottleneck\nactivation: tanh", "expected one of relu, gelu, found 'tanh'"),
        ("targetModules: [q_porj]", "Did you mean 'q_proj'?"),
        ("excludeModules: lm_head", "Unknown excluded module 'lm_head'"),
        ("schedule: steep", "expected one of constant, linear, cosine, found 'steep'"),
      ] {
        let run = folder.appendingPathComponent("run.yaml")
        let usual = try String(contentsOf: workshop.url("run.yaml"), encoding: .utf8)
        try Data("\(usual)\n\(text)\n".utf8).write(to: run)
        try await expect(
          65, saying: ["run.yaml", says],
          from: ["simulate", "run.yaml"], in: folder)
      }
      // Where a flag says it, it is the flag that is wrong.
      for more in [
        ["--upload", "int9"], ["--method", "lorra"], ["--rank", "0"],
        ["--exclude-modules", "lm_head"],
      ] {
        try await expect(64, from: ["simulate", workshop.runFile] + more, in: folder)
      }
      let help = try await FedpeatCommand.succeed(["simulate", "--help"], in: folder)
      #expect(help.output.contains("bitfit"))
      // What says the same, and a dropout, may stand beside --from.
      try await FedpeatCommand.succeed(
        tune(workshop, ["--from", workshop.adapter, "--rank", "8", "--dropout", "0.1"]), in: folder)
      let file = folder.appendingPathComponent("x/adapter_config.json")
      let table = try JSONSerialization.jsonObject(with: Data(contentsOf: file)) as? [String: Any]
      #expect(table?["lora_dropout"] as? Double == 0.1)
    }
  }

  @Test func `ffa runs with DoRA`() async throws {
    try await withWorkshop { workshop, folder in
      let outcome = try await FedpeatCommand.succeed(
        ["simulate", workshop.runFile, "--method", "dora", "--strategy", "ffa", "--json"],
        in: folder)
      let rounds = try #require(outcome.object()["roundRecords"] as? [[String: Any]])
      #expect(rounds.allSatisfy { ($0["aggregationError"] as? Double ?? 1) < 1e-6 })
    }
  }

  @Test func `an adapter of another model is refused wherever it is used`() async throws {
    try await withWorkshop { workshop, folder in
      let adapter = try workshop.copy("adapter", to: folder)
      let file = adapter.appendingPathComponent("fedpeat.json")
      var facts = try #require(
        JSONSerialization.jsonObject(with: Data(contentsOf: file)) as? [String: Any])
      facts["sourceDigest"] = String(repeating: "0", count: 64)
      try JSONSerialization.data(withJSONObject: facts).write(to: file)
      for arguments in [
        ["evaluate", workshop.emulator, "--text", workshop.text, "--adapter", "adapter"],
        ["evaluate", workshop.model, "--text", workshop.text, "--adapter", "adapter"],
        ["plug-in", workshop.model, "adapter", "--out", "x"],
        tune(workshop, ["--from", "adapter"]),
      ] {
        try await expect(65, saying: ["digest", "000000"], from: arguments, in: folder)
      }
    }
  }

  @Test func `inspect looks at an adapter's tensors, and shows the update beside it`() async throws
  {
    try await withWorkshop { workshop, folder in
      let shown = try await FedpeatCommand.succeed(
        ["inspect", workshop.adapter, "--json"], in: folder
      ).object()
      #expect(shown["kind"] as? String == "adapter")
      #expect(shown["client"] as? String == "local")
      let adapter = try workshop.copy("adapter", to: folder)
      let file = adapter.appendingPathComponent("adapter_model.safetensors")
      let tensors = try SafeTensorsFile(contentsOf: file).tensors().copied()
      let up = try #require(tensors.keys.sorted().first { $0.hasSuffix("lora_B.weight") })
      for (says, edit) in [
        ("is empty", { $0 = [:] }), ("lora_B", { $0[up] = nil }),
        ("does not fit", { $0[up] = Tensor(zeros: [3, 3]) }),
        ("stranger", { $0["model.stranger"] = [1] }),
      ] as [(String, (inout NamedTensors) -> Void)] {
        var changed = tensors
        edit(&changed)
        try SafeTensors.write(changed, to: file)
        try await expect(65, saying: ["adapter", says], from: ["inspect", "adapter"], in: folder)
      }
    }
  }
}
