import Foundation
import TestSupport
import Testing

/// Wrong edges, controllers and planners end with their exit code and a message that helps.
@Suite("Bad input: edges and controllers") struct EdgeInputTests {
  private static let edges: [(String, [String])] = [
    ("radio: {bandwidth: -1}", ["radio.bandwidth is -1"]),
    ("radio: {radius: 0}", ["radio.radius is 0"]),
    ("radio: {radios: 1}", ["unknown key 'radio.radios'", "radius"]),
    ("devices: 0", ["devices is 0"]),
    ("classes: []", ["classes is empty"]),
    ("levels: []", ["0 levels"]),
    (
      "classes: [{name: tiny, share: 1, compute: {low: 1.0e9, high: 1.0e9}, memory: {low: 1.0e6, high: 1.0e6}}]",
      ["No device can hold an emulator"]
    ),
    (
      "classes: [{name: a, shares: 1, compute: {low: 1, high: 2}, memory: {low: 1, high: 2}}]",
      ["unknown key 'classes[0].shares'", "share"]
    ),
    ("maxExposure: 0.01", ["gives away more than maxExposure"]),
    ("work: {steps: [2]}", ["work.steps", "must hold 1"]),
    ("work: {uploadBits: [32, 7]}", ["work.uploadBits"]),
    ("work: {uploadBits: [16, 8]}", ["work.uploadBits", "must hold 32"]),
    ("uploads: [{rank: 2, bits: 8, bytes: 100}]", ["uploads", "found 2.0, 8 and 100"]),
    ("work: {steps: [1, 1, 1]}", ["work.steps", "each once"]),
    ("objective: {referenceTime: 1.0e13}", ["objective.referenceTime", "1e-6 to 1e12"]),
    ("mobility: {model: randomWaypoint, speed: 0}", ["random waypoints need a speed above 0"]),
    ("learning: {rate: 2}", ["learning.rate is 2"]),
    ("server: {weight: 1}", ["server"]), ("target: 2", ["target is 2"]),
    ("target: .nan", ["edge.yaml'", "target is .nan", "must be finite"]),
    ("classes: [{name: a, share: .inf}]", ["classes.0.share is .inf", "must be finite"]),
    ("levelsAge: never", ["levelsAge", "expected one of sinceSent, sinceMade"]),
    ("objective: {aim: fastest}", ["objective.aim", "expected one of weighted, timeToTarget"]),
    ("radio: {fading: none}", ["radio.fading", "expected one of ergodic, block"]),
    ("radio: {scenario: Mars}", ["radio.scenario", "expected one of UMa, UMi"]),
    ("learning: []", ["learning is [], which does not fit"]),
    ("levels: [3]", ["levels is [3], which does not fit"]),
    ("devices: 1000000000000000000", ["The edge 'edge.yaml': devices is 1000000000000000000"]),
    ("middleBlocks: 0", ["middleBlocks is 0"]),
    ("adapterBytes: 1.0e300", ["adapterBytes is 1e+300"]),
    ("deadline: 0", ["deadline 0.0"]), ("uncertainty: {delay: 100}", ["delay 0 to 20"]),
    ("calibration: {learningRate: 0}", ["calibration.learningRate is 0.0", "or null"]),
    ("calibration: {spread: -1}", ["calibration.spread is -1"]),
    ("calibration: {stepTokens: -1}", ["calibration.stepTokens is -1"]),
    ("calibration: {method: \(String(repeating: "x", count: 300))}", ["300 bytes"]),
    (
      "calibration: {cautions: [\(String(repeating: "x", count: 3000))]}",
      ["calibration.cautions", "3000 bytes"]
    ),
    ("calibration: {emulators: [\(String(repeating: "a, ", count: 64))a]}", ["65 entries"]),
    (level("name: \(String(repeating: "x", count: 2000))"), ["a name of 2000 bytes"]),
    (level("blocks: [0, 0, 0, 0, 0, 0, 0, 0, 0]"), ["names 9 blocks", "name each once"]),
    (level("blocks: [8]"), ["names a block that the middle's 8 blocks do not have"]),
    (level("blocks: [0], shown: [1]"), ["at most 0.25"]),
    (level("fidelity: 1.1"), ["fidelity of 0 to 1", "1.1"]),
    (level("bytes: 0"), ["bytes and memory of 1 to 1e15", "found 0.0"]),
    (
      "classes: [\(String(repeating: "{name: a, compute: {low: 1.0e9, high: 1.0e9}, memory: {low: 1.0e9, high: 1.0e9}}, ", count: 1001))]",
      ["1001 classes"]
    ),
    ("devices: 3\ndevices: 4", ["duplicated key"]), ("- 1", ["must hold keys with values"]),
    ("a: &a [*a]", ["edge.yaml'"]), ("devices: [", ["is not correct YAML"]),
    ("a: \(String(repeating: "[", count: 50))", ["edge.yaml'"]),
  ]

  /// An edge of one level, with another value of one of its keys.
  private static func level(_ change: String) -> String {
    var values = [
      "name: a", "bytes: 1.0e6", "work: 1.0e9", "memory: 1.0e8", "fidelity: 0.5", "blocks: [0]",
    ]
    for change in change.split(separator: ", ", maxSplits: change.contains("shown") ? 1 : 0) {
      values.removeAll { $0.prefix { $0 != ":" } == change.prefix { $0 != ":" } }
      values.append(String(change))
    }
    return "levels: [{\(values.joined(separator: ", "))}]"
  }

  @Test func `edges that can't be`() async throws {
    try await withTemporaryFolder { folder in
      let file = folder.appendingPathComponent("edge.yaml")
      for (text, words) in Self.edges {
        try Data(text.utf8).write(to: file)
        try await expect(
          65, saying: words,
          from: ["evaluate-controller", "heuristic", "--environment", "edge.yaml", "--quiet"],
          in: folder)
      }
      try await expect(
        64, saying: ["neither a file nor an environment"],
        from: ["evaluate-controller", "heuristic", "--environment", "pedestrain"], in: folder)
    }
  }

  @Test func `controllers that are none, or for something else`() async throws {
    let workshop = try await TinyWorkshop.shared()
    try await withTemporaryFolder { folder in
      let file = folder.appendingPathComponent("c.safetensors")
      _ = try await FedpeatCommand.succeed(
        [
          "train-controller", "--environment", "anchor", "--steps", "200", "--processes", "2",
          "--out", "c.safetensors", "--quiet",
        ], in: folder)
      let shown = try await FedpeatCommand.succeed(
        ["inspect", "c.safetensors", "--json"], in: folder)
      #expect(try shown.object()["kind"] as? String == "controller")
      // Trained for six features; an edge has nine.
      try await expect(
        65,
        saying: [
          "was trained for", "('anchor')",
          "6 numbers of each device, here there are 9", "--environment anchor",
        ], from: ["evaluate-controller", "c.safetensors", "--quiet"],
        in: folder)
      let run = ["simulate", workshop.runFile, "--edge", "pedestrian", "--quiet", "--planner"]
      try await expect(
        65, saying: ["was trained for", "fedpeat calibrate", "--edge"],
        from: run + ["learned:c.safetensors"], in: folder)
      try Data("radio: {radius: 300}\nlevels: []\n".utf8)
        .write(to: folder.appendingPathComponent("edge.yaml"))
      try await expect(
        65, saying: ["'edge.yaml' is no controller", "an edge file", "--edge", "train-controller"],
        from: run + ["learned:edge.yaml"], in: folder)
      try Data("To be, or not to be".utf8).write(to: folder.appendingPathComponent("text"))
      try await expect(
        65, saying: ["'text' is no controller", "a text"], from: run + ["learned:text"], in: folder)
      try await expect(
        65, saying: ["is no controller", "other tensors"],
        from: run + ["learned:\(workshop.model)/model.safetensors"], in: folder)
      try await expect(74, from: run + ["learned:gone.safetensors"], in: folder)
      try await expect(
        64, saying: ["Unknown planner", "lookahead"], from: run + ["lookahed"], in: folder)
      let whole = try Data(contentsOf: file)
      let few =
        "levels: [{name: a, bytes: 1.0e6, work: 1, memory: 1.0e6, fidelity: 0.5, blocks: [0]}]"
      try Data(few.utf8).write(to: folder.appendingPathComponent("few.yaml"))
      try await expect(
        65, saying: ["chooses among 8 emulators, here there are 1", "train-controller"],
        from: ["evaluate-controller", "c.safetensors", "--environment", "few.yaml", "--quiet"],
        in: folder)
      // Its last four bytes are a weight.
      try (whole.dropLast(4) + Data([0, 0, 0xC0, 0x7F])).write(to: file)
      try await expect(
        65, saying: ["holds NaN or infinity in 'value.weight'"],
        from: ["evaluate-controller", "c.safetensors", "--environment", "anchor", "--quiet"],
        in: folder)
      for bad in [Data(), whole.prefix(100), whole.dropLast(8), Data("x".utf8)] {
        try bad.write(to: file)
        try await expect(
          65, from: ["evaluate-controller", "c.safetensors", "--environment", "anchor", "--quiet"],
          in: folder)
      }
    }
  }

  @Test func `a controller that does nothing is said to do nothing`() async throws {
    try await withTemporaryFolder { folder in
      // Rounds cost a thousand times what they bring.
      try Data("devices: 3\nrounds: 20\nobjective: {time: 100, gap: 0.01}\n".utf8)
        .write(to: folder.appendingPathComponent("edge.yaml"))
      let train = [
        "train-controller", "--environment", "edge.yaml", "--network", "flat", "--width", "8",
        "--processes", "16", "--rounds", "20", "--minibatch", "80", "--steps", "9600",
        "--learning-rate", "0.01", "--cloning", "0", "--quiet", "--threads", "1",
      ]
      let said = try await FedpeatCommand.succeed(train + ["--out", "c.safetensors"], in: folder)
      #expect(said.output.contains("does nothing: it selected nobody"), "\(said)")
      #expect(said.output.contains("--cloning 8"), "\(said)")
      let shown = try await FedpeatCommand.succeed(
        train + ["--out", "d.safetensors", "--json"], in: folder
      ).object()
      #expect(shown["verdict"] as? String == "idle")
      #expect(shown["selectedPerRound"] as? Double == 0)
      let rivals = try #require(shown["comparison"] as? [[String: Any]])
      #expect(rivals.map { $0["planner"] as? String } == ["heuristic", "lookahead"])
    }
  }

  @Test func `a saved training of other settings is refused by their options`() async throws {
    try await withTemporaryFolder { folder in
      let train = [
        "train-controller", "--environment", "anchor", "--steps", "1000000", "--processes", "2",
        "--cloning", "200", "--out", "c.safetensors",
      ]
      let saved = folder.appendingPathComponent("c.training")
      let command = try RunningCommand(train, in: folder)
      try await command.waits(for: "a saved training") {
        FileManager.default.fileExists(atPath: saved.path)
      }
      command.send(SIGINT)
      let result = try await command.finish()
      #expect(result.status == 130, "\(result)")
      #expect(result.errors.contains("of imitating the search. 'c.training' holds"), "\(result)")
      #expect(result.errors.contains("'c.safetensors' is not written yet"), "\(result)")
      try await expect(
        64, saying: ["--processes was 2, here it is 3", "--cloning was 200, here it is 100"],
        from: train + ["--resume", "--processes", "3", "--cloning", "100", "--quiet"], in: folder)
      try await expect(
        64, saying: ["'anchor', here it is 'dense'"],
        from: train + ["--resume", "--environment", "dense", "--quiet"], in: folder)
    }
  }

  @Test func `evaluate-controller without planners plays all that need no training`() async throws {
    try await withTemporaryFolder { folder in
      let run = ["evaluate-controller", "--episodes", "2", "--threads", "1"]
      let said = try await FedpeatCommand.succeed(run + ["--quiet"], in: folder)
      for name in ["idle", "download-once", "one-round", "lookahead", "memory violations"] {
        #expect(said.output.contains(name), "\(name): \(said)")
      }
      try Data("devices: 3000\nrounds: 4\n".utf8)
        .write(to: folder.appendingPathComponent("edge.yaml"))
      let large = try await FedpeatCommand.succeed(
        run + ["--environment", "edge.yaml"], in: folder)
      #expect(large.errors.contains("left out     one-round, lookahead"), "\(large)")
      #expect(large.output.contains("heuristic") && !large.output.contains("lookahead"))
    }
  }

  @Test func `flags that can't be`() async throws {
    let workshop = try await TinyWorkshop.shared()
    try await withTemporaryFolder { folder in
      let join = ["join", "--coordinator", "127.0.0.1:1", "--data", workshop.text]
      for share in ["0", "-1", "2", "nan"] {
        try await expect(64, from: join + ["--compute-share", share], in: folder)
      }
      try await expect(64, from: join + ["--download-rate", "0"], in: folder)
      try await expect(
        64, saying: ["maxExposure"], from: ["simulate", workshop.runFile, "--max-exposure", "2"],
        in: folder)
      try await expect(
        64, saying: ["gives away least"],
        from: ["simulate", workshop.runFile, "--max-exposure", "0.01"], in: folder)
      try await expect(
        64, saying: ["needs a simulated edge"], from: ["estimate", workshop.runFile], in: folder)
      // What would change nothing is no option.
      for option in ["--out", "--strategy", "--minimum-clients", "--evaluation-data"] {
        try await expect(
          64, saying: ["Unknown option '\(option)'"],
          from: ["estimate", workshop.runFile, "--edge", "pedestrian", option, "x"], in: folder)
      }
      try await expect(
        74,
        from: ["train-controller", "--steps", "400", "--resume", "--out", "none.safetensors"],
        in: folder)
      try await expect(
        64, saying: ["c.safetensors"],
        from: ["train-controller", "--steps", "200", "--out", "c.csv"],
        in: folder)
      for (option, value, word) in [
        ("--learning-rate", "50", "learning rate is 50.0"), ("--learning-rate", "0", "above 0"),
        ("--steps", "0", "nothing to learn"), ("--steps", "-1", "rounds to learn from is -1"),
        ("--width", "0", "width is 0"), ("--width", "5000", "width is 5000"),
        ("--exchanges", "17", "17 exchanges"), ("--processes", "0", "processes is 0"),
        ("--rounds", "0", "rounds between updates is 0"), ("--minibatch", "0", "minibatch is 0"),
        ("--epochs", "0", "epochs is 0"), ("--discount", "1.5", "discount is 1.5"),
        ("--time-constant", "inf", "time constant"), ("--entropy", "-1", "entropy is -1"),
        ("--target-divergence", "nan", "divergence"), ("--cloning", "-1", "--cloning is -1"),
      ] {
        try await expect(
          64, saying: [word], from: ["train-controller", "--out", "x.safetensors", option, value],
          in: folder)
      }
      try Data("mine".utf8).write(to: folder.appendingPathComponent("mine.csv"))
      try await expect(
        74, saying: ["mine.csv", "left as it is"],
        from: ["train-controller", "--steps", "200", "--out", "mine.safetensors"], in: folder)
      // Of the same kind, but somebody else's.
      let logo = "<svg xmlns=\"http://www.w3.org/2000/svg\"><text>logo</text></svg>"
      for (name, text) in [("logo.svg", logo), ("table.csv", "iteration,price\n1,2\n")] {
        try Data(text.utf8).write(to: folder.appendingPathComponent(name))
        let out = name.prefix { $0 != "." } + ".safetensors"
        try await expect(
          74, saying: [name, "left as it is"],
          from: ["train-controller", "--steps", "200", "--out", String(out)], in: folder)
      }
      try await expect(
        64, saying: ["rounds is 9223372036854775807"],
        from: ["simulate", workshop.runFile, "--rounds", "9223372036854775807"], in: folder)
      try Data("mine".utf8).write(to: folder.appendingPathComponent("edge.yaml"))
      try await expect(
        74, saying: ["no edge file"],
        from: ["calibrate", workshop.runFile, "--out", "edge.yaml"], in: folder)
      try Data("# what I think\n".utf8).write(to: folder.appendingPathComponent("notes.yaml"))
      try await expect(
        74, saying: ["no edge file"],
        from: ["calibrate", workshop.runFile, "--out", "notes.yaml"], in: folder)
    }
  }

  @Test func `every verb says why what an edge tells should not be trusted far`() async throws {
    let workshop = try await TinyWorkshop.shared()
    try await withTemporaryFolder { folder in
      let shown = try await FedpeatCommand.succeed(
        ["inspect", workshop.model, "--json"], in: folder)
      let model = try #require(try shown.object()["digest"] as? String)
      func write(_ calibration: String) throws {
        let text = """
          calibration: {model: \(model), roundTokens: 64, stepTokens: 32, context: 16\(calibration), cautions: [measured in haste]}
          middleBlocks: 2
          levels: [{name: layer-drop=1, bytes: 123456, work: 1e9, memory: 1e8, fidelity: 0.5, blocks: [0]}]
          """
        try Data(text.utf8).write(to: folder.appendingPathComponent("edge.yaml"))
      }
      let run = [workshop.runFile, "--edge", "edge.yaml", "--rounds", "1"]
      let playing: [[String]] = [
        ["estimate"] + run + ["--runs", "2"], ["simulate", "--learning-model"] + run,
        ["simulate"] + run,
      ]
      let training: [[String]] = [
        [
          "train-controller", "--environment", "edge.yaml", "--steps", "10", "--processes", "1",
          "--rounds", "10", "--minibatch", "10", "--out", "c.safetensors",
        ],
        ["evaluate-controller", "heuristic", "--environment", "edge.yaml", "--episodes", "2"],
      ]
      try write("")
      for arguments in playing + training {
        let result = try await FedpeatCommand.succeed(arguments, in: folder)
        for words in ["measured in haste", "does not say which split", "older files"] {
          #expect(result.errors.contains("caution      "), "\(result)")
          #expect(result.errors.contains(words), "\(words): \(result)")
        }
      }
      try write(", bottom: 1, top: 1, emulators: [other], learningRate: 0.5")
      for arguments in playing {
        let result = try await FedpeatCommand.succeed(arguments, in: folder)
        for words in ["is not of this run's emulators", "emulator 0", "follows from their shapes"] {
          #expect(result.errors.contains(words), "\(words): \(result)")
        }
      }
      try write(", bottom: 1, top: 1, emulators: [null], learningRate: 0.5")
      for arguments in playing {
        let result = try await FedpeatCommand.succeed(arguments, in: folder)
        #expect(result.errors.contains("a learning rate of 0.5"), "\(result)")
      }
    }
  }

  @Test func `what the learning model plays is written like any run`() async throws {
    let workshop = try await TinyWorkshop.shared()
    try await withTemporaryFolder { folder in
      let arguments = [
        "simulate", workshop.runFile, "--edge", "vehicular", "--learning-model", "--planner",
        "lookahead", "--seeds", "2", "--rounds", "3", "--out", "o",
      ]
      for _ in 0..<2 {
        let result = try await FedpeatCommand.succeed(arguments, in: folder)
        for words in ["lookahead", "2 seeds, mean ± standard deviation", "not known", "gap left"] {
          #expect(result.output.contains(words), "\(words): \(result)")
        }
      }
      let out = folder.appendingPathComponent("o")
      let names = try FileManager.default.contentsOfDirectory(atPath: out.path)
      #expect(Set(names) == ["run.yaml", "results.json"])
      let data = try Data(contentsOf: out.appendingPathComponent("results.json"))
      let results = try #require(try JSONSerialization.jsonObject(with: data) as? [String: Any])
      #expect((results["table"] as? [Any])?.count == 3 && (results["seeds"] as? [Any])?.count == 2)
      #expect(results["planner"] as? String == "lookahead")
      // A tuned adapter is not replaced by what was only played.
      try Data().write(to: out.appendingPathComponent("adapter_model.safetensors"))
      try await expect(74, saying: ["adapter_model"], from: arguments, in: folder)
    }
  }

  @Test func `edges of any size are counted, and more than memory holds is refused`() async throws {
    let workshop = try await TinyWorkshop.shared()
    try await withTemporaryFolder { folder in
      let digest = try await FedpeatCommand.succeed(
        ["inspect", workshop.model, "--json"], in: folder)
      let model = try #require(try digest.object()["digest"] as? String)
      let edge = """
        calibration: {model: \(model), roundTokens: 64, stepTokens: 32, context: 16, method: lora of rank 8}
        middleBlocks: 2
        deadline: 1.0e9
        radio: {sharing: dedicated}
        levels: [{name: layer-drop=1, bytes: 1.0e15, work: 1, memory: 1.0e6, fidelity: 0.5, blocks: [0]}]
        """
      try Data(edge.utf8).write(to: folder.appendingPathComponent("edge.yaml"))
      let large = ["--edge", "edge.yaml", "--clients", "20000", "--quiet"]
      try await FedpeatCommand.succeed(
        ["estimate", workshop.runFile, "--runs", "1", "--rounds", "2"] + large, in: folder)
      try await FedpeatCommand.succeed(
        ["simulate", workshop.runFile, "--learning-model", "--rounds", "2"] + large, in: folder)
      try await expect(
        64, saying: ["Playing 100000 federations", "--runs"],
        from: [
          "estimate", workshop.runFile, "--edge", "pedestrian", "--runs", "100000", "--clients",
          "100000", "--quiet",
        ], in: folder)
      try Data("devices: 100000\n".utf8).write(to: folder.appendingPathComponent("many.yaml"))
      for arguments in [
        ["evaluate-controller", "lookahead", "--environment", "many.yaml", "--episodes", "1"],
        [
          "train-controller", "--environment", "many.yaml", "--cloning", "1", "--out",
          "c.safetensors",
        ],
        [
          "estimate", workshop.runFile, "--edge", "pedestrian", "--clients", "100000", "--planner",
          "one-round", "--runs", "1",
        ],
      ] {
        try await expect(
          64, saying: ["searches among 10000 devices at most", "for 100000", "heuristic"],
          from: arguments + ["--quiet"], in: folder)
      }
      try await expect(
        64, saying: ["Playing 100000", "--episodes"],
        from: [
          "evaluate-controller", "heuristic", "--environment", "many.yaml", "--episodes", "100000",
          "--quiet",
        ], in: folder)
    }
  }
}
