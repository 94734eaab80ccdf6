import FedPEAT
import Foundation

/// Comparisons whose sides are processes of their own, so that each has its own peak of memory.
extension Bench {
  /// What one side measured.
  private struct Side: Decodable {
    var seconds: Double
    var tokensPerSecond: Double
    var peakMemoryBytes: Int
    var prefixCacheBytes: Int?
  }

  var shared: [String] {
    ["--threads", "\(common.threadCount)", "--seed", "\(common.seedValue)", "--json", "--quiet"]
  }

  func child(_ arguments: [String]) throws -> ChildProcess {
    try ChildProcess(
      "bench", ["bench"] + arguments, folder: URL(path: "."), showsProgress: false, log: nil)
  }

  func output(_ child: ChildProcess) async throws -> Data {
    do {
      let (ending, output) = try await child.finish()
      guard ending.isSuccess else {
        throw PeatError(ending.code, "A measurement \(ending).")
      }
      return output
    } catch {
      await child.end()
      throw error
    }
  }

  private func measure(_ arguments: [String]) async throws -> Side {
    let child = try child(arguments + shared)
    return try JSONDecoder().decode(Side.self, from: await output(child))
  }

  /// Both sides in turn, `runs` times; medians of each and of the pairs' ratios of time.
  private func compare(
    _ first: [String], _ second: [String]
  ) async throws -> (first: Side, second: Side, ratio: Double, ratios: [Double]) {
    var firsts: [Side] = []
    var seconds: [Side] = []
    for run in 0..<runs {
      try checkInterruption()
      Terminal.status("pair \(run + 1) of \(runs) …")
      firsts.append(try await measure(first + ["--runs", "3"]))
      seconds.append(try await measure(second + ["--runs", "3"]))
    }
    func middle(_ sides: [Side]) -> Side {
      var result = sides[0]
      result.seconds = median(sides.map(\.seconds))
      result.tokensPerSecond = median(sides.map(\.tokensPerSecond))
      result.peakMemoryBytes = Int(median(sides.map { Double($0.peakMemoryBytes) }))
      return result
    }
    let ratios = zip(firsts, seconds).map { $0.seconds / $1.seconds }
    return (middle(firsts), middle(seconds), median(ratios), ratios)
  }

  private func row(_ name: String, _ side: Side) -> [String] {
    [
      name, Format.number(side.seconds, digits: 3),
      Format.number(side.tokensPerSecond, digits: 1), Format.bytes(side.peakMemoryBytes),
    ]
  }

  private static let header = ["", "seconds per step", "tokens/s", "peak memory"]

  /// An emulator's end blocks beside all of the model's weights.
  func emulator() async throws {
    let sizes = ["--batch", "\(batch)", "--context", "\(context)"]
    let result = try await compare(
      ["step", "--full"] + sizes, ["step", "--layers", "8", "--blocks", "0,1,6,7"] + sizes)
    var full = StepBenchmark.Setting()
    (full.isFull, full.batch, full.context, full.threads) = (
      true, batch, context, common.threadCount
    )
    var emulator = full
    (emulator.isFull, emulator.layers, emulator.adapterBlocks) = (false, 8, [0, 1, 6, 7])
    let arithmetic = StepBenchmark.operationsRatio(of: full, to: emulator)
    let limit = 1_000_000_000
    let batches = [
      "full": try full.largestBatch(below: limit),
      "emulator": try emulator.largestBatch(below: limit),
    ]
    var report = Report(
      what: what, seconds: result.second.seconds, tokensPerSecond: result.second.tokensPerSecond,
      peakMemoryBytes: result.second.peakMemoryBytes, runs: result.ratios)
    report.ratio = result.ratio
    report.memoryRatio =
      Double(result.first.peakMemoryBytes) / Double(result.second.peakMemoryBytes)
    report.operationsRatio = arithmetic
    report.shareOfOperationsRatio = result.ratio / arithmetic
    report.largestBatches = batches
    try common.report(
      report,
      text: Format.table([
        Self.header, row("all weights of 12 blocks", result.first),
        row("LoRA in an emulator 2-4-2", result.second),
        ["ratio", Format.number(result.ratio), "", Format.number(report.memoryRatio ?? 0)],
      ])
        + "\n\n\(Format.percent(result.ratio / arithmetic)) of the ratio of arithmetic, \(Format.number(arithmetic)). "
        + "Largest batch of \(context) tokens below 1 GB: \(batches["full"] ?? 0) and \(batches["emulator"] ?? 0)."
    )
  }

