import FedPEAT
import Foundation
import TestSupport
import Testing

/// A coordinator and its clients as processes of their own, over gRPC on loopback.
@Suite("Federation of processes") struct FederationTests {
  /// A run file, and one folder per client with its own data.
  struct Setting {
    let folder: URL
    let run: URL
    let clients: [String]
    let result: URL
    private var keys: [String: String]

    /// - Parameter changes: keys of the run file, over those every test has.
    init(_ folder: URL, clients count: Int = 3, changing changes: [String: String] = [:])
      async throws
    {
      let workshop = try await TinyWorkshop.shared()
      self.folder = folder
      result = folder.appendingPathComponent("result")
      run = folder.appendingPathComponent("run.yaml")
      let evaluation = folder.appendingPathComponent("evaluation.txt")
      let text = TinyWorkshop.sentences(20, seed: 77).joined(separator: "\n")
      try Data(text.utf8).write(to: evaluation)
      keys = [
        "model": workshop.model, "emulators": "[layer-drop=1]", "rounds": "3", "localSteps": "3",
        "batch": "2", "context": "16", "minimumClients": "\(count)",
        "evaluationData": evaluation.path, "fullFineTuning": "false", "seed": "11", "threads": "1",
      ]
      // The same division as in one process.
      var configuration = RunConfiguration()
      configuration.data = workshop.documents
      configuration.clientsBy = "user"
      configuration.clients = count
      configuration.evaluationData = evaluation.path
      let groups = try ClientData(configuration).groups
      clients = groups.map(\.name)
      for group in groups {
        let own = folder.appendingPathComponent(group.name)
        try FileManager.default.createDirectory(at: own, withIntermediateDirectories: false)
        try TinyWorkshop.jsonLines(group.documents.map { ["text": $0.text] })
          .write(to: own.appendingPathComponent("data.jsonl"))
      }
      try change(changes)
    }

    /// Writes the run file with some keys changed.
    mutating func change(_ changes: [String: String]) throws {
      keys.merge(changes) { $1 }
      let lines = keys.sorted { $0.key < $1.key }.map { "\($0.key): \($0.value)\n" }
      try Data(lines.joined().utf8).write(to: run)
    }

    func serve(
      _ more: String..., through wrapper: [String] = []
    ) async throws -> (coordinator: RunningCommand, address: String) {
      let coordinator = try RunningCommand(
        ["serve", run.path, "--json", "--address-file", "address", "--out", result.path] + more,
        in: folder, through: wrapper)
      let file = folder.appendingPathComponent("address")
      try await coordinator.waits(for: "the address") {
        (try? String(contentsOf: file, encoding: .utf8))?.hasSuffix("\n") ?? false
      }
      let address = try String(contentsOf: file, encoding: .utf8)
      return (coordinator, address.trimmingCharacters(in: .whitespacesAndNewlines))
    }

    /// The same command, after the coordinator was killed.
    func startAgain() throws -> RunningCommand {
      try RunningCommand(
        ["serve", run.path, "--json", "--address-file", "address", "--out", result.path], in: folder
      )
    }

    func join(
      _ client: String, _ address: String, _ more: String..., through wrapper: [String] = []
    ) throws -> RunningCommand {
      try RunningCommand(
        [
          "join", "--coordinator", address, "--data", "data.jsonl", "--name", client, "--folder",
          "work", "--threads", "1", "--seed", "11", "--json",
        ] + more, in: folder.appendingPathComponent(client), through: wrapper)
    }

    /// The same run in one process; its adapter's bytes and its result.
    func simulate(_ name: String, _ more: String...) async throws -> (Data, [String: Any]) {
      let workshop = try await TinyWorkshop.shared()
      let out = folder.appendingPathComponent(name)
      let outcome = try await FedpeatCommand.succeed(
        [
          "simulate", run.path, "--data", workshop.documents, "--clients-by", "user", "--clients",
          "\(clients.count)", "--json", "--quiet", "--out", out.path,
        ] + more, in: folder)
      return (try Setting.adapter(in: out), try outcome.object())
    }

    static func adapter(in folder: URL) throws -> Data {
      try Data(contentsOf: folder.appendingPathComponent("adapter_model.safetensors"))
    }
  }

