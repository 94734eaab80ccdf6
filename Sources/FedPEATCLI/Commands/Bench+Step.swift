import FedPEAT
import Foundation

extension Bench {
  func stepSetting() throws -> StepBenchmark.Setting {
    var setting = StepBenchmark.Setting()
    setting.shape = shape
    setting.layers = layers
    setting.batch = batch
    setting.context = context
    setting.threads = common.threadCount
    setting.checkpointing = checkpointing
    setting.storage = memory.storage
    setting.memoryLimit = memory.memoryLimit?.bytes
    setting.prefixCacheBytes = prefixCache?.bytes ?? 0
    setting.seed = common.seedValue
    setting.isFull = full
    if let blocks {
      setting.adapterBlocks = try blocks.split(separator: ",").map { word in
        guard let block = Int(word), (0..<layers).contains(block) else {
          throw PeatError.usage(
            "--blocks names '\(word)'; the model has the blocks 0 to \(layers - 1).")
        }
        return block
      }
    }
    return setting
  }

  /// A training step, beside PyTorch's where a peer is given.
  func step() throws {
    let setting = try stepSetting()
    let python = try peer.map { try PeerPython(folder: URL(path: $0)) }
    let benchmark = try StepBenchmark(setting)
    if let plan = benchmark.plan {
      Terminal.note("memory       \(plan.summary): about \(Format.bytes(plan.bytes))")
    }
    var ours: [Double] = []
    var peaks: [Double] = []
    var processor: [Double] = []
    var peers: [StepPeer] = []
    _ = try benchmark.run(steps: 2)
    let heap = ProcessMeasurement.heapBytes
    for pair in 0..<runs {
      try checkInterruption()
      peaks.append(PeakMeasurement.gigaflops(threads: common.threadCount, seconds: 0.3))
      let before = ProcessMeasurement.processorSeconds
      let steps = peer == nil ? 1 : 3
      ours.append(try benchmark.run(steps: steps))
      processor.append((ProcessMeasurement.processorSeconds - before) / Double(steps))
      Terminal.status(
        "run \(pair + 1) of \(runs): \(Format.number(ours[pair], digits: 3)) s per step")
      if let python { peers.append(try StepPeer.better(python, setting)) }
    }
    let seconds = median(ours)
    var report = Report(
      what: what, seconds: seconds, tokensPerSecond: Double(batch * context) / seconds,
      peakMemoryBytes: ProcessMeasurement.peakMemoryBytes,
      gigaflops: benchmark.gigaflopsPerStep / seconds, runs: ours)
    report.memoryPlan = benchmark.plan
    report.processorSeconds = median(processor)
    report.peakGigaflops = median(peaks)
    report.shareOfPeak = median(zip(ours, peaks).map { benchmark.gigaflopsPerStep / $0 / $1 })
    report.prefixCacheBytes = benchmark.prefixCacheBytes
    if let heap, let now = ProcessMeasurement.heapBytes { report.heapGrowthBytes = now - heap }
    var rows = [
      ["", "seconds per step", "tokens/s", "peak memory"],
      Self.row("FedPEAT", seconds, batch * context, report.peakMemoryBytes),
    ]
    if !peers.isEmpty {
      rows += report.addPeer(
        "PyTorch + PEFT", seconds: peers.map(\.seconds),
        peakMemoryBytes: peers.map(\.peakMemoryBytes), tokensPerRun: batch * context)
      let ratio = median(zip(peers.map(\.processorSeconds), processor).map { $0 / $1 })
      report.processorRatio = ratio
      rows.append(["ratio of processor time", Format.number(ratio), "", ""])
    }
    var text = Format.table(rows)
    text +=
      "\n\n\(Format.number(benchmark.gigaflopsPerStep, digits: 0)) GFLOP per step in products with weights: "
      + "\(Format.percent(report.shareOfPeak ?? 0)) of the \(Format.number(report.peakGigaflops ?? 0, digits: 0)) GFLOP/s "
      + "that the cores do at most"
    if breakdown {
      let parts = try benchmark.breakdown(steps: max(1, runs / 2))
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

/// Some LoRA steps of the same shape in PyTorch with PEFT.
struct StepPeer {
  let seconds: Double
  let processorSeconds: Double
  let peakMemoryBytes: Int

  /// The better of eager and scaled-dot-product attention.
  static func better(_ python: PeerPython, _ setting: StepBenchmark.Setting) throws -> StepPeer {
    let runs = try ["sdpa", "eager"].map { try StepPeer(python, setting, attention: $0) }
    return runs.min { $0.seconds < $1.seconds } ?? runs[0]
  }

  private init(
    _ python: PeerPython, _ setting: StepBenchmark.Setting, attention: String
  ) throws {
    Terminal.status("running PyTorch and PEFT (\(attention)) …")
    let numbers = [setting.layers, setting.batch, setting.context, setting.threads].map(String.init)
    let words = try python.run(["-c", Self.script, setting.shape.rawValue] + numbers + [attention])
    func value(after word: Substring) -> Double? {
      words.firstIndex(of: word).flatMap {
        words.indices.contains($0 + 1) ? Double(words[$0 + 1]) : nil
      }
    }
    guard let seconds = value(after: "seconds"), let processor = value(after: "processor"),
      let megabytes = value(after: "megabytes")
    else { throw python.noFigures }
    self.seconds = seconds
    processorSeconds = processor
    peakMemoryBytes = Int(megabytes * 1_048_576)
  }

  private static let script = """
    import resource, statistics, sys, time
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

    shape = sys.argv[1]
    layers, batch, tokens, threads = map(int, sys.argv[2:6])
    attention = sys.argv[6]
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    if shape == "gpt2":
        model = GPT2LMHeadModel(GPT2Config(
            n_layer=layers, attn_pdrop=0, resid_pdrop=0, embd_pdrop=0,
            attn_implementation=attention))
        targets, conv = ["c_attn", "c_proj", "c_fc"], True
    else:
        model = LlamaForCausalLM(LlamaConfig(
            vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=layers,
            num_attention_heads=9, num_key_value_heads=3, max_position_embeddings=1024,
            tie_word_embeddings=True, attn_implementation=attention))
        targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
        conv = False
    vocabulary = model.config.vocab_size
    model = get_peft_model(
        model, LoraConfig(r=8, lora_alpha=16, target_modules=targets, fan_in_fan_out=conv))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    x = torch.randint(0, vocabulary, (batch, tokens))
    seconds, processor = [], []
    for _ in range(6):
        start, cpu = time.perf_counter(), time.process_time()
        loss = model(input_ids=x, labels=x).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - start)
        processor.append(time.process_time() - cpu)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        "seconds", statistics.median(seconds[2:]), "processor", statistics.median(processor[2:]),
        "megabytes", peak)
    """
}
