import FedPEAT
import Foundation

/// Starts a coordinator and the clients as processes, waits for them, and puts the result together.
struct DemoRun {
  private let stage: DemoStage
  private let folder: URL
  private let common: CommonOptions

  init(_ stage: DemoStage, folder: URL, common: CommonOptions) {
    self.stage = stage
    self.folder = folder
    self.common = common
  }

  func run() async throws -> DemoResult {
    var configuration = stage.configuration
    let evaluation = folder.appendingPathComponent("evaluation.jsonl")
    try stage.evaluation.writeJSONLines(to: evaluation)
    configuration.evaluationData = evaluation.path
    configuration.evaluateEvery = max(1, configuration.rounds / 5)
    configuration.out = folder.appendingPathComponent("result").path
    // The coordinator does not get the clients' texts: what needs them is measured here afterwards.
    var served = configuration
    served.data = nil
    served.clientsBy = nil
    served.fullFineTuning = false
    served.fullModelAdapter = false
    served.endBlocksThroughFullMiddle = false
    let runFile = folder.appendingPathComponent("run.yaml")
    try AtomicOutput.write(try ConfigurationReader.yaml(served), to: runFile)

    let children = Children()
    do {
      let (summary, reports) = try await federate(runFile, children)
      await children.endAll()
      let numbers = try await compare(configuration, summary.fiveNumbers)
      return DemoResult(summary, numbers, reports, stage)
    } catch {
      await children.endAll()
      throw error
    }
  }

  private func federate(
    _ runFile: URL, _ children: Children
  ) async throws -> (RunResult.Summary, [DemoResult.Client]) {
    let addressFile = folder.appendingPathComponent("address")
    // As in earnest: an authority of the owner's, and a token for each client.
    let authority = try CertificateAuthority.create(at: folder.appendingPathComponent("ca"))
    let coordinator = try ChildProcess(
      "coordinator",
      [
        "serve", runFile.path, "--json", "--address-file", addressFile.path, "--ca", "ca",
        "--anew",
      ]
        + (common.quiet ? ["--quiet"] : []),
      folder: folder, showsProgress: true)
    await children.add(coordinator)
    let address = try await waitForAddress(addressFile, coordinator)
    var clients: [ChildProcess] = []
    for group in stage.groups {
      // An empty folder with nothing in it but the client's own data.
      let own = folder.appendingPathComponent(group.name)
      try FileManager.default.createDirectory(at: own, withIntermediateDirectories: true)
      try group.documents.writeJSONLines(to: own.appendingPathComponent("data.jsonl"))
      try PrivateFiles.write(
        Data(try authority.makeToken(for: try stage.configuration.runID).text.utf8),
        to: own.appendingPathComponent("token"))
      let client = try ChildProcess(
        group.name,
        [
          "join", "--coordinator", address, "--data", "data.jsonl", "--name", group.name,
          "--folder", "work", "--token", "token", "--threads", "1", "--json", "--seed",
          "\(stage.configuration.seed)",
        ], folder: own, log: folder.appendingPathComponent("\(group.name).log"))
      await children.add(client)
      clients.append(client)
    }
    Terminal.note(
      "processes    coordinator \(coordinator.identifier), clients "
        + clients.map { String($0.identifier) }.joined(separator: " "))
    let (ending, output) = try await coordinator.finish()
    guard ending.isSuccess else {
      throw PeatError(ending.code, "The coordinator \(ending); what it said stands above.")
    }
    let summary = try JSONFile.decode(
      RunResult.Summary.self, from: output, name: "the coordinator's result")
    var reports: [DemoResult.Client] = []
    for client in clients {
      let (ending, output) = try await client.finish()
      let report =
        ending.isSuccess ? try? JSONDecoder().decode(DemoResult.Client.self, from: output) : nil
      let counted = summary.clients.first { $0.client == client.name }
      reports.append(
        report
          ?? DemoResult.Client(
            client: client.name,
            updates: summary.roundRecords.count {
              $0.delivered.contains { $0.name == client.name }
            }, bytesUp: counted?.bytesUp ?? 0,
            bytesDown: counted?.bytesDown ?? 0, peakMemoryBytes: counted?.peakMemoryBytes ?? 0))
    }
    return (summary, reports)
  }

  private func waitForAddress(_ file: URL, _ coordinator: ChildProcess) async throws -> String {
    while true {
      if let text = try? String(contentsOf: file, encoding: .utf8), text.hasSuffix("\n") {
        return text.trimmingCharacters(in: .whitespacesAndNewlines)
      }
      guard coordinator.isRunning else {
        let (ending, _) = try await coordinator.finish()
        throw PeatError(
          ending.code,
          "The coordinator \(ending) before clients could join; what it said stands above.")
      }
      try await Task.sleep(for: .milliseconds(50))
    }
  }

  /// What could be had without an emulator, tuned on the pooled texts.
  private func compare(
    _ configuration: RunConfiguration, _ numbers: FiveNumbers
  ) async throws -> FiveNumbers {
    Terminal.note("for comparison, on the pooled texts (which in earnest nobody has):")
    let progress = RunProgress(rounds: configuration.rounds)
    let tuning = try FederatedTuning(
      configuration, evaluation: stage.evaluation, pooled: stage.groups.flatMap(\.documents),
      logger: .silent, onEvent: { if case .opened = $0 { return } else { progress.report($0) } })
    return try await tuning.comparing(numbers)
  }
}

/// The demo's processes; all end with it.
private actor Children {
  private var processes: [ChildProcess] = []

  func add(_ process: ChildProcess) { processes.append(process) }

  func endAll() async {
    await withTaskGroup(of: Void.self) { group in
      for process in processes { group.addTask { await process.end() } }
    }
  }
}
