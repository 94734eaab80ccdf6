import ArgumentParser
import FedPEAT
import Foundation

struct Bench: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Measure speed and memory on this machine.",
    discussion: """
      Example: fedpeat bench step --layers 12 --batch 4 --context 256 --peer ../shared/peers

      step       one LoRA training step of a model with random weights, of GPT-2's shape or Llama's (--shape); with \
      --peer FOLDER beside PyTorch and PEFT, interleaved in the same run
      generate   greedy text of the same model, token by token; with --peer FOLDER beside transformers
      emulator   LoRA in the end blocks of an emulator 2-4-2 beside tuning all of 12 blocks
      prefix     an adapter in the top two blocks, with and without keeping what the blocks below compute
      processes  two processes of one thread beside one of two
      compress   each way to compress a model, with a text of 8 × --batch windows: time and memory
      aggregate  LoRA updates of one layer of --width, aggregated in factors beside by way of the matrix
      federation a coordinator over TLS: --clients cheap ones in --processes other processes, of which --participants fetch and send --adapter-size in \
      each of --rounds rounds: seconds of a round, and memory
      tokenizers the tokenizer of --model on --text: at once, line by line, and back, in processor time of one thread
      controller training of the planner, rounds per second of one core; with --peer FOLDER beside PyTorch
      peak       the most arithmetic the cores do together, in GFLOP/s
      peers      step and generate in several shapes, each beside its peer
      """)

  @Argument(
    help:
      "step, generate, emulator, prefix, processes, compress, aggregate, federation, tokenizers, controller, peak or peers."
  )
  var what: String

  @Option(help: "The model's shape: gpt2 or llama.")
  var shape = BenchmarkShape.gpt2

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
    help:
      "A folder with a script 'python' that runs Python with PyTorch, transformers and PEFT; no peer runs if not given."
  )
  var peer: String?

  @Flag(help: "step: also say where the processor time goes.")
  var breakdown = false

  @Flag(help: "Keep only each block's input.")
  var checkpointing = false

  @Option(help: "step: blocks with an adapter, such as 0,1,6,7; all if not given.")
  var blocks: String?

  @Flag(help: "step: tune every weight instead of an adapter.")
  var full = false

  @Option(
    help:
      "step: keep what the blocks below the adapter compute, in so much memory; none if not given."
  )
  var prefixCache: ByteCount?

  @Option(
    help: ArgumentHelp(
      "compress: a recipe, +distilled behind it to distil; may be given again; all that there are if not given.",
      valueName: "recipe"))
  var recipe: [String] = []

  @Option(
    help:
      "compress, tokenizers: the model's folder; for compress a model with random weights, in a temporary folder, if not given."
  )
  var model: String?

  @Option(help: "tokenizers: the text; needed there, else not given.")
  var text: String?

  @Option(help: "aggregate: inputs and outputs of the layer.")
  var width = 2048

  @Option(help: "aggregate, federation: how many clients. (default: 8; federation: 100)")
  var clients: Int?

  @Option(help: "aggregate: the rank of each client's update, and of the result.")
  var rank = 8

  @Option(
    help: "aggregate: measure one way only, factors or dense; both in turn if not given.")
  var way: AggregationBenchmark.Way?

  @OptionGroup var federation: FederationBenchOptions

  @OptionGroup var memory: MemoryOptions

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
    /// What was chosen to stay below --memory-limit.
    var memoryPlan: MemoryPlan?
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
    /// The peer's processor time over ours.
    var processorRatio: Double?
    /// Bytes by which the heap grew over the measured steps.
    var heapGrowthBytes: Int?
    /// Of a comparison of our own: the ratio of arithmetic, and what of it was reached.
    var operationsRatio: Double?
    var shareOfOperationsRatio: Double?
    /// The largest batches whose step stays below 10⁹ bytes.
    var largestBatches: [String: Int]?
    var prefixCacheBytes: Int?
    /// What `peers` and comparisons are made of.
    var cases: [JSONValue]?

    /// Adds what a peer measured in the same run, pair by pair, and gives its rows of a table.
    mutating func addPeer(
      _ name: String, seconds: [Double], peakMemoryBytes: [Int], tokensPerRun: Int
    ) -> [[String]] {
      let middle = median(seconds)
      let memory = Int(median(peakMemoryBytes.map(Double.init)))
      let ratio = median(zip(seconds, runs).map { $0 / $1 })
      let memoryRatio = Double(memory) / Double(self.peakMemoryBytes)
      peerSeconds = middle
      peerPeakMemoryBytes = memory
      peerRuns = seconds
      peerTokensPerSecond = Double(tokensPerRun) / middle
      self.ratio = ratio
      self.memoryRatio = memoryRatio
      return [
        Bench.row(name, middle, tokensPerRun, memory),
        ["ratio", Format.number(ratio), "", Format.number(memoryRatio)],
      ]
    }
  }

  /// A row of a table: seconds, tokens per second, peak memory.
  static func row(_ name: String, _ seconds: Double, _ tokens: Int, _ memory: Int) -> [String] {
    [
      name, Format.number(seconds, digits: 3),
      Format.number(Double(tokens) / seconds, digits: 1), Format.bytes(memory),
    ]
  }

  private static let all = [
    "step", "generate", "emulator", "prefix", "processes", "compress", "aggregate", "federation",
    "tokenizers", "controller", "peak", "peers",
  ]

  func validate() throws {
    guard Self.all.contains(what) else {
      throw ValidationError(
        "Unknown benchmark '\(what)'. \(suggestion(for: what, among: Self.all))")
    }
    for (name, value) in [
      ("layers", layers), ("batch", batch), ("context", context), ("runs", runs),
      ("prompt-tokens", promptTokens), ("tokens", tokens), ("width", width), ("rank", rank),
    ]
    where value < 1 || value > 4096 {
      throw ValidationError("--\(name) is \(value); it must be between 1 and 4096.")
    }
    try federation.validate(clients: clients)
    if context > 1024 {
      throw ValidationError("--context is \(context); the model reads up to 1024.")
    }
    if what == "peers", peer == nil {
      throw ValidationError("'bench peers' needs --peer FOLDER.")
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
    case "emulator": try await emulator()
    case "prefix": try await prefix()
    case "processes": try await processes()
    case "compress": try await compress()
    case "aggregate": try await aggregate()
    case "federation": try await measureFederation()
    case "tokenizers": try tokenizers()
    case "controller": try controller()
    case "peers": try await peers()
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
}

func median(_ values: [Double]) -> Double {
  let sorted = values.sorted()
  guard !sorted.isEmpty else { return 0 }
  let middle = sorted.count / 2
  return sorted.count % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
}
