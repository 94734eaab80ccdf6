import ArgumentParser
import FedPEAT
import Foundation

struct Bench: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Measure speed and memory on this machine.",
    discussion: """
      Example: fedpeat bench step --layers 12 --batch 4 --context 256 --peer ../shared/peers

      step   one LoRA training step of a GPT-2-shaped model with random weights; with --peer FOLDER beside PyTorch and \
      PEFT, interleaved in the same run
      generate   greedy text of the same model, token by token; with --peer FOLDER beside transformers
      peak   the most arithmetic the cores do together, in GFLOP/s
      """)

  @Argument(help: "step, generate or peak.")
  var what: String

  @Option(help: "Blocks.")
  var layers = 12

  @Option(help: "generate: tokens of the text that is continued.")
  var promptTokens = 16

  @Option(help: "generate: tokens that are added.")
  var tokens = 128

  @Option(help: "Texts per step.")
  var batch = 4

  @Option(help: "Tokens per text.")
  var context = 256

  @Option(help: "Measurements; the median is reported. With a peer: pairs of measurements.")
  var runs = 5

  @Option(
    help: "A folder with a script 'python' that runs the peers' Python, and peer_lora_step.py.")
  var peer: String?

  @Option(help: "How frozen weights are kept: f32, bf16, f16, int8 or int4.")
  var storage = WeightStorage.float32.rawValue

  @Flag(help: "step: also say where the processor time goes.")
  var breakdown = false

  @Flag(help: "Keep only each block's input.")
  var checkpointing = false

  @OptionGroup var common: CommonOptions

  struct Report: Encodable {
    var what: String
    var seconds: Double
    var tokensPerSecond: Double?
    var peakMemoryBytes: Int
    var gigaflops: Double?
    var runs: [Double]
    var peerSeconds: Double?
    var peerPeakMemoryBytes: Int?
    var peerRuns: [Double]?
    /// Processor time of a step, all threads together.
    var processorSeconds: Double?
    /// What the cores did at most, measured before each run.
    var peakGigaflops: Double?
    /// Products with frozen weights alone, over that.
    var shareOfPeak: Double?
    /// The peer's time over ours.
    var ratio: Double?
    /// The peer's peak memory over ours.
    var memoryRatio: Double?
    /// Seconds of processor time in a step by part, all threads together.
    var breakdown: [String: Double]?
    /// What is read for each token.
    var weightBytes: Int?
    /// Weights read, in 10⁹ bytes per second.
    var gigabytesPerSecond: Double?
    /// What the cores read at most, measured before each run.
    var peakGigabytesPerSecond: Double?
    /// The one over the other.
    var shareOfReadBandwidth: Double?
    var peerTokensPerSecond: Double?
  }

  private static let all = ["step", "generate", "peak"]

  func validate() throws {
    guard Self.all.contains(what) else {
      throw ValidationError(
        "Unknown benchmark '\(what)'. \(suggestion(for: what, among: Self.all))")
    }
    for (name, value) in [
      ("layers", layers), ("batch", batch), ("context", context), ("runs", runs),
      ("prompt-tokens", promptTokens), ("tokens", tokens),
    ]
    where value < 1 || value > 4096 {
      throw ValidationError("--\(name) is \(value); it must be between 1 and 4096.")
    }
    if context > 1024 {
      throw ValidationError("--context is \(context); the model reads up to 1024.")
    }
    if promptTokens + tokens > 1024 {
      throw ValidationError(
        "--prompt-tokens and --tokens are \(promptTokens + tokens) together; the model reads up to 1024."
      )
    }
  }

  func run() async throws {
    switch what {
    case "generate": try generate()
    case "peak": try peak()
    default: try step()
    }
  }

  private func peak() throws {
    var all: [Double] = []
    for _ in 0..<runs {
      try checkInterruption()
      all.append(PeakMeasurement.gigaflops(threads: common.threadCount, seconds: 0.5))
    }
    let median = median(all)
    let report = Report(
      what: what, seconds: 0.5, tokensPerSecond: nil,
      peakMemoryBytes: ProcessMeasurement.peakMemoryBytes, gigaflops: median, runs: all)
    try common.report(
      report,
      text:
        "\(Format.number(median, digits: 1)) GFLOP/s on \(common.threadCount) threads together (median of \(runs))"
    )
  }

  private func step() throws {
    let stepBench = try StepBenchmark(
      layers: layers, batch: batch, context: context, threads: common.threadCount,
      checkpointing: checkpointing, storage: try WeightStorage(word: storage),
      seed: common.seedValue)
    var ours: [Double] = []
    var peaks: [Double] = []
    var processor: [Double] = []
    var peers: [PeerRun] = []
    _ = try stepBench.run(steps: 1)
    for pair in 0..<runs {
      try checkInterruption()
      peaks.append(PeakMeasurement.gigaflops(threads: common.threadCount, seconds: 0.3))
      let before = ProcessMeasurement.processorSeconds
      let steps = peer == nil ? 1 : 3
      ours.append(try stepBench.run(steps: steps))
      processor.append((ProcessMeasurement.processorSeconds - before) / Double(steps))
      Terminal.status(
        "run \(pair + 1) of \(runs): \(Format.number(ours[pair], digits: 3)) s per step")
      if let peer {
        peers.append(
          try PeerRun(folder: URL(path: peer), layers: layers, batch: batch, context: context))
      }
    }
    let seconds = median(ours)
    var report = Report(
      what: what, seconds: seconds, tokensPerSecond: Double(batch * context) / seconds,
      peakMemoryBytes: ProcessMeasurement.peakMemoryBytes,
      gigaflops: stepBench.gigaflopsPerStep / seconds, runs: ours)
    report.processorSeconds = median(processor)
    report.peakGigaflops = median(peaks)
    report.shareOfPeak = median(zip(ours, peaks).map { stepBench.gigaflopsPerStep / $0 / $1 })
    var rows = [
      ["", "seconds per step", "tokens/s", "peak memory"],
      [
        "FedPEAT", Format.number(seconds, digits: 3),
        Format.number(Double(batch * context) / seconds, digits: 1),
        Format.bytes(report.peakMemoryBytes),
      ],
    ]
    if !peers.isEmpty {
      let peerSeconds = median(peers.map(\.seconds))
      let peerMemory = Int(median(peers.map { Double($0.peakMemoryBytes) }))
      report.peerSeconds = peerSeconds
      report.peerPeakMemoryBytes = peerMemory
      report.peerRuns = peers.map(\.seconds)
      report.ratio = median(zip(peers.map(\.seconds), ours).map { $0 / $1 })
      report.memoryRatio = Double(peerMemory) / Double(report.peakMemoryBytes)
      rows.append([
        "PyTorch + PEFT", Format.number(peerSeconds, digits: 3),
        Format.number(Double(batch * context) / peerSeconds, digits: 1), Format.bytes(peerMemory),
      ])
      rows.append([
        "ratio", Format.number(report.ratio ?? 0), "", Format.number(report.memoryRatio ?? 0),
      ])
    }
    var text = Format.table(rows)
    text +=
      "\n\n\(Format.number(stepBench.gigaflopsPerStep, digits: 0)) GFLOP per step in products with frozen weights: "
      + "\(Format.percent(report.shareOfPeak ?? 0)) of the \(Format.number(report.peakGigaflops ?? 0, digits: 0)) GFLOP/s "
      + "that the cores do at most"
    if breakdown {
      let parts = try stepBench.breakdown(steps: max(1, runs / 2))
      report.breakdown = parts
      let total = parts.values.reduce(0, +)
      let lines = parts.sorted { $0.value > $1.value }.map {
        [$0.key, Format.number($0.value, digits: 3), Format.percent($0.value / total)]
      }
      text += "\n\n" + Format.table([["processor time per step", "seconds", "share"]] + lines)
    }
    try common.report(report, text: text)
  }
}

