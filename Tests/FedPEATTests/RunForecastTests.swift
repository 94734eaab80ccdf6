import FedPEAT
import Foundation
import Logging
import TestSupport
import Testing

@Suite("What a run is expected to cost") struct RunForecastTests {
  private func forecast(
    _ workshop: TinyWorkshop, _ emulator: String, edge: String = "pedestrian"
  ) throws -> RunForecast {
    try RunForecast(configuration(workshop, emulator, edge: edge))
  }

  private func configuration(
    _ workshop: TinyWorkshop, _ emulator: String, edge: String
  ) -> RunConfiguration {
    var configuration = RunConfiguration()
    configuration.model = workshop.model
    configuration.data = workshop.documents
    configuration.clients = 2
    configuration.context = 16
    configuration.emulators = [emulator]
    configuration.edge = edge
    return configuration
  }

  /// The run itself, in its simulated cell.
  private func played(_ run: RunConfiguration) async throws -> RunResult {
    let data = try ClientData(run)
    let tuning = try FederatedTuning(
      run, evaluation: nil, cell: try data.shares(), logger: Logger(label: "test"))
    return try await tuning.run(
      FederatedTuning.inProcess(
        data.groups, threads: 1, seed: 0, logger: Logger(label: "test")))
  }

  @Test(arguments: [
    (32, "f32", "f32"), (16, "f16", "bf16"), (8, "int8", "int8"), (4, "int4", "f16"),
    (16, "bf16", "f32"), (8, "top-k=0.1,int8", "f32"), (32, "top-k=0.2,f32", "int4"),
  ])
  func `updates and the adapter take the bytes that were foreseen`(
    bits: Int, upload: String, download: String
  ) async throws {
    let workshop = try await TinyWorkshop.shared()
    var run = configuration(workshop, "layer-drop=1", edge: "pedestrian")
    (run.rounds, run.localSteps, run.batch, run.fullFineTuning) = (1, 1, 1, false)
    (run.upload, run.download, run.minimumClients, run.minimumUpdates) = (upload, download, 2, 2)
    let result = try await played(run)
    let sent = result.report.rounds.flatMap(\.outcomes).compactMap { $0.telemetry?.bytesUp }
    let edge = try RunForecast(run).edge
    let foreseen = edge.uploads.first { $0.bits == bits }?.bytes ?? edge.adapterBytes
    #expect(sent.count == 2 && sent.allSatisfy { Double($0) == foreseen })
    #expect((try #require(edge.downloadBytes) < edge.adapterBytes) == (download != "f32"))
    // And so they are in the simulated cell.
    #expect(result.simulation?.rounds.map(\.cell.bytesUp) == [2 * foreseen])
  }

