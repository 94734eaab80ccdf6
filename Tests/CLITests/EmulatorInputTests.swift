import Foundation
import TestSupport
import Testing

/// What verbs about emulators do with what other people wrote, and with what they can't finish.
@Suite("Emulators' input") struct EmulatorInputTests {
  @Test func `a page is replaced, anything else is left, before any work`() async throws {
    try await withWorkshop { workshop, folder in
      let notes = folder.appendingPathComponent("notes.txt")
      try Data("mine".utf8).write(to: notes)
      let command = [
        "compress", workshop.model, "--recipe", "layer-drop=1", "--out", "e", "--html",
      ]
      try await expect(
        74, saying: ["is no page"], from: command + ["notes.txt"], in: folder)
      try await expect(
        74, saying: ["There is no folder"], from: command + ["none/page.html"], in: folder)
      #expect(try Data(contentsOf: notes) == Data("mine".utf8))
      #expect(!FileManager.default.fileExists(atPath: folder.appendingPathComponent("e").path))
      for _ in 0..<2 {
        let made = try await FedpeatCommand.run(command + ["page.html"], in: folder)
        #expect(made.status == 0, "\(made)")
      }
    }
  }

  @Test func `spaces in a recipe are no part of it`() async throws {
    try await withWorkshop { workshop, folder in
      let made = try await FedpeatCommand.run(
        [
          "compress", workshop.model, "--recipe", " layer-drop = 1 , int8 ", "--out", "e", "--json",
        ],
        in: folder)
      #expect(made.status == 0 && made.output.contains("\"layer-drop=1,int8\""), "\(made)")
    }
  }

  @Test(arguments: [
    (["--distill-batch", "0"], "batch is 0"), (["--distill-steps", "0"], "steps is 0"),
    (["--distill-rate", "0"], "learningRate is 0"),
    (["--distill-context", "0"], "context is 0"),
  ])
  func `a distillation that makes no sense is told before anything is made`(
    options: [String], says: String
  ) async throws {
    try await withWorkshop { workshop, folder in
      try await expect(
        64, saying: ["distillation: \(says)"],
        from: [
          "compress", workshop.model, "--recipe", "layer-drop=1", "--distill", workshop.text,
          "--out", "e",
        ] + options, in: folder)
      #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path).isEmpty)
    }
  }

  @Test func `a comparison that can't be distilled leaves no folder`() async throws {
    try await withWorkshop { workshop, folder in
      let command = [
        "compare-emulators", workshop.model, "--task", workshop.text, "--held-out",
        workshop.documents, "--layout", "stream", "--steps", "1", "--recipe",
        "layer-drop=1+distilled", "--distill", workshop.text, "--out", "c",
      ]
      try await expect(
        64, saying: ["distillation: steps is 0"], from: command + ["--distill-steps", "0"],
        in: folder)
      let corrected = try await FedpeatCommand.run(command + ["--distill-steps", "1"], in: folder)
      #expect(corrected.status == 0, "\(corrected)")
    }
  }