func median(_ values: [Double]) -> Double {
  let sorted = values.sorted()
  guard !sorted.isEmpty else { return 0 }
  let middle = sorted.count / 2
  return sorted.count % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
}

/// One run of the peer script: the better of eager and scaled-dot-product attention.
struct PeerRun {
  let seconds: Double
  let peakMemoryBytes: Int

  init(folder: URL, layers: Int, batch: Int, context: Int) throws {
    let results = try ["sdpa", "eager"].map {
      try PeerRun.measure(folder, ["\(layers)", "\(batch)", "\(context)", $0])
    }
    let best = results.min { $0.seconds < $1.seconds } ?? results[0]
    seconds = best.seconds
    peakMemoryBytes = best.bytes
  }

  private static func measure(
    _ folder: URL, _ arguments: [String]
  ) throws -> (seconds: Double, bytes: Int) {
    let script = folder.appendingPathComponent("peer_lora_step.py")
    guard FileManager.default.fileExists(atPath: script.path) else {
      throw PeatError.inputOutput(
        "There is no '\(script.path)'; --peer names the folder of the peer scripts.")
    }
    Terminal.status("running PyTorch and PEFT (\(arguments[3])) …")
    let peer = try PeerPython(folder: folder)
    let words = try peer.run([script.path] + arguments)
    // "sdpa step 5.400s tok/s 189.6 peakRSS 4367 MB …"
    guard let step = words.firstIndex(of: "step"),
      let peak = words.firstIndex(of: "peakRSS"), words.indices.contains(peak + 1),
      let seconds = Double(words[step + 1].dropLast()), let megabytes = Double(words[peak + 1])
    else { throw peer.noFigures }
    return (seconds, Int(megabytes * 1_048_576))
  }
}
