import ArgumentParser
import FedPEAT
import Foundation

/// How much memory a command may take, and how it keeps frozen weights.
struct MemoryOptions: ParsableArguments {
  @Option(
    help:
      "How frozen weights are kept in memory: f32, bf16, f16, int8 or int4; f32 if not given, or what --memory-limit chooses."
  )
  var storage: WeightStorage?

  @Option(
    help: ArgumentHelp(
      "Stay below so much memory, such as 512MB or 2GiB: chooses storage, checkpointing and parts of a step, and refuses before starting where nothing fits; no limit if not given.",
      valueName: "size"))
  var memoryLimit: ByteCount?

  /// Plans how to stay below the limit, and says what was chosen; `nil` where there is no limit.
  ///
  /// - Parameter besides: bytes that something else will take.
  func plan(
    _ demands: MemoryDemands, checkpointing: Bool = false, accumulation: Int = 1, besides: Int = 0
  ) throws -> MemoryPlan? {
    guard let memoryLimit else { return nil }
    var plan = try demands.plan(
      below: memoryLimit.bytes, storage: storage,
      checkpointing: checkpointing, accumulation: accumulation,
      base: ProcessMeasurement.memoryBytes + besides)
    // Reading the texts may have taken more than the step will.
    plan.bytes = max(plan.bytes, ProcessMeasurement.peakMemoryBytes)
    Terminal.note(
      "memory       \(plan.summary): about \(Format.bytes(plan.bytes)) of \(Format.bytes(memoryLimit.bytes))"
    )
    return plan
  }
}

/// A number of bytes as people write it: 300000000, 512MB, 1.5GiB.
struct ByteCount: ExpressibleByArgument, Equatable {
  let bytes: Int

  private static let units: [(name: String, bytes: Double)] = [
    ("kib", 1024), ("mib", 1_048_576), ("gib", 1_073_741_824), ("kb", 1e3), ("mb", 1e6),
    ("gb", 1e9), ("b", 1), ("", 1),
  ]

  init?(argument: String) {
    let text = argument.lowercased()
    guard let unit = Self.units.first(where: { text.hasSuffix($0.name) }),
      text.dropLast(unit.name.count).allSatisfy({ "0123456789.".contains($0) }),
      let number = Double(text.dropLast(unit.name.count)), number.isFinite,
      number * unit.bytes >= 1, number * unit.bytes < 1e18
    else { return nil }
    bytes = Int(number * unit.bytes)
  }
}

extension ByteCount {
  /// Throws where reading a file of texts would pass the limit before anything is planned.
  ///
  /// Texts become words and then tokens, in pieces that stand beside each other for a while: 24 bytes for a byte of running
  /// text, half as many for records (measured).
  func checkReading(_ url: URL) throws {
    let folder = try TextFolder(url)
    let own = try? FileManager.default.attributesOfItem(atPath: url.path)[.size] as? Int
    guard let size = folder?.byteCount ?? own else { return }
    let isRecords = ["json", "jsonl", "ndjson", "csv"].contains(url.pathExtension.lowercased())
    let needed = ProcessMeasurement.memoryBytes + size * (isRecords ? 14 : 24)
    guard needed > bytes else { return }
    throw PeatError.usage(
      "Reading '\(url.path)' would take about \(Format.bytes(needed)), more than the limit of \(Format.bytes(bytes)). Allow more, or give less text."
    )
  }
}

extension WeightStorage: ExpressibleByArgument {}

extension BenchmarkShape: ExpressibleByArgument {}

extension AggregationBenchmark.Way: ExpressibleByArgument {}

extension ByteCount: Codable {
  /// From a file: a number of bytes, or the same text as on the command line.
  init(from decoder: any Decoder) throws {
    let container = try decoder.singleValueContainer()
    let text =
      try (try? container.decode(Int.self)).map(String.init) ?? container.decode(String.self)
    guard let count = ByteCount(argument: text) else {
      throw DecodingError.dataCorruptedError(
        in: container, debugDescription: "expected a size such as 512MB or 2GiB")
    }
    self = count
  }

  func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    try container.encode(bytes)
  }
}