  @Test func `bytes are those of the files`() async throws {
    try await withWorkshop { workshop, folder in
      func size(_ file: URL) throws -> Int {
        try #require(
          try FileManager.default.attributesOfItem(atPath: file.path)[.size] as? Int)
      }
      func report(_ arguments: [String]) async throws -> [String: Any] {
        let result = try await FedpeatCommand.run(arguments + ["--json"], in: folder)
        return try #require(
          try JSONSerialization.jsonObject(with: Data(result.output.utf8)) as? [String: Any])
      }
      let made = try await report([
        "compress", workshop.model, "--recipe", "layer-drop=1,int8", "--out", "e",
      ])
      let weights = folder.appendingPathComponent("e/model.safetensors")
      #expect(made["bytes"] as? Int == (try size(weights)))
      let whole = URL(fileURLWithPath: workshop.model).appendingPathComponent("model.safetensors")
      #expect(made["fullBytes"] as? Int == (try size(whole)))
      #expect(try await report(["inspect", "e"])["bytes"] as? Int == size(weights))
      let all = try FileManager.default.contentsOfDirectory(atPath: folder.path + "/e").reduce(0) {
        $0 + (try size(folder.appendingPathComponent("e/\($1)")))
      }
      #expect((made["cost"] as? [String: Any])?["diskBytes"] as? Int == all)
      // It holds an update, too, and is one alone without the adapter's files.
      let adapter = try workshop.copy("adapter", to: folder)
      for (kind, name) in [("adapter", "adapter_model"), ("update", "update")] {
        let said = try await report(["inspect", "adapter"])
        #expect(said["kind"] as? String == kind)
        #expect(
          said["bytes"] as? Int == (try size(adapter.appendingPathComponent("\(name).safetensors")))
        )
        for file in ["adapter_config.json", "fedpeat.json"] {
          try? FileManager.default.removeItem(at: adapter.appendingPathComponent(file))
        }
      }
    }
  }

  @Test func `a ladder replaces all levels of the one before, and chooses its blocks itself`()
    async throws
  {
    try await withWorkshop { workshop, folder in
      func names(_ place: String) throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: folder.path + "/" + place).sorted()
      }
      let command = ["compress", workshop.model, "--out", "l", "--ladder"]
      let first = try await FedpeatCommand.run(command + ["2,1"], in: folder)
      #expect(first.status == 0, "\(first)")
      #expect(try names("l") == ["level-0", "level-1"])
      let second = try await FedpeatCommand.run(command + ["1"], in: folder)
      #expect(second.status == 0 && second.output.contains("as much as the one"), "\(second)")
      #expect(try names("l") == ["level-0"])
      try await expect(
        64, saying: ["'layers' in --recipe"], from: command + ["2,1", "--recipe", "layers=0"],
        in: folder)
      // What is no level of ours stays, and nothing is begun.
      let mine = folder.appendingPathComponent("l/level-7")
      try FileManager.default.createDirectory(at: mine, withIntermediateDirectories: true)
      try Data("mine".utf8).write(to: mine.appendingPathComponent("notes.txt"))
      try await expect(74, saying: ["notes.txt"], from: command + ["2,1"], in: folder)
      #expect(try names("l") == ["level-0", "level-7"])
    }
  }

  @Test func `what others wrote into an emulator does not steer the terminal`() async throws {
    try await withWorkshop { workshop, folder in
      let file = try workshop.copy("emulator", to: folder).appendingPathComponent("emulator.json")
      var facts = try #require(
        try JSONSerialization.jsonObject(with: Data(contentsOf: file)) as? [String: Any])
      facts["licence"] = "mit\u{1B}[2J\nrecipe other" + String(repeating: "x", count: 5000)
      try JSONSerialization.data(withJSONObject: facts).write(to: file)
      let shown = try await FedpeatCommand.run(["inspect", "emulator"], in: folder)
      #expect(shown.status == 0 && !shown.output.contains("\u{1B}"), "\(shown)")
      #expect(shown.output.contains("mit\\u{1b}[2J recipe other"))
      #expect(shown.output.split(separator: "\n").allSatisfy { $0.count < 160 })
    }
  }

  @Test func `texts that nothing can be learned from are told before anything is learned`()
    async throws
  {
    try await withWorkshop { workshop, folder in
      _ = try workshop.copy("emulator", to: folder)
      try Data("the".utf8).write(to: folder.appendingPathComponent("short.txt"))
      let command = [
        "attack", workshop.model, "emulator", "--task", workshop.text, "--held-out",
        workshop.documents, "--steps", "2",
      ]
      for (option, name) in [
        ("--own", "The attacker's own texts"), ("--public", "The public text"),
      ] {
        let tokens = option == "--public" ? ["--public-tokens", "1"] : []
        let refused = try await FedpeatCommand.run(
          command + [option, "short.txt"] + tokens, in: folder)
        #expect(refused.status == 65 && refused.errors.contains(name), "\(refused)")
        #expect(!refused.errors.contains("tuning the adapter"))
      }
      // Measured on what it is tuned on, it says so.
      let same = try await FedpeatCommand.run(
        command + ["--held-out", workshop.text, "--own-steps", "2", "--dry-run"], in: folder)
      #expect(same.status == 0 && same.errors.contains("is one that is tuned on"), "\(same)")
    }
  }

  @Test func `one comparison at a time works in a folder`() async throws {
    try await withWorkshop { workshop, folder in
      let command = [
        "compare-emulators", workshop.model, "--task", workshop.text, "--held-out",
        workshop.documents, "--layout", "stream", "--steps", "1", "--recipe", "int8", "--out", "c",
      ]
      let first = try await FedpeatCommand.run(command, in: folder)
      #expect(first.status == 0, "\(first)")
      let lock = open(folder.appendingPathComponent("c/.lock").path, O_RDWR)
      try #require(lock >= 0)
      defer { close(lock) }
      try #require(flock(lock, LOCK_EX | LOCK_NB) == 0)
      try await expect(64, saying: ["Another comparison works"], from: command, in: folder)
      flock(lock, LOCK_UN)
      #expect(try await FedpeatCommand.run(command, in: folder).status == 0)
    }
  }
}
