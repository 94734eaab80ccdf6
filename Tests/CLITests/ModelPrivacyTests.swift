import Foundation
import TestSupport
import Testing

/// An emulator's margin is measured, shown, and minded.
@Suite("Model privacy") struct ModelPrivacyTests {
  /// A run with the emulator of this folder, which ends at once as nobody comes.
  private func writeRun(of workshop: TinyWorkshop, to folder: URL) throws {
    try Data(
      """
      model: \(workshop.model)
      emulators: [emulator]
      rounds: 1
      context: 16
      gatheringDeadline: 0.2
      """.utf8
    ).write(to: folder.appendingPathComponent("served.yaml"))
  }

  @Test func `attack writes the margin, inspect shows it, serve minds it`() async throws {
    try await withWorkshop { workshop, folder in
      let emulator = try workshop.copy("emulator", to: folder)
      try writeRun(of: workshop, to: folder)
      let before = try await FedpeatCommand.run(["inspect", "emulator", "--json"], in: folder)
      let unmeasured = try #require(
        try JSONSerialization.jsonObject(with: Data(before.output.utf8)) as? [String: Any])
      #expect(unmeasured["margin"] is NSNull && unmeasured["modelPrivacy"] is NSNull)
      // The middle block of this emulator of a tiny random model is soon as good as the model's.
      let attacked = try await FedpeatCommand.run(
        [
          "attack", workshop.model, "emulator", "--task", workshop.text, "--held-out",
          workshop.text, "--own", workshop.documents, "--own-held-out", workshop.text, "--steps",
          "3", "--own-steps", "6", "--layout", "stream", "--json",
        ], in: folder)
      #expect(attacked.status == 0, "\(attacked)")
      let report = try #require(
        try JSONSerialization.jsonObject(with: Data(attacked.output.utf8)) as? [String: Any])
      let file = emulator.appendingPathComponent("emulator.json")
      func facts() throws -> [String: Any] {
        try #require(
          try JSONSerialization.jsonObject(with: Data(contentsOf: file)) as? [String: Any])
      }
      let measured = try #require(try facts()["margin"] as? [String: Any])
      let (margin, after) = (measured["margin"] as? Double, measured["afterAttack"] as? Double)
      #expect(report["margin"] as? Double == margin && measured["runs"] as? Int == 1)
      #expect(try #require(after) <= #require(margin))
      // Both questions were asked of the same text.
      let run = try #require((report["runs"] as? [[String: Any]])?.first)
      let forAttacker = try #require(run["forAttacker"] as? [String: Any])
      for key in ["plugIn", "emulatorTuned", "margin", "marginAfterAttack"] {
        #expect(forAttacker[key] as? Double == run[key] as? Double, "\(key)")
      }
      #expect((forAttacker["attacked"] as? [String: Double])?.keys.sorted() == ["middleOnOwn"])
      #expect(measured["leastForAttacker"] as? Double == after)
      // All that was tried is told, and what was not measured is null.
      let tried = try #require((run["tried"] as? [[String: Any]])?.first)
      #expect(tried["name"] as? String == "middleOnOwn" && tried["steps"] as? Int == 6)
      #expect(report["leastMarginForAttacker"] as? Double == after)
      #expect(
        report["caution"] as? String == "the attacker had 0 tokens of public text, fewer than 10000"
      )
      #expect(
        try abs(#require(report["regained"] as? Double) - #require(margin) + #require(after))
          < 1e-12)
      // The same with a margin that is there, and with one that is gone.
      for (least, forAttacker, isServed) in [
        (0.1, nil, true), (-0.1, nil, false), (0.1, 0.1, true), (0.1, -0.3, false),
      ] as [(Double, Double?, Bool)] {
        var changed = try facts()
        var margin: [String: Any] = [
          "margin": 0.2, "afterAttack": least, "leastAfterAttack": least, "publicTokens": 50_000,
          "runs": 2,
          "attack": [
            "learningRates": [0.001, 0.01], "epochs": 4, "steps": 300, "grows": true,
            "context": 160, "tuningSteps": 100,
          ],
        ]
        margin["leastForAttacker"] = forAttacker
        changed["margin"] = margin
        try JSONSerialization.data(withJSONObject: changed).write(to: file)
        let shown = try await FedpeatCommand.run(["inspect", "emulator"], in: folder)
        #expect(shown.output.contains("0.200, after attacks \(least)00"))
        #expect(shown.output.contains("no model privacy") == !isServed)
        let command = ["serve", "served.yaml"]
        let refused = try await FedpeatCommand.run(command, in: folder)
        #expect(refused.errors.contains("gives no model privacy") == !isServed, "\(refused)")
        #expect(refused.status == (isServed ? 69 : 64), "\(refused)")
        let told = try await FedpeatCommand.run(command + ["--without-model-privacy"], in: folder)
        #expect(!told.errors.contains("gives no model privacy"))
      }
      // A weaker attack does not undo what was found before, unless that is said.
      let weaker = [
        "attack", workshop.model, "emulator", "--task", workshop.documents, "--held-out",
        workshop.text, "--steps", "3", "--own-steps", "1", "--layout", "stream",
      ]
      let kept = try await FedpeatCommand.succeed(weaker, in: folder)
      #expect(kept.errors.contains("an earlier attack"), "\(kept)")
      var stated = try #require(try facts()["margin"] as? [String: Any])
      #expect(stated["leastForAttacker"] as? Double == -0.3)
      _ = try await FedpeatCommand.succeed(
        weaker + ["--replace", "--learning-rate", "2e-3"], in: folder)
      stated = try #require(try facts()["margin"] as? [String: Any])
      #expect(stated["leastForAttacker"] == nil && stated["isOnTunedText"] == nil)
      // A run that tunes otherwise is told.
      let served = try await FedpeatCommand.run(
        ["serve", "served.yaml", "--without-model-privacy"], in: folder)
      #expect(
        served.errors.contains(
          "learning rate 0.002, the run with 0.003; state noise 0.3, the run with 0.0"),
        "\(served)")
    }
  }

  @Test func `an attack on public text tries several rates, and grows the emulator`() async throws {
    try await withWorkshop { workshop, folder in
      _ = try workshop.copy("emulator", to: folder)
      try writeRun(of: workshop, to: folder)
      let attacked = try await FedpeatCommand.run(
        [
          "attack", workshop.model, "emulator", "--task", workshop.text, "--held-out",
          workshop.text, "--own", workshop.documents, "--public", workshop.text, "--steps", "2",
          "--own-steps", "2", "--public-epochs", "2", "--public-rate", "1e-3, 1", "--layout",
          "stream", "--json",
        ], in: folder)
      #expect(attacked.status == 0, "\(attacked)")
      let report = try #require(
        try JSONSerialization.jsonObject(with: Data(attacked.output.utf8)) as? [String: Any])
      #expect(report["leastMarginForAttacker"] is NSNull)
      let run = try #require((report["runs"] as? [[String: Any]])?.first)
      #expect(run["forAttacker"] is NSNull)
      let tried = try #require(run["tried"] as? [[String: Any]])
      #expect(
        tried.compactMap { $0["name"] as? String } == [
          "middleOnOwn", "middleOnPublic", "middleOnPublic", "grownOnPublic", "grownOnPublic",
          "middleOnBoth",
        ])
      let rates = tried.dropFirst().prefix(4).compactMap { $0["learningRate"] as? Double }
      #expect(rates == [0.001, 1, 0.001, 1])
      let blocks = tried.compactMap { $0["blocks"] as? Int }
      #expect(blocks[3] == blocks[4] && blocks[3] > blocks[1])
      // The least of all counts.
      let least = try #require(tried.compactMap { $0["margin"] as? Double }.min())
      let margin = try #require(run["margin"] as? Double)
      #expect(abs(try #require(run["marginAfterAttack"] as? Double) - min(least, margin)) < 1e-12)
      #expect(tried.allSatisfy { $0["ownPerplexity"] is NSNull })
      // Too little to tell, which is said wherever the margin is shown.
      #expect((report["caution"] as? String)?.contains("tokens of public text") == true)
      let file = folder.appendingPathComponent("emulator/emulator.json")
      var facts = try #require(
        try JSONSerialization.jsonObject(with: Data(contentsOf: file)) as? [String: Any])
      var measured = try #require(facts["margin"] as? [String: Any])
      let attack = try #require(measured["attack"] as? [String: Any])
      #expect(attack["epochs"] as? Int == 2 && attack["tuningSteps"] as? Int == 2)
      for change in [["leastAfterAttack": 0.1, "runs": 1], ["attack": NSNull()]] as [[String: Any]]
      {
        measured.merge(change) { $1 }
        facts["margin"] = measured
        try JSONSerialization.data(withJSONObject: facts).write(to: file)
        let shown = try await FedpeatCommand.run(["inspect", "emulator"], in: folder)
        #expect(shown.output.contains("the margin says little"), "\(shown)")
        let inspected = try await FedpeatCommand.run(["inspect", "emulator", "--json"], in: folder)
        let object = try #require(
          try JSONSerialization.jsonObject(with: Data(inspected.output.utf8)) as? [String: Any])
        #expect(object["modelPrivacy"] is NSNull && object["marginCaution"] is String)
        let served = try await FedpeatCommand.run(["serve", "served.yaml"], in: folder)
        #expect(served.errors.contains("says little"), "\(served)")
      }
    }
  }

  @Test func `a comparison goes on where it was, and minds its settings`() async throws {
    try await withWorkshop { workshop, folder in
      let command = [
        "compare-emulators", workshop.model, "--task", workshop.text, "--held-out", workshop.text,
        "--steps", "2", "--out", "compared", "--json",
      ]
      let first = try await FedpeatCommand.run(command + ["--recipe", "int8"], in: folder)
      #expect(first.status == 0, "\(first)")
      let records = folder.appendingPathComponent("compared/records.jsonl")
      let lines = try String(contentsOf: records, encoding: .utf8).split(separator: "\n")
      #expect(lines.count == 2)
      let more = try await FedpeatCommand.run(
        command + ["--recipe", "int8", "--recipe", "layer-drop=1"], in: folder)
      #expect(more.status == 0, "\(more)")
      let all = try String(contentsOf: records, encoding: .utf8).split(separator: "\n")
      #expect(all.count == 3 && Array(all.prefix(2)) == lines)
      let page = try String(
        contentsOf: folder.appendingPathComponent("compared/report.html"), encoding: .utf8)
      #expect(page.contains("layer-drop=1") && page.hasPrefix("<!DOCTYPE html>"))
      try await expect(
        64, saying: ["other settings"], from: command + ["--recipe", "int8", "--rank", "2"],
        in: folder)
      try Data("{}\n".utf8).write(to: records)
      try await expect(
        65, saying: ["line 1", "no record"], from: command + ["--recipe", "int8"], in: folder)
    }
  }
}