  @Test(arguments: ["fedavg", "ffa", "scaffold"])
  func `what a strategy leaves away or sends beside the adapter is foreseen`(
    strategy: String
  ) async throws {
    let workshop = try await TinyWorkshop.shared()
    var run = configuration(workshop, "layer-drop=1", edge: "pedestrian")
    (run.rounds, run.localSteps, run.batch, run.fullFineTuning) = (1, 1, 1, false)
    (run.strategy, run.minimumClients, run.minimumUpdates) = (strategy, 2, 2)
    let result = try await played(run)
    let telemetry = result.report.rounds.flatMap(\.outcomes).compactMap(\.telemetry)
    let edge = try RunForecast(run).edge
    #expect(telemetry.map { Double($0.bytesUp) } == [edge.adapterBytes, edge.adapterBytes])
    let down = Double(try #require(telemetry.first?.bytesDown))
    #expect(try #require(edge.downloadBytes) <= down)
    var plain = run
    plain.strategy = "fedavg"
    let usual = try RunForecast(plain).edge
    let (up, received) = (
      edge.adapterBytes / usual.adapterBytes,
      try #require(edge.downloadBytes) / #require(usual.downloadBytes)
    )
    switch strategy {
    case "ffa": #expect(up < 0.8 && received == 1)
    case "scaffold": #expect(up > 1.9 && up < 2.2 && received > 1.9 && received < 2.2)
    default: #expect(up == 1 && received == 1)
    }
  }

  @Test(arguments: ["layer-drop=1", "int8", "int4", "f16", "low-rank=0.25", "magnitude=0.2"])
  func `bytes are those of the folder that compress writes`(recipe: String) async throws {
    let workshop = try await TinyWorkshop.shared()
    try await withTemporaryFolder { folder in
      try await FedpeatCommand.succeed(
        ["compress", workshop.model, "--recipe", recipe, "--out", "e"], in: folder)
      let files = try FileManager.default.contentsOfDirectory(
        at: folder.appendingPathComponent("e"), includingPropertiesForKeys: [.fileSizeKey])
      let written = try files.reduce(0) {
        try $0 + ($1.resourceValues(forKeys: [.fileSizeKey]).fileSize ?? 0)
      }
      let expected = try forecast(workshop, recipe).edge.levels[0].bytes
      #expect(abs(expected / Double(written) - 1) < 0.03, "\(expected), written \(written)")
    }
  }

  @Test func `emulators that age make slower progress, those of scenarios do not age in a run`()
    async throws
  {
    let workshop = try await TinyWorkshop.shared()
    try withTemporaryFolder { folder in
      let file = folder.appendingPathComponent("edge.yaml")
      func gap(_ text: String) throws -> Double {
        try Data(text.utf8).write(to: file)
        let played = try forecast(workshop, "layer-drop=1", edge: file.path).play(runs: 4)
        return played.summaries.reduce(0) { $0 + $1.gap } / 4
      }
      let fresh = try gap("levelsAge: sinceMade\nlearning: {ageing: 0}")
      #expect(try gap("levelsAge: sinceMade\nlearning: {ageing: 0.1}") > 1.1 * fresh)
      #expect(try gap("levelsAge: sinceMade\nlearning: {ageing: 0.2}") > 1.2 * fresh)
      // As files of before levelsAge have it.
      #expect(try gap("learning: {ageing: 0.1}") == fresh)
    }
  }

  @Test func `runs that are played are told round by round, with means over their seeds`()
    async throws
  {
    let workshop = try await TinyWorkshop.shared()
    var run = configuration(workshop, "layer-drop=1", edge: "vehicular")
    run.rounds = 6
    let forecast = try RunForecast(run)
    let runs = try PlayedRuns(forecast, seeds: [3, 4, 5])
    let again = try PlayedRuns(forecast, seeds: [4])
    #expect(runs.runs.map(\.seed) == [3, 4, 5])
    #expect(runs.runs[1].simulation == again.runs[0].simulation)
    #expect(runs.table.map(\.round) == Array(1...6))
    let seconds = runs.runs.map { $0.simulation.rounds[2].cell.seconds }
    let mean = seconds.reduce(0, +) / 3
    let deviation = (seconds.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / 2).squareRoot()
    #expect(abs(runs.table[2].seconds.mean - mean) < 1e-9 * mean)
    #expect(abs(runs.table[2].seconds.deviation - deviation) < 1e-9 * mean && deviation > 0)
    for run in runs.runs {
      let sum = run.simulation.rounds.reduce(0) { $0 + $1.cell.bytesUp }
      #expect(abs(sum - run.bytesUp) < 1 && sum > 0)
      #expect(
        abs(run.simulation.rounds.reduce(0) { $0 + $1.cell.seconds } - run.simulatedSeconds) < 1e-6)
    }
    // A scenario's learning model knows no loss.
    #expect(runs.predictedLoss == nil && runs.table.allSatisfy { $0.predictedLoss == nil })
    try withTemporaryFolder { folder in
      let file = folder.appendingPathComponent("edge.yaml")
      try Data("learning: {finalLoss: 2}".utf8).write(to: file)
      run.edge = file.path
      let fitted = try PlayedRuns(RunForecast(run), seeds: [1])
      let loss = try #require(fitted.predictedLoss).mean
      let last = try #require(fitted.table.last?.predictedLoss).mean
      #expect(loss > 2 && abs(loss - last) < 1e-12)
    }
    expectError(.usage, "at least one seed") { _ = try PlayedRuns(forecast, seeds: []) }
  }

  @Test func `measurements are taken for the split and the emulators that they were made with`()
    async throws
  {
    let workshop = try await TinyWorkshop.shared()
    let digest = try Checkpoint(folder: URL(fileURLWithPath: workshop.model)).digest().hex
    try withTemporaryFolder { folder in
      let file = folder.appendingPathComponent("edge.yaml")
      func forecast(_ more: String, _ emulator: String = "layer-drop=1") throws -> RunForecast {
        let text = """
          calibration: {model: \(digest), roundTokens: 100\(more)}
          middleBlocks: 2
          levels: [{name: layer-drop=1, bytes: 123456, work: 1e9, memory: 1e8, fidelity: 0.5, blocks: [0]}]
          """
        try Data(text.utf8).write(to: file)
        return try self.forecast(workshop, emulator, edge: file.path)
      }
      let older = try forecast("")
      #expect(older.isMeasured && older.edge.levels[0].bytes == 123456)
      #expect(
        older.cautions.contains { $0.contains("which split, which emulators and which learning") })
      let whole = ", bottom: 1, top: 1, emulators: [null], learningRate: 0.003"
      let same = try forecast(whole)
      #expect(same.isMeasured && same.cautions.isEmpty)
      let other = try forecast(whole + ", alpha: 3, cautions: [why]").cautions
      #expect(other.count == 2 && other[0].contains("alpha of 3") && other[1] == "why")
      // A folder that compress wrote without a text is what its recipe says.
      #expect(
        try forecast(", bottom: 1, top: 1, emulators: [null]", workshop.emulator).isMeasured)
      for other in [
        ", bottom: 2, top: 1, emulators: [null]", ", bottom: 1, top: 1, emulators: [abc]",
      ] {
        let own = try forecast(other)
        #expect(!own.isMeasured && own.edge.levels[0].bytes != 123456)
        #expect(own.cautions.first?.contains("is not of this run's emulators: ") == true)
      }
    }
  }
}
