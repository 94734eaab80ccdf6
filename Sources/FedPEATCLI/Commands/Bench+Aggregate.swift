import FedPEAT
import Foundation

/// Aggregating one layer's LoRA updates in factors beside doing it by way of the matrix, each in a process of its own.
extension Bench {
  struct AggregationReport: Encodable {
    var what = "aggregate"
    var width: Int
    var clients: Int
    var rank: Int
    /// The median in factors.
    var seconds: Double
    var peakMemoryBytes: Int
    /// The median by way of the matrix.
    var denseSeconds: Double?
    var densePeakMemoryBytes: Int?
    /// The medians of the pairs' ratios: the matrix's over the factors'. Memory is what was added to the updates.
    var ratio: Double?
    var memoryRatio: Double?
    var cases: [AggregationBenchmark.Report]
  }

  func aggregate() async throws {
    let clients = clients ?? 8
    if let way {
      let report = try AggregationBenchmark.run(
        way, width: width, clients: clients, rank: rank, seed: common.seedValue)
      try common.report(
        AggregationReport(
          width: width, clients: clients, rank: rank, seconds: report.seconds,
          peakMemoryBytes: report.peakMemoryBytes, cases: [report]),
        text: Self.table([("one way", report.seconds, report.addedMemoryBytes)]))
      return
    }
    struct Child: Decodable { var cases: [AggregationBenchmark.Report] }
    var reports: [AggregationBenchmark.Way: [AggregationBenchmark.Report]] = [:]
    for run in 1...runs {
      for way in AggregationBenchmark.Way.allCases {
        try checkInterruption()
        Terminal.status("\(way.rawValue): run \(run) of \(runs) …")
        let child = try child(
          [
            "aggregate", "--way", way.rawValue, "--width", "\(width)", "--clients", "\(clients)",
            "--rank", "\(rank)",
          ] + shared)
        reports[way, default: []] += try JSONDecoder().decode(
          Child.self, from: await output(child)
        ).cases
      }
    }
    let (factors, dense) = (reports[.factors] ?? [], reports[.dense] ?? [])
    func memory(_ reports: [AggregationBenchmark.Report]) -> Int {
      Int(median(reports.map { Double($0.addedMemoryBytes) }))
    }
    let report = AggregationReport(
      width: width, clients: clients, rank: rank, seconds: median(factors.map(\.seconds)),
      peakMemoryBytes: Int(median(factors.map { Double($0.peakMemoryBytes) })),
      denseSeconds: median(dense.map(\.seconds)),
      densePeakMemoryBytes: Int(median(dense.map { Double($0.peakMemoryBytes) })),
      ratio: median(zip(dense, factors).map { $0.seconds / $1.seconds }),
      memoryRatio: Double(memory(dense)) / Double(max(memory(factors), 1)),
      cases: factors + dense)
    try common.report(
      report,
      text: Self.table([
        ("in factors", report.seconds, memory(factors)),
        ("by the matrix", report.denseSeconds ?? 0, memory(dense)),
      ]) + "\n"
        + "ratios: \(Format.number(report.ratio ?? 0, digits: 1)) × the time, \(Format.number(report.memoryRatio ?? 0, digits: 1)) × the memory"
    )
  }

  private static func table(_ rows: [(name: String, seconds: Double, memory: Int)]) -> String {
    Format.table(
      [["", "seconds", "added memory"]]
        + rows.map {
          [$0.name, Format.number($0.seconds, digits: 3), Format.bytes($0.memory)]
        })
  }
}
