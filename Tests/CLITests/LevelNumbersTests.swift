import Foundation
import TestSupport
import Testing

/// Runs with several emulators.
@Suite("Several emulators") struct LevelNumbersTests {
  private func simulate(
    _ workshop: TinyWorkshop, _ planner: String, _ emulators: [String], in folder: URL
  ) async throws -> (result: [String: Any], errors: String) {
    let outcome = try await FedpeatCommand.succeed(
      ["simulate", workshop.runFile, "--planner", planner, "--threads", "1", "--json"]
        + emulators.flatMap { ["--emulator", $0] }, in: folder)
    return (try outcome.object(), outcome.errors)
  }

  private func numbers(_ result: [String: Any], _ level: Int) throws -> [String: Any] {
    let all = try #require(result["emulators"] as? [[String: Any]])
    return try #require(all.first { $0["level"] as? Int == level })
  }

  @Test func `the margin is that of the level which clients held`() async throws {
    try await withWorkshop { workshop, folder in
      let levels = ["layer-drop=1", "layer-drop=2"]
      let (result, errors) = try await simulate(workshop, "everyone:1", levels, in: folder)
      #expect(result["emulatorLevel"] as? Int == 1)
      let five = try #require(result["fiveNumbers"] as? [String: Any])
      // Clients held the whole middle: what they have is the plug-in.
      #expect(abs(try #require(result["margin"] as? Double)) < 1e-6)
      #expect(five["emulatorZeroShot"] as? Double == five["fullZeroShot"] as? Double)
      let (own, other) = (try numbers(result, 1), try numbers(result, 0))
      #expect(own["isUsed"] as? Bool == true && other["isUsed"] as? Bool == false)
      #expect(own["margin"] as? Double == result["margin"] as? Double)
      #expect(own["emulatorTuned"] as? Double == five["emulatorTuned"] as? Double)
      #expect(other["emulatorTuned"] is NSNull && other["margin"] is NSNull)
      #expect(other["emulatorZeroShot"] is Double)
      // Fewer blocks are among the more, and the whole middle is warned of.
      #expect(other["recipe"] as? String == "layer-drop=2,layer-drop=1")
      let warnings = try #require(result["warnings"] as? [String])
      #expect(warnings.contains { $0.contains("Emulator 1 (layer-drop=2) shows all") })
      #expect(errors.contains("emulator tuned (layer-drop=2)"), "\(errors)")

      // Each client on another: the least margin counts, whichever stands first.
      for levels in [levels, levels.reversed()] {
        let (both, _) = try await simulate(workshop, "everyone", levels, in: folder)
        let margins = try (0...1).map { try #require(try numbers(both, $0)["margin"] as? Double) }
        #expect(both["margin"] as? Double == margins.min())
      }
    }
  }

  @Test func `what several show together, and a recipe without quotes, is warned of`() async throws
  {
    try await withWorkshop { workshop, folder in
      let (apart, _) = try await simulate(
        workshop, "everyone", ["layers=0", "layers=1"], in: folder)
      let together = try #require(apart["warnings"] as? [String])
      #expect(
        together.contains { $0.contains("show 100.0 % of the middle together") }, "\(together)")
      let run = try String(contentsOf: workshop.url("run.yaml"), encoding: .utf8)
        .split(separator: "\n").filter { !$0.hasPrefix("emulators") }.joined(separator: "\n")
      try Data((run + "\nemulators: [layer-drop=1,int8]\n").utf8)
        .write(to: folder.appendingPathComponent("run.yaml"))
      let result = try await FedpeatCommand.succeed(
        ["simulate", "run.yaml", "--threads", "1", "--json"], in: folder
      ).object()
      let warnings = try #require(result["warnings"] as? [String])
      #expect(warnings.contains { $0.contains(#"["layer-drop=1,int8"]"#) }, "\(warnings)")
    }
  }

  @Test func `planners are named as people may write them`() async throws {
    try await withWorkshop { workshop, folder in
      for (planner, text) in [
        ("learned", "learned:controller.safetensors"),
        ("mine.safetensors", "learned:mine.safetensors"),
      ] {
        try await expect(
          64, saying: [text], from: ["simulate", workshop.runFile, "--planner", planner], in: folder
        )
      }
      try await expect(
        64, saying: ["Did you mean 'pedestrian'?"],
        from: ["simulate", workshop.runFile, "--edge", "pedestrain"], in: folder)
      try await expect(
        64, saying: ["names emulator 8; there are 8"],
        from: ["evaluate-controller", "everyone:8", "--episodes", "1"], in: folder)
      let fixed = try await FedpeatCommand.succeed(
        ["evaluate-controller", "everyone:1", "everyone", "--episodes", "1", "--json"], in: folder)
      #expect(fixed.output.contains("everyone:1"))
      try Data("emulators: layer-drop=2\n".utf8)
        .write(to: folder.appendingPathComponent("list.yaml"))
      try await expect(
        65, saying: ["expected a list"], from: ["simulate", "list.yaml"], in: folder)
    }
  }
}