  /// An adapter at the top, with and without keeping what the frozen blocks below compute.
  func prefix() async throws {
    let step = ["step", "--blocks", "10,11", "--batch", "\(batch)", "--context", "\(context)"]
    let result = try await compare(step, step + ["--prefix-cache", "1GB"])
    var plain = StepBenchmark.Setting()
    (plain.adapterBlocks, plain.batch, plain.context) = ([10, 11], batch, context)
    var cached = plain
    cached.prefixCacheBytes = 1
    let arithmetic = StepBenchmark.operationsRatio(of: plain, to: cached)
    var report = Report(
      what: what, seconds: result.second.seconds, tokensPerSecond: result.second.tokensPerSecond,
      peakMemoryBytes: result.second.peakMemoryBytes, runs: result.ratios)
    report.ratio = result.ratio
    report.operationsRatio = arithmetic
    report.shareOfOperationsRatio = result.ratio / arithmetic
    report.prefixCacheBytes = result.second.prefixCacheBytes
    try common.report(
      report,
      text: Format.table([
        Self.header, row("computed each time", result.first), row("kept", result.second),
        ["ratio", Format.number(result.ratio), "", ""],
      ])
        + "\n\n\(Format.percent(result.ratio / arithmetic)) of the ratio of arithmetic, \(Format.number(arithmetic)). "
        + "Kept: \(Format.bytes(result.second.prefixCacheBytes ?? 0)) for \(batch * context) tokens."
    )
  }

  /// Two processes of one thread, each with its own batch, beside one process with two threads.
  func processes() async throws {
    let sizes = [
      "--layers", "\(layers)", "--batch", "\(batch)", "--context", "\(context)", "--runs", "3",
      "--json", "--quiet",
    ]
    var ratios: [Double] = []
    var together: [Double] = []
    var alone: [Double] = []
    for run in 0..<runs {
      try checkInterruption()
      Terminal.status("pair \(run + 1) of \(runs) …")
      let one = try JSONDecoder().decode(
        Side.self, from: await output(child(["step", "--threads", "2"] + sizes)))
      let pair = try [
        child(["step", "--threads", "1"] + sizes), child(["step", "--threads", "1"] + sizes),
      ]
      var tokens = 0.0
      for process in pair {
        tokens += try JSONDecoder().decode(Side.self, from: await output(process)).tokensPerSecond
      }
      alone.append(one.tokensPerSecond)
      together.append(tokens)
      ratios.append(tokens / one.tokensPerSecond)
    }
    let ratio = median(ratios)
    var report = Report(
      what: what, seconds: Double(batch * context) / median(together),
      tokensPerSecond: median(together), peakMemoryBytes: ProcessMeasurement.peakMemoryBytes,
      runs: ratios)
    report.ratio = ratio
    try common.report(
      report,
      text: Format.table([
        ["", "tokens/s"], ["one process, two threads", Format.number(median(alone), digits: 1)],
        ["two processes, a thread each", Format.number(median(together), digits: 1)],
        ["ratio", Format.number(ratio)],
      ]))
  }

  /// Each case beside its peer, one after the other.
  func peers() async throws {
    guard let peer else { return }
    _ = try PeerPython(folder: URL(path: peer))
    let cases: [(name: String, arguments: [String])] = [
      ("LoRA step, GPT-2 small, 4 × 256", ["step"]),
      ("LoRA step, Llama with grouped heads, 4 × 256", ["step", "--shape", "llama"]),
      ("LoRA step, GPT-2 small, 1 × 512", ["step", "--batch", "1", "--context", "512"]),
      ("greedy text, f32", ["generate"]),
      ("greedy text, int8", ["generate", "--storage", "int8"]),
      ("greedy text, int4", ["generate", "--storage", "int4"]),
    ]
    var rows = [["", "tokens/s", "peer's", "ratio", "peak memory", "peer's"]]
    var results: [JSONValue] = []
    for (number, item) in cases.enumerated() {
      try checkInterruption()
      Terminal.status("\(number + 1) of \(cases.count): \(item.name) …")
      let child = try child(
        item.arguments + ["--runs", "\(runs)", "--peer", URL(path: peer).path] + shared)
      let data = try await output(child)
      var json = try JSONDecoder().decode(JSONValue.self, from: data)
      func value(_ key: String) -> Double { json[key]?.number ?? 0 }
      let ratio = value("ratio")
      rows.append([
        item.name, Format.number(value("tokensPerSecond"), digits: 1),
        Format.number(value("tokensPerSecond") / max(ratio, 1e-9), digits: 1),
        Format.number(ratio), Format.bytes(Int(value("peakMemoryBytes"))),
        Format.bytes(Int(value("peerPeakMemoryBytes"))),
      ])
      Terminal.note(rows[number + 1].joined(separator: "  "))
      if case .object(var table) = json {
        table["case"] = .string(item.name)
        json = .object(table)
      }
      results.append(json)
    }
    func first(_ key: String) -> Double { results[0][key]?.number ?? 0 }
    var report = Report(
      what: what, seconds: first("seconds"), tokensPerSecond: first("tokensPerSecond"),
      peakMemoryBytes: Int(first("peakMemoryBytes")), runs: [])
    report.peerSeconds = first("peerSeconds")
    report.ratio = first("ratio")
    report.cases = results
    try common.report(report, text: Format.table(rows))
  }
}
