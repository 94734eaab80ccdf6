import FedPEAT
import Foundation

/// The time and memory of each compression, each in a process of its own.
extension Bench {
  struct CompressionReport: Encodable {
    var what = "compress"
    /// The median of all compressions.
    var seconds: Double
    var peakMemoryBytes: Int
    /// The most memory over the model's, of all.
    var peakOverModel: Double
    var cases: [CompressionBenchmark.Report]
  }

  func compress() async throws {
    if recipe.count == 1, let recipe = recipe.first, let model {
      let report = try CompressionBenchmark.run(
        recipe, model: URL(model: model), windows: 8 * batch, seed: common.seedValue,
        threads: common.threadCount)
      try common.report(
        CompressionReport(
          seconds: report.seconds, peakMemoryBytes: report.peakMemoryBytes,
          peakOverModel: report.peakOverModel, cases: [report]),
        text: Self.table([report]))
      return
    }
    // Written by this process, measured by others.
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent(
      "fedpeat-bench-\(UUID().uuidString)")
    defer { try? FileManager.default.removeItem(at: folder) }
    var measured = folder
    if let model {
      measured = try URL(model: model)
    } else {
      guard layers > 2 else {
        throw PeatError.usage("--layers is \(layers); a middle needs at least 3.")
      }
      Terminal.status("a model with random weights …")
      try shape.write(layers: layers, seed: common.seedValue, to: folder)
    }
    let configuration = try Checkpoint(folder: measured).configuration
    let blocks = configuration.blockCount
    guard blocks > 2 else {
      throw PeatError.badData(
        "'\(measured.path)' has \(blocks) blocks; one with a middle has at least 3.")
    }
    struct Child: Decodable { var cases: [CompressionBenchmark.Report] }
    var reports: [CompressionBenchmark.Report] = []
    let split = try ModelSplit(bottom: 1, top: 1, of: blocks)
    let chosen = recipe.isEmpty ? CompressionBenchmark.recipes(middle: blocks - 2) : recipe
    // Before minutes are spent on those before it.
    for text in chosen {
      try EmulatorComparison.Candidate(text).recipe.check(configuration, split)
    }
    for recipe in chosen {
      try checkInterruption()
      Terminal.status("\(recipe) …")
      let child = try child(
        [
          "compress", "--recipe", recipe, "--model", measured.path, "--batch", "\(batch)",
        ] + shared)
      reports += try JSONDecoder().decode(Child.self, from: await output(child)).cases
    }
    try common.report(
      CompressionReport(
        seconds: median(reports.map(\.seconds)),
        peakMemoryBytes: reports.map(\.peakMemoryBytes).max() ?? 0,
        peakOverModel: reports.map(\.peakOverModel).max() ?? 0, cases: reports),
      text: Self.table(reports))
  }

  private static func table(_ reports: [CompressionBenchmark.Report]) -> String {
    Format.table(
      [["recipe", "seconds", "peak memory", "of the model's"]]
        + reports.map {
          [
            $0.recipe, Format.number($0.seconds, digits: 2), Format.bytes($0.peakMemoryBytes),
            Format.number($0.peakOverModel, digits: 2),
          ]
        })
  }
}