  private func records(_ result: [String: Any]) throws -> [[String: Any]] {
    try #require(result["roundRecords"] as? [[String: Any]])
  }

  /// Each outcome's client, level and kind of result, round by round.
  private func outcomes(_ result: [String: Any]) throws -> [[(
    client: String, level: Int, result: String
  )]] {
    try records(result).map { record in
      try #require(record["outcomes"] as? [[String: Any]]).map { outcome in
        let kind = try #require(outcome["result"] as? [String: Any])["kind"] as? String
        return (
          try #require(outcome["client"] as? String),
          try #require(outcome["emulatorLevel"] as? Int),
          try #require(kind)
        )
      }
    }
  }

  @Test func `a run that fails keeps the rounds that counted`() async throws {
    try await withTemporaryFolder { folder in
      let setting = try await Setting(
        folder, clients: 2,
        // Beside all other tests it takes a while until clients come.
        changing: ["rounds": "100000", "roundDeadline": "20", "gatheringDeadline": "40"])
      let (coordinator, address) = try await setting.serve()
      let joined = try setting.clients.map { try setting.join($0, address) }
      try await coordinator.waits(for: "round 3 of")
      for client in joined { client.send(SIGINT) }
      for client in joined { #expect(try await client.finish().status == 130) }
      let ended = try await coordinator.finish()
      #expect(ended.status == 69 && ended.output.isEmpty, "\(ended)")
      #expect(
        ended.errors.contains("rounds that counted is in '\(setting.result.path)'"), "\(ended)")
      let data = try Data(contentsOf: setting.result.appendingPathComponent("results.json"))
      let result = try #require(JSONSerialization.jsonObject(with: data) as? [String: Any])
      #expect(result["rounds"] as? Int ?? 0 >= 2)
      let ending = try #require(result["ending"] as? [String: Any])
      #expect(ending["kind"] as? String == "failed", "\(ending)")
      // A round needs one at least: there is no less to ask for.
      let reason = try #require(ending["reason"] as? String)
      #expect(
        reason.contains("needs 1 client, but only 0 were there")
          && reason.hasSuffix("Start more clients."), "\(ending)")
      let numbers = try #require(result["fiveNumbers"] as? [String: Any])
      // It was measured after no round.
      let reasons = try #require(numbers["notMeasured"] as? [String: String])
      #expect(Set(reasons.keys) == ["emulatorTuned", "plugIn", "fullFineTuning"])
      #expect(try !Setting.adapter(in: setting.result).isEmpty)
    }
  }

  @Test(
    arguments: [
      [:], ["method": "end-blocks", "learningRate": "1e-3"],
      [
        "emulators": "[layer-drop=2, layer-drop=1]", "planner": "random", "share": "0.6",
        "rounds": "4",
      ],
      // Any loss of fidelity has the emulator made anew.
      [
        "emulators": "[\"layer-drop=1,int8\"]", "evaluateEvery": "1", "realignBelow": "1",
        "realignSteps": "20", "realignRate": "3e-3", "learningRate": "1e-2",
      ],
    ] as [[String: String]])
  func `over gRPC and in one process the adapter is the same, bit for bit`(
    changes: [String: String]
  ) async throws {
    try await withTemporaryFolder { folder in
      var setting = try await Setting(folder, changing: changes)
      if changes["realignSteps"] != nil {
        try setting.change(["realignData": try await TinyWorkshop.shared().documents])
      }
      let (coordinator, address) = try await setting.serve()
      let joined = try setting.clients.map { try setting.join($0, address) }
      let served = try await coordinator.finish()
      #expect(served.status == 0, "\(served)")
      let result = try served.object()
      var down = 0
      for client in joined {
        let ended = try await client.finish()
        #expect(ended.status == 0, "\(ended)")
        let report = try ended.object()
        for key in ["updates", "bytesUp", "bytesDown"] {
          #expect(report[key] is NSNumber, "\(key)")
        }
        down += report["bytesDown"] as? Int ?? 0
      }
      #expect(down == result["bytesDown"] as? Int)
      for key in ["run", "rounds", "fiveNumbers", "bytesUp", "bytesDown"] {
        #expect(result[key] != nil, "\(key)")
      }

      let (simulated, other) = try await setting.simulate("simulated")
      #expect(try Setting.adapter(in: setting.result) == simulated)
      #expect(result["rounds"] as? Int == other["rounds"] as? Int)
      let numbers = result["fiveNumbers"] as? NSDictionary
      #expect(numbers != nil && numbers == other["fiveNumbers"] as? NSDictionary)
      let (mine, theirs) = (try outcomes(result), try outcomes(other))
      #expect(mine.map { $0.map(\.client) } == theirs.map { $0.map(\.client) })
      #expect(mine.map { $0.map(\.level) } == theirs.map { $0.map(\.level) })
      #expect(mine.joined().allSatisfy { $0.result == "delivered" })
      let renewed = try records(result).map { $0["renewedLevels"] as? [Int] ?? [] }
      #expect(try records(other).map { $0["renewedLevels"] as? [Int] ?? [] } == renewed)
      #expect(renewed.joined().contains(0) == (changes["realignSteps"] != nil), "\(renewed)")
      #expect(renewed.last == [])
      if changes["realignSteps"] != nil {
        // As many bits as before: each client fetched no more again than it had at first.
        let down = try records(result).map { record in
          (record["outcomes"] as? [[String: Any]])?.first?["bytesDown"] as? Int ?? 0
        }
        #expect(down.dropFirst().allSatisfy { $0 <= down[0] + 200 }, "\(down)")
        #expect(down.dropFirst().contains { $0 > down[0] / 2 }, "\(down)")
        // Nobody attacked the new copy.
        let warnings = result["warnings"] as? [String] ?? []
        #expect(warnings.count { $0.contains("was distilled again") } == 1, "\(warnings)")
      }
      if changes["planner"] == "random" {
        // ⌈0.6 · 3⌉ of three take part in a round, and both levels are in the run.
        #expect(mine.map(\.count) == [2, 2, 2, 2])
        #expect(Set(mine.joined().map(\.level)) == [0, 1])
      } else {
        #expect(mine.map(\.count) == [3, 3, 3])
      }
    }
  }

  /// Waits until a program said something, on a thread that shares nothing with what else is tested.
  private static func wait(for text: String, from command: RunningCommand) throws {
    let end = ContinuousClock.now + .seconds(60)
    while !command.errors.contains(text) {
      guard command.isRunning, ContinuousClock.now < end else {
        throw PeatError.badData("'\(text)' did not come: \(command.errors)")
      }
      Thread.sleep(forTimeInterval: 0.002)
    }
  }

  @Test func `a client killed in a round is an outcome, and all rounds are made`() async throws {
    try await withTemporaryFolder { folder in
      let setting = try await Setting(folder, clients: 4, changing: ["rounds": "4"])
      let (coordinator, address) = try await setting.serve()
      let joined = try await runOnThread {
        var joined = try setting.clients.prefix(3).map { try setting.join($0, address) }
        let (steady, victim, holder) = (joined[0], joined[1], joined[2])
        for client in joined { try Self.wait(for: "joined", from: client) }
        // One is frozen before the fourth lets round 1 begin, so that it lasts until the victim's update was taken.
        holder.send(SIGSTOP)
        joined.append(try setting.join(setting.clients[3], address))
        try Self.wait(for: "round 1: update taken", from: victim)
        // The victim begins round 2, but does nothing any more; there it is killed.
        victim.send(SIGSTOP)
        holder.send(SIGCONT)
        try Self.wait(for: "round 2: update taken", from: steady)
        victim.send(SIGKILL)
        return joined
      }
      #expect(try await joined[1].finish().status == 137)
      let served = try await coordinator.finish()
      #expect(served.status == 0, "\(served)")
      let result = try served.object()
      #expect(result["rounds"] as? Int == 4)
      let all = setting.clients
      let others = [all[0], all[2], all[3]]
      let rounds = try outcomes(result)
      #expect(rounds.map { $0.map(\.client) } == [all, all, others, others])
      for (index, round) in rounds.enumerated() {
        for outcome in round {
          let expected = index == 1 && outcome.client == all[1] ? "lost" : "delivered"
          #expect(outcome.result == expected, "round \(index + 1): \(outcome)")
        }
      }
      for client in [joined[0], joined[2], joined[3]] {
        let ended = try await client.finish()
        #expect(ended.status == 0, "\(ended)")
        #expect(try ended.object()["updates"] as? Int == 4)
      }
      #expect((result["fiveNumbers"] as? [String: Any])?["plugIn"] is NSNumber)
    }
  }

  // MARK: Hostile clients

  /// Spoils what it was sent instead of training.
  struct Spoiler: LocalTrainer {
    enum Way: String, Sendable, CaseIterable {
      case notFinite, unknownTensors, wrongShape, tooLarge, missingTensors
    }
    let way: Way

    func train(_ task: TrainingTask, adapter: NamedTensors) async throws -> LocalResult {
      var tensors = adapter
      let name = try #require(adapter.keys.min())
      let tensor = try #require(adapter[name])
      switch way {
      case .notFinite: tensors[name] = Tensor(repeating: .nan, shape: tensor.shape)
      case .unknownTensors: tensors["model.layers.99.weight"] = tensor
      case .wrongShape: tensors[name] = Tensor(zeros: [1] + tensor.shape)
      case .tooLarge: tensors[name] = Tensor(zeros: [600_000])
      case .missingTensors: tensors[name] = nil
      }
      return LocalResult(tensors: tensors, exampleCount: 5)
    }
  }

  @Test func `clients that send nonsense are refused with the reason, and the rounds live`()
    async throws
  {
    try await withTemporaryFolder { folder in
      let ways = Spoiler.Way.allCases
      var setting = try await Setting(
        folder, clients: 2,
        changing: ["updateSizeLimit": "2000000", "minimumClients": "\(2 + ways.count)"])
      let (coordinator, address) = try await setting.serve()
      let joined = try setting.clients.map { try setting.join($0, address) }
      let reports = try await withThrowingTaskGroup(of: (String, ClientReport).self) { group in
        for way in ways {
          group.addTask {
            let name = "evil-\(way.rawValue)"
            let authority = try CertificateAuthority.openOrCreate(
              at: FedpeatCommand.home.appendingPathComponent("ca"))
            let connection = try GRPCConnection(
              to: NetworkAddress(address),
              security: .mutualTLS(authority.issueForThisProcess(.client, name: name)))
            let client = try Client(
              ClientConfiguration(client: ClientID(name)), connection: connection,
              trainer: Spoiler(way: way), workFolder: folder.appendingPathComponent(name))
            let report = try await client.run()
            await connection.close()
            return (name, report)
          }
        }
        return try await group.reduce(into: [String: ClientReport]()) { $0[$1.0] = $1.1 }
      }
      let served = try await coordinator.finish()
      #expect(served.status == 0, "\(served)")
      let result = try served.object()
      #expect(result["rounds"] as? Int == 3)
      for round in try records(result) {
        for outcome in try #require(round["outcomes"] as? [[String: Any]]) {
          let name = try #require(outcome["client"] as? String)
          let ending = try #require(outcome["result"] as? [String: Any])
          guard name.hasPrefix("evil-") else {
            #expect(ending as? [String: String] == ["kind": "delivered"])
            continue
          }
          #expect(ending["kind"] as? String == "refused")
          #expect(ending["code"] as? String == String(name.dropFirst(5)), "\(name): \(ending)")
          #expect((ending["reason"] as? String)?.isEmpty == false)
        }
      }
      for way in ways {
        let report = try #require(reports["evil-\(way.rawValue)"])
        #expect(report.updates == 0 && report.refusals == 3, "\(way): \(report)")
        #expect(served.errors.contains("refused      evil-\(way.rawValue)"))
      }
      for client in joined { #expect(try await client.finish().status == 0) }

      // What the honest two tuned is what they tune without the others.
      try setting.change(["minimumClients": "2"])
      let (simulated, _) = try await setting.simulate("simulated")
      #expect(try Setting.adapter(in: setting.result) == simulated)
    }
  }

  @Test func `who is left out hears of it, and the run file's data is not taken for the clients'`()
    async throws
  {
    try await withTemporaryFolder { folder in
      let workshop = try await TinyWorkshop.shared()
      let setting = try await Setting(
        folder, clients: 2,
        changing: [
          "data": workshop.documents, "fullFineTuning": "true", "planner": "random",
          "share": "0.5", "minimumClients": "2", "localSteps": "40",
        ])
      let (coordinator, address) = try await setting.serve()
      let joined = try setting.clients.map { try setting.join($0, address) }
      let result = try await coordinator.finish().object()
      let numbers = try #require(result["fiveNumbers"] as? [String: Any])
      #expect(numbers["fullFineTuning"] is NSNull)
      let reasons = try #require(numbers["notMeasured"] as? [String: String])
      #expect(reasons["fullFineTuning"]?.contains("--reference-data") == true)
      // One of the two in each round; a round may be over before the other asks again.
      var leftOut = 0
      for client in joined {
        let ended = try await client.finish()
        let times = try #require(try ended.object()["leftOut"] as? Int)
        leftOut += times
        #expect(
          ended.errors.contains("goes on without this device: random: not drawn") == (times > 0))
      }
      #expect((1...3).contains(leftOut))
      // Both were sent the one emulator there is, which shows half of the middle.
      let sent = try #require(result["exposureSent"] as? [String: Any])
      let exposure = try #require(result["exposure"] as? Double)
      #expect(sent["largest"] as? Double == exposure && sent["together"] as? Double == exposure)
      #expect(sent["colluding"] as? [Double] == [exposure])
    }
  }

  // MARK: The server's own part

  @Test func `with weight 0 the server's part changes nothing, with 0,25 it does`() async throws {
    try await withTemporaryFolder { folder in
      let setting = try await Setting(folder)
      let own = folder.appendingPathComponent("server.txt")
      let text = TinyWorkshop.sentences(30, seed: 5).joined(separator: "\n")
      try Data(text.utf8).write(to: own)
      let (plain, first) = try await setting.simulate("plain")
      let server = ["--participate", "--server-data", own.path, "--server-weight"]
      let (none, second) = try await setting.simulate(
        "none", server[0], server[1], server[2], server[3], "0")
      #expect(none == plain)
      let numbers = first["fiveNumbers"] as? NSDictionary
      #expect(numbers != nil && numbers == second["fiveNumbers"] as? NSDictionary)
      let (some, third) = try await setting.simulate(
        "some", server[0], server[1], server[2], server[3], "0.25")
      #expect(some != plain)
      let weights = try records(third).map { $0["serverWeight"] as? Double }
      #expect(weights == [0.25, 0.25, 0.25])
    }
  }

  @Test func `what a run writes can be plugged in and evaluates to its own number`() async throws {
    try await withTemporaryFolder { folder in
      let workshop = try await TinyWorkshop.shared()
      let setting = try await Setting(folder)
      let (_, result) = try await setting.simulate("out")
      let names = Set(
        try FileManager.default.contentsOfDirectory(
          atPath: folder.appendingPathComponent("out").path))
      #expect(
        names.isSuperset(of: [
          "adapter_config.json", "adapter_model.safetensors", "fedpeat.json", "run.yaml",
          "results.json",
        ]))
      let plugIn = try #require((result["fiveNumbers"] as? [String: Any])?["plugIn"] as? Double)
      try await FedpeatCommand.succeed(
        ["plug-in", workshop.model, "out", "--merge", "--out", "merged"], in: folder)
      try await FedpeatCommand.succeed(
        ["plug-in", workshop.model, "out", "--out", "referred"], in: folder)
      for arguments in [["merged"], ["referred"], ["out"], [workshop.model, "--adapter", "out"]] {
        let evaluated = try await FedpeatCommand.succeed(
          ["evaluate"] + arguments + ["--text", "evaluation.txt", "--context", "16", "--json"],
          in: folder)
        let perplexity = try #require(evaluated.object()["perplexity"] as? Double)
        #expect(abs(perplexity / plugIn - 1) < 1e-4, "\(arguments): \(perplexity), \(plugIn)")
      }
    }
  }
}
