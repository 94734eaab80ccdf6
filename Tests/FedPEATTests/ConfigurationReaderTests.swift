import FedPEAT
import Foundation
import TestSupport
import Testing

@Suite("Run file") struct ConfigurationReaderTests {
  private func read(
    _ text: String, overrides: [String: JSONValue] = [:]
  ) throws -> RunConfiguration {
    try withTemporaryFolder { folder in
      let file = folder.appendingPathComponent("run.yaml")
      try Data(text.utf8).write(to: file)
      return try ConfigurationReader.read(RunConfiguration(), from: file, overrides: overrides)
    }
  }

  private func refusal(_ text: String, overrides: [String: JSONValue] = [:]) -> PeatError? {
    do {
      _ = try read(text, overrides: overrides)
      return nil
    } catch { return error as? PeatError }
  }

  @Test func `keys that are not named keep their defaults`() throws {
    #expect(try read("") == RunConfiguration())
    #expect(try read("# nothing\n") == RunConfiguration())
    #expect(try ConfigurationReader.read(RunConfiguration(), from: nil) == RunConfiguration())
    var expected = RunConfiguration()
    expected.rounds = 3
    expected.emulators = ["layer-drop=4", "layer-drop=2"]
    expected.model = "models/x"
    #expect(
      try read("model: models/x\nrounds: 3\nemulators: [layer-drop=4, layer-drop=2]\n") == expected)
  }

  @Test func `what flags say wins`() throws {
    let configuration = try read(
      "rounds: 3\nrank: 4", overrides: ["rounds": .integer(7), "data": .string("x.txt")])
    #expect(configuration.rounds == 7)
    #expect(configuration.rank == 4)
    #expect(configuration.data == "x.txt")
    let error = try #require(refusal("", overrides: ["alpha": .number(.infinity)]))
    #expect(error.code == .usage && error.message.contains("alpha"))
  }

  @Test func `the learning rate is the method's where none is named`() throws {
    func rate(_ text: String, _ flags: [String: JSONValue] = [:]) throws -> Float {
      try withTemporaryFolder { folder in
        let file = folder.appendingPathComponent("run.yaml")
        try Data(("model: m\ndata: t.txt\n" + text).utf8).write(to: file)
        return try RunConfiguration.read(from: file, flags: flags).learningRate
      }
    }
    #expect(try rate("") == 3e-3)
    #expect(try rate("method: ia3") == 3e-2)
    #expect(try rate("", ["method": .string("prompt-tuning")]) == 3e-2)
    #expect(try rate("method: ia3\nlearningRate: 3e-3") == 3e-3)
    #expect(try rate("method: ia3", ["learningRate": .number(0.5)]) == 0.5)
  }

  @Test func `what file and flags only say together is told as that`() throws {
    func message(_ text: String, _ flags: [String: JSONValue]) throws -> String {
      try withTemporaryFolder { folder in
        let file = folder.appendingPathComponent("run.yaml")
        try Data(("model: m\ndata: t.txt\n" + text).utf8).write(to: file)
        do {
          _ = try RunConfiguration.read(from: file, flags: flags)
          return ""
        } catch let error as PeatError { return error.message }
      }
    }
    let clash = try message("rank: 4", ["method": .string("ia3")])
    #expect(clash.contains("together with the flags: 'rank' is no option of the method 'ia3'"))
    let own = try message("rank: 4\nmethod: ia3", ["rounds": .integer(2)])
    #expect(own.contains("run.yaml': 'rank' is no option"))
  }

  @Test func `what is written reads back to the same, with no more digits than that needs`() throws
  {
    var configuration = RunConfiguration()
    configuration.model = "12"
    configuration.data = "null"
    configuration.clientsBy = ""
    configuration.out = "with: 'signs' #\n"
    configuration.targetModules = ["true", "q_proj"]
    configuration.alpha = 0.1
    configuration.weightDecay = 1e-10
    configuration.clipNorm = 1.0 / 3
    configuration.serverWeight = 1.0 / 3
    configuration.roundDeadline = 1e300
    configuration.seed = 9_223_372_036_854_775_807
    let text = String(decoding: try ConfigurationReader.yaml(configuration), as: UTF8.self)
    #expect(try read(text) == configuration)
    for line in [
      "learningRate: 0.003", "fullFineTuningRate: 0.001", "weightDecay: 1.0e-10", "alpha: 0.1",
      "clipNorm: 0.33333334", "serverWeight: 0.3333333333333333", "gatheringDeadline: 300",
      "evaluationData: null", "bos: null",
    ] {
      #expect(text.split(separator: "\n").contains { $0 == line }, "\(line) is not in\n\(text)")
    }
  }

  @Test func `YAML values become what they look like`() throws {
    let configuration = try read(
      """
      model: "12"
      learningRate: 1e-3
      alpha: 32
      weightDecay: .5
      clipNorm: null
      clientsBy: ~
      bos: true
      participate: False
      targetModules:
        - q_proj
        - 'v_proj'
      seed: 9223372036854775807
      share: 1.0
      updateSizeLimit: 1000000
      layout: packed
      """)
    #expect(configuration.model == "12")
    #expect(configuration.learningRate == 1e-3)
    #expect(configuration.alpha == 32)
    #expect(configuration.weightDecay == 0.5)
    #expect(configuration.clipNorm == nil)
    #expect(configuration.clientsBy == nil)
    #expect(configuration.bos == true)
    #expect(!configuration.participate)
    #expect(configuration.targetModules == ["q_proj", "v_proj"])
    #expect(configuration.seed == UInt64(Int.max))
    #expect(configuration.layout == .packed)
    #expect(try read("targetModules: all-linear").targetModules == ["all-linear"])
    #expect(try read("feedForwardModules: down_proj").feedForwardModules == ["down_proj"])
    #expect(try read("{\"rounds\": 4, \"bos\": false, \"learningRate\": 2.5E-4}").rounds == 4)
  }

  @Test(arguments: [
    ("rouns: 1", ["'rouns'", "Did you mean 'rounds'?"]), ("Rounds: 1", ["Did you mean 'rounds'?"]),
    ("zzzzzzzz: 1", ["Known: "]), ("rounds: 1\nrounds: 2", ["rounds"]),
    ("rounds: many", ["rounds"]), ("rounds: \"3\"", ["rounds"]), ("rounds: 2.5", ["rounds"]),
    ("rounds: [1]", ["rounds"]), ("rounds: 99999999999999999999", ["rounds"]),
    ("bos: 1", ["bos"]), ("bos: yes please", ["bos"]), ("emulators: layer-drop=2", ["emulators"]),
    ("emulators: [1]", ["emulators"]), ("targetModules: 3", ["targetModules"]),
    ("seed: -1", ["seed"]), ("layout: pages", ["layout"]),
    ("model: &a x\ndata: *a", ["&a"]), ("model: *a", ["YAML"]), ("rounds: null", ["rounds"]),
    ("learningRate: .inf", ["finite"]), ("alpha: .nan", ["finite"]), ("- 1", ["keys"]),
    ("just text", ["keys"]), ("3", ["keys"]), ("rounds: [1", ["YAML"]), ("\t: 1", ["YAML"]),
    ("? [a]\n: 1", ["key"]),
  ]) func `what is wrong is named`(text: String, says: [String]) throws {
    let error = try #require(refusal(text), "was taken: \(text)")
    #expect(error.code == .badData)
    for word in says { #expect(error.message.contains(word), "\(error.message)") }
    #expect(error.message.contains("run.yaml"))
  }

  @Test func `deep nesting ends in an error`() throws {
    let deep = String(repeating: "[", count: 900) + String(repeating: "]", count: 900)
    for text in ["data: \(deep)", "data: \(String(repeating: "[", count: 100_000))"] {
      #expect(refusal(text)?.code == .badData)
    }
  }

  @Test func `bytes that are no text, a missing file and a folder`() throws {
    try withTemporaryFolder { folder in
      let file = folder.appendingPathComponent("run.yaml")
      func code() -> PeatError.Code? {
        do {
          _ = try ConfigurationReader.read(RunConfiguration(), from: file)
          return nil
        } catch { return (error as? PeatError)?.code }
      }
      #expect(code() == .inputOutput)
      try Data([0xFF, 0xFE, 0x00]).write(to: file)
      #expect(code() == .badData)
      try FileManager.default.removeItem(at: file)
      try FileManager.default.createDirectory(at: file, withIntermediateDirectories: false)
      #expect(code() == .inputOutput)
    }
  }

  @Test func `the effective configuration names every key and reads back the same`() throws {
    var configuration = RunConfiguration()
    configuration.model = "models/x: y # z"
    configuration.learningRate = 3e-3
    configuration.seed = 1 << 40
    configuration.targetModules = ["q_proj"]
    configuration.bos = false
    let yaml = String(decoding: try ConfigurationReader.yaml(configuration), as: UTF8.self)
    for key in RunConfiguration.CodingKeys.allCases {
      #expect(yaml.contains("\(key.rawValue):"), "\(key.rawValue)")
    }
    #expect(try read(yaml) == configuration)
  }
}

@Suite("Run configuration") struct RunConfigurationTests {
  private var valid: RunConfiguration {
    var configuration = RunConfiguration()
    configuration.model = "model"
    return configuration
  }

  private func refusal(_ change: (inout RunConfiguration) -> Void) -> PeatError? {
    var configuration = valid
    change(&configuration)
    do {
      try configuration.validate()
      return nil
    } catch { return error as? PeatError }
  }

  @Test func `ways to run rounds that go together are taken`() throws {
    for change in [
      { ($0.planner, $0.clientsPerRound, $0.overSelection) = ("utility", 10, 1.3) },
      { ($0.planner, $0.share) = ("availability", 0.25) }, { $0.planner = "by-memory" },
      { $0.mode = .asynchronous }, { ($0.mode, $0.strategy) = (.asynchronous, "fedadam") },
      { ($0.mode, $0.planner) = (.asynchronous, "everyone:0") },
      { ($0.maximumStaleness, $0.stalenessExponent) = (3, 1) },
      { ($0.stallTimeout, $0.longestRound) = (30, 700) }, { $0.stallTimeout = nil },
      { ($0.plateauRounds, $0.plateauGain) = (3, 0.01) },
      { ($0.timeBudget, $0.byteBudget) = (60, 1 << 30) }, { $0.releaseGate = .zeroShot },
    ] as [(inout RunConfiguration) -> Void] {
      var configuration = valid
      change(&configuration)
      try configuration.validate()
    }
  }

  @Test func `the defaults need only a model`() throws {
    try valid.validate()
    #expect(refusal { $0.model = "" }?.message.contains("--model") == true)
  }

  @Test func `values that make no sense are refused by name`() throws {
    let changes: [(String, (inout RunConfiguration) -> Void)] = [
      ("emulators", { $0.emulators = [] }), ("layer-drop", { $0.emulators = ["layerdrop=2"] }),
      ("lora", { $0.method = "lorra" }), ("rank", { $0.rank = 0 }), ("alpha", { $0.alpha = -1 }),
      ("clients", { $0.clients = 0 }), ("clients", { $0.clients = .max }),
      ("validationShare", { $0.validationShare = 1 }),
      ("validationShare", { $0.validationShare = .nan }),
      ("localSteps", { $0.localSteps = 0 }), ("localSteps", { $0.localSteps = .max }),
      ("rounds", { $0.rounds = 0 }), ("evaluateEvery", { $0.evaluateEvery = -1 }),
      ("comparisonSteps", { $0.comparisonSteps = 0 }),
      ("updateSizeLimit", { $0.updateSizeLimit = 0 }),
      ("int8", { $0.upload = "int9" }), ("top-k", { $0.download = "top-k=0.1,int8" }),
      ("Give one of both", { ($0.upload, $0.uploadBits) = ("int8", 8) }),
      ("roundDeadline", { $0.roundDeadline = 0 }), ("roundDeadline", { $0.roundDeadline = .nan }),
      ("gatheringDeadline", { $0.gatheringDeadline = 1e12 }), ("threads", { $0.threads = 0 }),
      ("--server-data", { $0.participate = true }),
      ("serverWeight", { $0.serverWeight = 1 }), ("serverWeight", { $0.serverWeight = -0.1 }),
      ("serverWeight", { $0.serverWeight = .nan }), ("fedavg", { $0.strategy = "fedav" }),
      ("random", { $0.planner = "randm" }),
      (
        "share",
        {
          $0.planner = "random"
          $0.share = 0
        }
      ),
      ("clientsPerRound", { $0.clientsPerRound = 3 }),
      ("overSelection", { $0.overSelection = 1.3 }),
      ("clientsPerRound", { ($0.planner, $0.clientsPerRound) = ("utility", 0) }),
      ("overSelection", { ($0.planner, $0.overSelection) = ("availability", 0.5) }),
      ("simulated cell", { ($0.planner, $0.edge) = ("availability", "pedestrian") }),
      (
        "simulated cell",
        { ($0.planner, $0.edge, $0.overSelection) = ("random", "pedestrian", 1.5) }
      ),
      ("stallTimeout", { $0.stallTimeout = 0 }), ("stallTimeout", { $0.stallTimeout = .nan }),
      ("longestRound", { $0.longestRound = 10 }),
      ("longestRound", { ($0.stallTimeout, $0.longestRound) = (nil, 1000) }),
      ("bufferSize", { $0.bufferSize = 3 }), ("concurrency", { $0.concurrency = 3 }),
      ("bufferShare", { $0.bufferShare = 0.5 }),
      ("bufferShare", { ($0.mode, $0.bufferShare) = (.asynchronous, 0) }),
      ("bufferSize", { ($0.mode, $0.bufferSize) = (.asynchronous, 0) }),
      ("minimumUpdates", { ($0.mode, $0.bufferSize, $0.minimumUpdates) = (.asynchronous, 2, 3) }),
      ("concurrency", { ($0.mode, $0.concurrency) = (.asynchronous, 0) }),
      ("maximumStaleness", { $0.maximumStaleness = 0 }),
      ("maximumStaleness", { ($0.maximumStaleness, $0.strategy) = (2, "product") }),
      ("stalenessExponent", { $0.stalenessExponent = 1 }),
      ("stalenessExponent", { ($0.maximumStaleness, $0.stalenessExponent) = (2, -1) }),
      ("as they come free", { ($0.mode, $0.planner) = (.asynchronous, "random") }),
      ("as they come free", { ($0.mode, $0.planner) = (.asynchronous, "heuristic") }),
      ("simulated cell", { ($0.mode, $0.edge) = (.asynchronous, "pedestrian") }),
      (
        "participate",
        { ($0.mode, $0.participate, $0.serverData) = (.asynchronous, true, "text.txt") }
      ),
      ("compares the updates", { ($0.mode, $0.strategy) = (.asynchronous, "krum") }),
      ("control variates", { ($0.mode, $0.strategy) = (.asynchronous, "scaffold") }),
      ("A and B anew", { ($0.mode, $0.strategy) = (.asynchronous, "product") }),
      ("plateauRounds", { $0.plateauRounds = 0 }), ("plateauRounds", { $0.plateauGain = 0.1 }),
      ("plateauGain", { ($0.plateauRounds, $0.plateauGain) = (2, 1) }),
      ("timeBudget", { $0.timeBudget = -1 }), ("byteBudget", { $0.byteBudget = 0 }),
      ("lastReleased", { $0.releaseGate = .lastReleased }),
      ("lastReleased", { $0.lastReleased = "result" }),
    ]
    for (name, change) in changes {
      let error = try #require(refusal(change), "\(name) was taken")
      #expect(error.code == .usage, "\(name)")
      #expect(error.message.contains(name), "\(error.message)")
    }
  }
}
