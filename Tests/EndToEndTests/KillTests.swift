import FedPEAT
import Foundation
import TestSupport
import Testing

/// A coordinator and its clients as processes that are killed with SIGKILL at chosen moments, and started again by the same commands.
@Suite("Killed processes", .timeLimit(.minutes(60))) struct KillTests {
  /// Starts processes, kills them, and starts them again.
  private final class Supervisor {
    let setting: FederationTests.Setting
    private var random: SeededRandom
    private var coordinator: RunningCommand
    private var clients: [String: RunningCommand] = [:]
    private var address: String
    /// Of the coordinator, and of clients.
    private(set) var kills = (coordinator: 0, clients: 0)

    init(_ setting: FederationTests.Setting, seed: UInt64) async throws {
      self.setting = setting
      random = SeededRandom(seed: seed, "kills")
      (coordinator, address) = try await setting.serve()
      for client in setting.clients { clients[client] = try setting.join(client, address) }
    }

    /// Kills so often, or until the run has ended. Each waits for a while first, which may be too short for the victim to have begun.
    func kill(_ count: Int, longest milliseconds: Int) async throws {
      for _ in 0..<count {
        try await Task.sleep(for: .milliseconds(random.integer(below: milliseconds)))
        let victim = random.integer(below: 2 + clients.count)
        guard coordinator.isRunning else { return }
        if victim < 2 {
          coordinator.send(SIGKILL)
          guard try await coordinator.finish().status == 137 else { return }
          kills.coordinator += 1
          coordinator = try setting.startAgain()
        } else {
          let name = clients.keys.sorted()[victim - 2]
          guard let client = clients[name], client.isRunning else { continue }
          client.send(SIGKILL)
          guard try await client.finish().status == 137 else { continue }
          kills.clients += 1
          clients[name] = try setting.join(name, address)
        }
      }
    }

    /// Waits for the end of all; what the coordinator wrote.
    func finish() async throws -> [String: Any] {
      let ended = try await coordinator.finish(seconds: 300)
      // It may have been killed after it had written everything.
      #expect(
        ended.status == 0 || ended.status == 64 && ended.errors.contains("is finished"), "\(ended)")
      for client in clients.values {
        // One that was not there when the run ended finds nobody.
        if client.isRunning { client.send(SIGINT) }
        _ = try await client.finish()
      }
      let data = try Data(contentsOf: setting.result.appendingPathComponent("results.json"))
      return try #require(JSONSerialization.jsonObject(with: data) as? [String: Any])
    }
  }

  /// A run that is killed so often comes to what the same run in one process comes to.
  private func survive(
    kills: Int, seed: UInt64, longest milliseconds: Int = 1200, changing changes: [String: String]
  ) async throws -> (coordinator: Int, clients: Int) {
    try await withTemporaryFolder { folder in
      var setting = try await FederationTests.Setting(
        folder, clients: 3,
        changing: ["minimumUpdates": "3", "seed": "\(seed)", "evaluateEvery": "2"].merging(changes)
        {
          $1
        })
      if changes["realignSteps"] != nil {
        try setting.change(["realignData": try await TinyWorkshop.shared().documents])
      }
      if changes["participate"] != nil {
        try setting.change(["serverData": try await TinyWorkshop.shared().documents])
      }
      let supervisor = try await Supervisor(setting, seed: seed)
      try await supervisor.kill(kills, longest: milliseconds)
      let result = try await supervisor.finish()
      let (expected, other) = try await setting.simulate("simulated")
      let what = "seed \(seed), \(supervisor.kills)"
      #expect(try FederationTests.Setting.adapter(in: setting.result) == expected, "\(what)")
      #expect(
        result["fiveNumbers"] as? NSDictionary == other["fiveNumbers"] as? NSDictionary, "\(what)")
      for key in ["rounds", "bestRound", "bestPlugIn", "exposureSent", "emulators"] {
        #expect(result[key] as? NSObject == other[key] as? NSObject, "\(key): \(what)")
      }
      // They name the folder of the results.
      let warnings = (other["warnings"] as? [String])?.map {
        $0.replacing("/simulated/", with: "/\(setting.result.lastPathComponent)/")
      }
      #expect(result["warnings"] as? [String] == warnings, "\(what)")
      #expect(try rounds(result) == rounds(other), "\(what)")
      return supervisor.kills
    }
  }

  /// What of a round's record does not depend on clocks.
  private func rounds(_ result: [String: Any]) throws -> [NSDictionary] {
    try #require(result["roundRecords"] as? [[String: Any]]).map { record in
      let outcomes = (record["outcomes"] as? [[String: Any]] ?? []).map { outcome in
        outcome.filter { ["client", "emulatorLevel", "result", "exampleCount"].contains($0.key) }
      }
      let kept = ["round", "metrics", "plan", "renewedLevels", "aggregationError", "serverWeight"]
      var own = record.filter { kept.contains($0.key) }
      own["outcomes"] = outcomes
      return own as NSDictionary
    }
  }

  static let kinds: [[String: String]] = [
    ["rounds": "6"],
    [
      "rounds": "6", "strategy": "fedadam", "serverLearningRate": "0.01",
      "emulators": "[layer-drop=2, layer-drop=1]", "planner": "random", "share": "1",
    ],
    ["rounds": "5", "strategy": "scaffold", "localOptimizer": "sgd"],
    ["rounds": "6", "strategy": "product-exact", "rank": "2"],
    ["rounds": "6", "keepMoments": "true", "participate": "true", "serverWeight": "0.3"],
    ["rounds": "6", "upload": "\"top-k=0.2,int8\"", "download": "int8"],
    [
      "rounds": "4", "emulators": "[\"layer-drop=1,int8\"]", "evaluateEvery": "1",
      "realignBelow": "1", "realignSteps": "20", "realignRate": "3e-3", "learningRate": "1e-2",
    ],
  ]

  @Test(arguments: [0, 3, 4, 6])
  func `killed on both sides, a run comes to the same`(kind: Int) async throws {
    // Long enough to be killed, and killed soon.
    var changes = Self.kinds[kind]
    changes["rounds"] = kind == 0 ? "24" : "12"
    let kills = try await survive(
      kills: 3, seed: UInt64(40 + kind), longest: 500, changing: changes)
    #expect(kills.coordinator + kills.clients > 0)
  }

  @Test(.tags(.long), .onlyWithAll)
  func `killed 200 times on both sides, runs come to the same`() async throws {
    var (seed, kills) = (UInt64(100), (coordinator: 0, clients: 0))
    while kills.coordinator + kills.clients < 200 {
      var changes = Self.kinds[Int(seed) % Self.kinds.count]
      // A run of few rounds is over before it is killed often.
      changes["rounds"] = "40"
      let more = try await survive(kills: 24, seed: seed, longest: 1000, changing: changes)
      kills = (kills.coordinator + more.coordinator, kills.clients + more.clients)
      seed += 1
      try #require(seed < 140, "runs end before they are killed")
    }
    print("killed: \(kills) in \(seed - 100) runs")
    #expect(kills.coordinator >= 50 && kills.clients >= 50)
  }

  @Test func `a client that is stopped in the middle of its training goes on with it`() async throws
  {
    try await withTemporaryFolder { folder in
      let setting = try await FederationTests.Setting(
        folder, clients: 1, changing: ["rounds": "1", "localSteps": "8000"])
      var (coordinator, address) = try await setting.serve()
      let client = setting.clients[0]
      let work = folder.appendingPathComponent("\(client)/work")
      // Twice in one round.
      for life in 1...2 {
        let joined = try setting.join(client, address)
        try await joined.waits(for: life == 1 ? "joined" : "tuning goes on behind step")
        try await Task.sleep(for: .milliseconds(700))
        joined.send(life == 1 ? SIGINT : SIGTERM)
        let ended = try await joined.finish()
        #expect(ended.status == 130, "\(ended)")
        let note = work.appendingPathComponent("unfinished/task.json")
        #expect(FileManager.default.fileExists(atPath: note.path))
        // The next one gives the same task.
        coordinator.send(SIGKILL)
        _ = try await coordinator.finish()
        coordinator = try setting.startAgain()
      }
      let last = try await setting.join(client, address).finish()
      #expect(last.status == 0 && last.errors.contains("tuning goes on behind step"), "\(last)")
      #expect(try await coordinator.finish().status == 0)
      let (expected, _) = try await setting.simulate("simulated")
      #expect(try FederationTests.Setting.adapter(in: setting.result) == expected)
      #expect(
        !FileManager.default.fileExists(atPath: work.appendingPathComponent("unfinished").path))
    }
  }

  @Test func `a coordinator that is asked to stop leaves its clients waiting for the next`()
    async throws
  {
    try await withTemporaryFolder { folder in
      let setting = try await FederationTests.Setting(
        folder, clients: 2, changing: ["minimumUpdates": "2", "rounds": "60"])
      let (first, address) = try await setting.serve()
      let joined = try setting.clients.map { try setting.join($0, address) }
      // Frozen, so that the run can't end before.
      try await joined[1].waits(for: "round 1: update taken")
      joined[1].send(SIGSTOP)
      // A service manager's and its wrapper's.
      for _ in 0..<2 { first.send(SIGTERM) }
      let stopped = try await first.finish()
      #expect(stopped.status == 130, "\(stopped)")
      #expect(stopped.errors.contains("is kept: the same command goes on with it"), "\(stopped)")
      let again = try setting.startAgain()
      joined[1].send(SIGCONT)
      let served = try await again.finish()
      #expect(served.status == 0, "\(served)")
      for client in joined {
        let ended = try await client.finish()
        #expect(ended.status == 0, "\(ended)")
        #expect(try ended.object()["updates"] as? Int == 60, "\(ended)")
      }
      let (expected, _) = try await setting.simulate("simulated")
      #expect(try FederationTests.Setting.adapter(in: setting.result) == expected)
    }
  }
}
