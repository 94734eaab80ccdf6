import FedPEAT
import Foundation

extension Bench {
  /// Greedy generation, beside transformers' where a peer is given.
  func generate() throws {
    let threads = common.threadCount
    let storage = memory.storage ?? .float32
    let python = try peer.map { try PeerPython(folder: URL(path: $0)) }
    let benchmark = try GenerationBenchmark(
      layers: layers, promptTokens: promptTokens, tokens: tokens, threads: threads,
      storage: storage, seed: common.seedValue)
    _ = try benchmark.run()
    // Before the measurement of reading takes memory of its own.
    let peakMemory = ProcessMeasurement.peakMemoryBytes
    let reading = ReadMeasurement()
    var ours: [Double] = []
    var bandwidths: [Double] = []
    var peers: [GenerationPeer] = []
    for run in 0..<runs {
      try checkInterruption()
      bandwidths.append(reading.gigabytesPerSecond(threads: threads))
      ours.append(try benchmark.run())
      Terminal.status(
        "run \(run + 1) of \(runs): \(Format.number(Double(tokens) / ours[run], digits: 1)) tokens/s"
      )
      if let python {
        Terminal.status("running transformers …")
        peers.append(
          try GenerationPeer(
            python, layers: layers, promptTokens: promptTokens, tokens: tokens, threads: threads))
      }
    }
    let seconds = median(ours)
    func read(_ seconds: Double) -> Double {
      Double(benchmark.weightBytes * tokens) / seconds / 1e9
    }
    var report = Report(
      what: what, seconds: seconds, tokensPerSecond: Double(tokens) / seconds,
      peakMemoryBytes: peakMemory, runs: ours)
    report.weightBytes = benchmark.weightBytes
    report.gigabytesPerSecond = read(seconds)
    report.peakGigabytesPerSecond = median(bandwidths)
    report.shareOfReadBandwidth = median(zip(ours, bandwidths).map { read($0) / $1 })
    var rows = [
      ["", "seconds", "tokens/s", "peak memory"],
      Self.row("FedPEAT, \(storage.rawValue)", seconds, tokens, peakMemory),
    ]
    if !peers.isEmpty {
      rows += report.addPeer(
        "transformers, f32", seconds: peers.map(\.seconds),
        peakMemoryBytes: peers.map(\.peakMemoryBytes), tokensPerRun: tokens)
    }
    let share = report.shareOfReadBandwidth ?? 0
    try common.report(
      report,
      text: Format.table(rows) + "\n\n\(promptTokens) + \(tokens) tokens, median of \(runs): "
        + "\(Format.bytes(benchmark.weightBytes)) of weights for each token, "
        + "\(Format.number(read(seconds), digits: 1)) GB/s, \(Format.percent(share)) of the "
        + "\(Format.number(median(bandwidths), digits: 1)) GB/s that \(threads) threads read at most"
    )
  }
}

/// Two runs of transformers in one process; the faster counts.
private struct GenerationPeer {
  let seconds: Double
  let peakMemoryBytes: Int

  init(
    _ python: PeerPython, layers: Int, promptTokens: Int, tokens: Int, threads: Int
  ) throws {
    let words = try python.run(
      ["-c", Self.script] + [layers, promptTokens, tokens, threads, 2].map(String.init))
    // "seconds 3.9572 megabytes 957" for each run.
    func values(after word: Substring) -> [Double] {
      zip(words, words.dropFirst()).compactMap { $0 == word ? Double($1) : nil }
    }
    guard let seconds = values(after: "seconds").min(),
      let megabytes = values(after: "megabytes").max()
    else { throw python.noFigures }
    self.seconds = seconds
    peakMemoryBytes = Int(megabytes * 1_048_576)
  }

  private static let script = """
    from resource import RUSAGE_SELF, getrusage
    from sys import argv
    from time import perf_counter
    from torch import inference_mode, manual_seed, ones_like, randint, set_num_threads
    from transformers import GPT2Config, GPT2LMHeadModel

    layers, prompt_tokens, new_tokens, threads, runs = map(int, argv[1:6])
    set_num_threads(threads)
    manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(n_layer=layers)).eval()
    prompt = randint(0, 50257, (1, prompt_tokens))


    def generate(count):
        with inference_mode():
            result = model.generate(
                prompt, attention_mask=ones_like(prompt), do_sample=False, use_cache=True,
                min_new_tokens=count, max_new_tokens=count, pad_token_id=0)
        assert result.shape[1] == prompt_tokens + count


    generate(min(new_tokens, 4))
    for _ in range(runs):
        start = perf_counter()
        generate(new_tokens)
        seconds = perf_counter() - start
        megabytes = getrusage(RUSAGE_SELF).ru_maxrss / 1024
        print(f"seconds {seconds:.4f} megabytes {megabytes:.0f}", flush=True)
    """
}
