import ArgumentParser
import FedPEAT
import Foundation

/// What a new adapter is like where no option says something else; for the options' help.
private let standard = MethodOptions()

struct Tune: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Tune one adapter, here, on your own data.",
    discussion: """
      Example: fedpeat tune emulator --data mine.txt --method lora --rank 8 --alpha 16 --steps 100 --out adapter

      On an emulator the adapter sits in the end blocks; on a full model in all blocks, unless --bottom and --top say \
      which ends. Methods: lora; dora (LoRA whose rows' norms train apart); ia3 (learned scales of keys, values and \
      feed-forward); norm-tuning (the blocks' norms); bitfit (the blocks' biases); end-blocks (the blocks' own weights); \
      prefix-tuning (learned keys and values in front of \
      each sequence's); prompt-tuning (learned embeddings in front of each sequence's); bottleneck (small layers behind \
      attention and feed-forward); full (every weight; writes a whole checkpoint). \
      Data: text, a JSON array, JSON lines with text or prompt and completion, or Alpaca-style instructions (the prompt \
      is not learned); or a folder of such files. Ctrl-C saves a state in the output folder, beside what an earlier run wrote there; --resume goes \
      on from it.
      """)

  @Argument(help: "A model or emulator: its folder, or its name on the Hub.")
  var model: String

  @Option(help: "What to tune on.")
  var data: String

  @Option(
    help:
      "lora, dora, ia3, norm-tuning, bitfit, end-blocks, prefix-tuning, prompt-tuning, bottleneck or full; lora, or the method of --from, if not given."
  )
  var method: String?

  @Option(help: "LoRA and DoRA: rank. (default: \(standard.rank))")
  var rank: Int?

  @Option(
    help: "LoRA and DoRA: the update is scaled with alpha / rank. (default: \(standard.alpha))")
  var alpha: Double?

  @Option(
    help:
      "LoRA, DoRA, IA3: linear layers that get one, such as q_proj,v_proj, all-linear, or one regular expression, such as '.*layers\\.0\\..*(q|v)_proj'; all, or IA3's usual, if not given."
  )
  var targetModules: String?

  @Option(
    help:
      "LoRA, DoRA, IA3: those of them that get none, in the same words; none if not given.")
  var excludeModules: String?

  @Flag(help: "LoRA and DoRA: scale with alpha / √rank instead.")
  var rankStabilized = false

  @Option(
    help:
      "LoRA and DoRA: other ranks of some layers, such as down_proj=2,layers.0.mlp.up_proj=4; none if not given."
  )
  var rankPattern: String?

  @Option(help: "LoRA and DoRA: other alphas of some layers, such as v_proj=32; none if not given.")
  var alphaPattern: String?

  @Option(
    help:
      "LoRA and DoRA: the blocks that get one, by their number in the full model, such as 0,11; all if not given."
  )
  var layers: String?

  @Option(
    help:
      "LoRA and DoRA: how probable it is that training drops a value of what goes into a layer's A. (default: \(standard.dropout), or that of --from)"
  )
  var dropout: Double?

  @Option(
    help:
      "IA3: targets whose input is scaled instead of their output; the feed-forward layer's last if not given."
  )
  var feedForwardModules: String?

  @Option(
    help:
      "Prefix and prompt tuning: learned tokens in front of each sequence. (default: \(standard.virtualTokens))"
  )
  var virtualTokens: Int?

  @Option(
    help:
      "Prefix and prompt tuning: a text to start from, repeated or cut to so many tokens; random tokens if not given."
  )
  var initialText: String?

  @Option(
    help:
      "Bottleneck adapters: values between the two layers. (default: \(standard.bottleneckSize))"
  )
  var bottleneckSize: Int?

  @Option(help: "Bottleneck adapters: relu or gelu. (default: \(standard.activation.rawValue))")
  var activation: String?

  @Option(
    help:
      "On a full model: only so many blocks at the bottom, together with --top; all blocks if neither is given."
  )
  var bottom: Int?

  @Option(
    help:
      "On a full model: only so many blocks at the top, together with --bottom; all blocks if neither is given."
  )
  var top: Int?

  @Flag(
    help:
      "LoRA and DoRA: only B trains, A stays as it is: what aggregate --strategy ffa takes. Start all from one A, by --seed or --from."
  )
  var freezeA = false

  @Option(
    help:
      "What is learned: next-token; masked-tokens, to say what stands at hidden places; or classification, to tell apart the classes of labelled texts (CSV or JSON lines with text and label); what the model's head is for if not given."
  )
  var task: String?

  @Option(
    help:
      "Classification: the classes in the order of the model's outputs, such as good,bad; the model's own, or those of the texts, if not given."
  )
  var labels: String?

  @Flag(
    help:
      "Classification: let a new head, drawn by --seed, take the place of the model's own, for --labels or the data's classes."
  )
  var newHead = false

  @Option(help: "Optimizer steps; 0 writes the adapter as it begins.")
  var steps = 100

  @Option(help: "Windows per step.")
  var batch = 8

  @Option(
    help:
      "Input tokens per window; \(RunConfiguration.usualContext), or the model's longest if that is less, if not given."
  )
  var context: Int?

  @Option(
    help:
      "Learning rate; \(MethodWords.usualRates) if not given."
  )
  var learningRate: Float?

  @Option(help: "Course of the learning rate: constant, linear or cosine.")
  var schedule = "constant"

  @Option(help: "Steps in which the rate rises from 0.")
  var warmUp = 0

  @Option(help: "AdamW's weight decay, for matrices.")
  var weightDecay: Float = 0

  @Option(
    help: "Scale gradients with a larger norm down to this; they stay as they are if not given.")
  var clip: Float?

  @Option(help: "Compute each step's batch in so many parts, to need less memory.")
  var accumulation = 1

  @Flag(help: "Keep only each block's input and compute the block again, to need less memory.")
  var checkpointing = false

  @Option(
    help:
      "How documents are laid into windows: stream, packed or documents; fits the data if not given."
  )
  var layout: String?

  @Flag(
    inversion: .prefixedNo,
    help: "Begin each document with the begin token; as the tokenizer does if not given.")
  var bos: Bool?

  @Option(
    help:
      "Hold back this share of the data, and measure the loss on it at the end; nothing is held back if not given."
  )
  var validationShare: Double?

  @Option(help: "The folder to write.")
  var out: String

  @Option(
    help:
      "Start from this adapter's values, with its method, rank and alpha; from new ones if not given."
  )
  var from: String?

  @Flag(
    help: "Also write the result as an update (update.safetensors, update.json), for aggregate.")
  var update = false

  @Option(help: "The name that the update is signed with.")
  var client = "local"

  @Flag(help: "Go on from the state that an interrupted run left in the output folder.")
  var resume = false

  @Option(help: "Save the state every so many steps; only when interrupted if not given.")
  var saveEvery: Int?

  @Option(
    help: ArgumentHelp(
      "Keep what the frozen blocks below the adapter compute between epochs, in so much memory; none if not given.",
      valueName: "size"))
  var prefixCache: ByteCount?

  @Option(
    help:
      "Noise on the states behind an emulator's middle, as a share of their root mean square: it keeps the adapter from fitting what only the emulator does."
  )
  var stateNoise = 0.0

  @OptionGroup var streaming: StreamOptions

  @OptionGroup var memory: MemoryOptions

  @OptionGroup var common: CommonOptions

  struct Report: Encodable {
    var steps: Int
    /// Null where there was no step.
    var finalLoss: JSONValue
    var validationLoss: Double?
    /// Predicted tokens; null where classes are learned.
    var tokensPerSecond: Double?
    /// Texts or pictures whose class is learned; null where tokens are.
    var examplesPerSecond: Double?
    var peakMemoryBytes: Int
    var trainableParameters: Int
    var seconds: Double
    /// What was chosen to stay below --memory-limit.
    var memoryPlan: MemoryPlan?
    /// How frozen weights were kept.
    var storage: String
    var prefixCacheBytes: Int
  }

  func run() async throws {
    let target = URL(path: out)
    try CheckpointWriter.checkOutput(
      target,
      inputs: [URL(model: model), URL(path: data)] + (from.map { [try URL(adapter: $0)] } ?? []),
      isAdapter: method != "full")
    try checkWords()
    let saved = try Trainer.State.read(in: target, resume: resume)
    var chosen: (configuration: TrainingConfiguration, plan: MemoryPlan?)?
    var parts: (training: TokenDataset, validation: TokenDataset?)?
    let streams = try streams()
    if !streams { try memory.memoryLimit?.checkReading(URL(path: data)) }
    let loaded = try LoadedModel(
      URL(model: model), classes: classes(), head: headPolicy, seed: common.seedValue
    ) { checkpoint, emulator, reader in
      try chosenTask()?.check(checkpoint.configuration, named: model)
      let longest = checkpoint.configuration.contextLength
      let virtual = try adapterMethod()?.virtualTokens ?? 0
      try checkpoint.configuration.checkRoom(forVirtualTokens: virtual)
      let wanted = try trainingConfiguration(longest: longest - virtual)
      try check(wanted, longest: longest, virtualTokens: virtual)
      DataCautions.tell(URL(path: data), for: checkpoint.configuration)
      // The data first: what it takes is there already when memory is planned.
      let documents =
        streams ? nil : try checkpoint.configuration.documents(in: URL(path: data))
      let arrangement = documents.map(arrangement(of:)) ?? .stream
      parts = try datasets(
        documents, reader, checkpoint.configuration, arrangement, context: wanted.context)
      ProcessMeasurement.releaseFreeMemory()
      return try plan(
        checkpoint, emulator, arrangement, saved,
        sequencesPerWindow: parts?.training.mostSequencesInWindow ?? 1,
        pairs: parts?.training.largestPairs ?? [], into: &chosen)
    }
    guard let (planned, plan) = chosen, let (training, validation) = parts else {
      throw PeatError(.internalError, "The model was read without a plan.")
    }
    var configuration = planned
    guard loaded.adapter == nil else {
      throw PeatError.usage(
        "'\(model)' carries an adapter; tune the model it was plugged into, or a merged one.")
    }

    // Of a text, windows that start anywhere; of documents, each once per epoch.
    if case .stream = training.arrangement { configuration.order = .uniformWindows }
    let work = try prepare(loaded, exampleCount: training.windowCount)
    let trainer = try Trainer(
      loaded.model, parameters: work.parameters, data: training, configuration: configuration)
    trainer.modelDigest = loaded.checkpoint.digest()
    trainer.method = work.method
    if let state = saved {
      guard state.step < steps else {
        throw PeatError.usage(
          "'\(out)' was saved at step \(state.step); --steps \(steps) leaves nothing to do.")
      }
      try trainer.resume(state)
      Terminal.note("resumed at step \(trainer.step) of \(steps)")
    }
    let tell = { (progress: Trainer.Progress) in
      Terminal.status(
        "step \(progress.report.step) of \(progress.steps)  loss \(Format.number(progress.report.loss, digits: 4))  "
          + "\(Format.number(progress.rate, digits: 0)) \(progress.unit.perSecond)  \(Format.time(progress.timeLeft)) left"
      )
    }
    let outcome = try trainer.run(
      keeping: StateKeeping(every: saveEvery.map { .steps($0) }) { try $0.save(in: target) },
      shouldStop: { Interruption.isRequested }, onStep: tell)
    guard outcome.isComplete else {
      throw PeatError(
        .interrupted,
        "Interrupted at step \(trainer.step) of \(steps). The state is saved; go on with the same command and --resume."
      )
    }
    trainer.finish()
    let validationLoss = try validation.map {
      // Under a limit a window at a time: the plan counts what a part of a step takes, and this is no more.
      try $0.meanLoss(
        loaded.model, rows: plan == nil ? batch : 1, logitRows: configuration.logitRows,
        threads: common.threadCount)
    }
    try work.write(target, outcome)
    let report = Report(
      steps: outcome.steps, finalLoss: outcome.steps > 0 ? .number(outcome.finalLoss) : .null,
      validationLoss: validationLoss,
      tokensPerSecond: outcome.unit == .tokens ? outcome.rate : nil,
      examplesPerSecond: outcome.unit == .examples ? outcome.rate : nil,
      peakMemoryBytes: ProcessMeasurement.peakMemoryBytes,
      trainableParameters: trainer.trainableCount,
      seconds: outcome.seconds, memoryPlan: plan, storage: loaded.model.storage.rawValue,
      prefixCacheBytes: trainer.prefixCacheBytes)
    var rows = [
      ["written to", out],
      ["trainable parameters", Format.count(report.trainableParameters)],
      ["steps", Format.count(report.steps)],
      ["final loss", outcome.steps > 0 ? Format.number(outcome.finalLoss, digits: 4) : "–"],
    ]
    if let validationLoss {
      rows.append(["validation loss", Format.number(validationLoss, digits: 4)])
    }
    rows += [
      [outcome.unit.perSecond, Format.number(outcome.rate, digits: 0)],
      ["frozen weights kept as", report.storage],
      ["peak memory", Format.bytes(report.peakMemoryBytes)],
    ]
    if report.prefixCacheBytes > 0 {
      rows.append(["kept of frozen blocks", Format.bytes(report.prefixCacheBytes)])
    }
    try common.report(report, text: Format.table(rows))
  }

  /// Decides how the step is computed and weights are kept, before a weight is read.
  private func plan(
    _ checkpoint: Checkpoint, _ emulator: EmulatorFacts?, _ arrangement: LocalTuning.Layout,
    _ saved: Trainer.State?, sequencesPerWindow: Int, pairs: [PairSize],
    into chosen: inout (configuration: TrainingConfiguration, plan: MemoryPlan?)?
  ) throws -> StoragePlan {
    let model = checkpoint.configuration
    let adapterMethod = try adapterMethod()
    let virtual = adapterMethod?.virtualTokens ?? 0
    var configuration = try trainingConfiguration(longest: model.contextLength - virtual)
    try check(configuration, longest: model.contextLength, virtualTokens: virtual)
    let ends = try localBlocks(checkpoint, emulator)
    var demands = MemoryDemands(
      model: model, packed: checkpoint.packedStorages, method: adapterMethod, blocks: ends,
      batch: batch, context: configuration.context, threads: configuration.threads)
    demands.isRagged = arrangement != .stream
    demands.sequencesPerWindow = sequencesPerWindow
    demands.pairs = pairs
    demands.fileBytesPerWeight = checkpoint.halfBytesPerWeight
    // Another storage would give other numbers than the run that was interrupted.
    let wanted = saved?.storage ?? memory.storage
    if let wanted { try demands.check(wanted) }
    var plan: MemoryPlan?
    if let saved {
      plan = try checkFlags(saved, demands)
      configuration.checkpointing = saved.configuration.checkpointing
      configuration.accumulation = saved.configuration.accumulation
      configuration.logitRows = saved.configuration.logitRows
    } else {
      plan = try memory.plan(
        demands, checkpointing: checkpointing, accumulation: accumulation,
        besides: prefixCache?.bytes ?? 0)
      if let plan { configuration = configuration.following(plan) }
    }
    chosen = (configuration, plan)
    return .frozen(
      as: wanted ?? plan?.storage ?? .float32, tuning: adapterMethod, blocks: ends, of: model)
  }

  /// Throws where a setting makes no sense, in the words of the flags.
  private func check(
    _ configuration: TrainingConfiguration, longest: Int, virtualTokens: Int
  ) throws {
    do {
      try configuration.validate(
        contextLength: longest, virtualTokens: virtualTokens, allowsNoSteps: true)
    } catch let error as PeatError {
      let flags = [
        "learningRate": "--learning-rate", "weightDecay": "--weight-decay",
        "stateNoise": "--state-noise", "warmUpSteps": "--warm-up", "clipNorm": "--clip",
        "prefixCacheBytes": "--prefix-cache",
      ]
      let message = flags.reduce(error.message) {
        $0.replacingOccurrences(of: $1.key, with: $1.value)
      }
      throw PeatError(error.code, message, cause: error.cause)
    }
  }

  /// Throws where a flag asks for something else than the interrupted run did; gives the plan that it followed, where
  /// there is a limit.
  private func checkFlags(
    _ saved: Trainer.State, _ demands: MemoryDemands
  ) throws -> MemoryPlan? {
    let before = saved.configuration
    func refuse(_ flag: String, _ was: String) -> PeatError {
      .usage(
        "\(flag) does not fit the state in '\(out)', which was saved with \(was). Leave it out, or start again without --resume."
      )
    }
    if let storage = memory.storage, storage != saved.storage {
      throw refuse("--storage \(storage.rawValue)", saved.storage.rawValue)
    }
    if checkpointing, !before.checkpointing { throw refuse("--checkpointing", "none") }
    if accumulation != 1, accumulation != before.accumulation {
      throw refuse("--accumulation \(accumulation)", "\(before.accumulation)")
    }
    guard let limit = memory.memoryLimit else { return nil }
    let bytes = demands.bytes(
      storage: saved.storage, checkpointing: before.checkpointing,
      accumulation: before.accumulation, logitRows: before.logitRows,
      // The state that was read is among what the plan counts; the rest differs a little from process to process, within the
      // plan's reserve.
      base: max(0, ProcessMeasurement.memoryBytes - 12 * demands.trainable - 8_000_000))
    guard bytes <= limit.bytes else {
      throw PeatError.usage(
        "The run that was interrupted takes about \(Format.bytes(bytes)), more than --memory-limit allows. Allow more, or start "
          + "again without --resume.")
    }
    return MemoryPlan(
      storage: saved.storage, checkpointing: before.checkpointing,
      accumulation: before.accumulation, logitRows: before.logitRows, bytes: bytes)
  }

  /// The classes to tell apart; `nil` where next tokens are learned, or the model's own classes.
  private func classes() throws -> [String]? {
    let asked = try chosenTask()
    let tuned = try from.flatMap { try AdapterFolder.classes(of: URL(adapter: $0)) }
    guard asked == .classification || labels != nil || newHead else {
      // The head that was tuned with an adapter says the task, too.
      return asked == nil ? tuned : nil
    }
    let own = try Checkpoint(folder: URL(model: model)).configuration
    guard (asked ?? .init(headOf: own)) == .classification else {
      let flag = labels != nil ? "--labels are" : "--new-head is"
      throw PeatError.usage(
        "\(flag) of --task classification; '\(model)' has no head of classes, and \(asked.map { "the task is \($0.rawValue)" } ?? "no task is given"). Give --task classification."
      )
    }
    if newHead, let from {
      throw PeatError.usage(
        "--from '\(from)' brings the head that was tuned with it; --new-head would draw another. Leave one of both out."
      )
    }
    if let labels {
      let names = labels.split(separator: ",").map(String.init)
      guard names.count > 1, Set(names).count == names.count else {
        throw PeatError.usage(
          "--labels are two or more classes, each once, such as good,bad; found '\(labels)'.")
      }
      return names
    }
    if let tuned { return tuned }
    let known = newHead ? nil : own.head?.labels
    return try known
      ?? ClassificationTask.labels(of: own.documents(in: URL(path: data), classes: true))
  }

  /// What becomes of a head of classes that the model has.
  private var headPolicy: ClassHead {
    newHead ? .drawn : from != nil && labels == nil ? .fitted : .kept
  }

  /// The task that was asked for; `nil`: what the model's head is for.
  private func chosenTask() throws -> RunConfiguration.Task? {
    try task.map { word in
      guard let task = RunConfiguration.Task(rawValue: word) else {
        throw PeatError.usage(
          "Unknown task '\(word)'. "
            + suggestion(for: word, among: RunConfiguration.Task.allCases.map(\.rawValue)))
      }
      return task
    }
  }

  /// Whether the data is read piece by piece: not where documents are to stand alone, as those do of which a part is not learned.
  private func streams() throws -> Bool {
    let file = URL(path: data)
    guard try streaming.isFor(file) else { return false }
    let hasGivenParts = try StreamedText.sample(of: file, bytes: 1 << 16).contains(
      where: \.hasGivenPart)
    guard
      (layout.map { $0 != LocalTuning.Layout.stream.rawValue } ?? hasGivenParts)
        || task == RunConfiguration.Task.classification.rawValue
    else { return true }
    if streaming.stream == true {
      throw PeatError.usage(
        "--stream lays texts into one stream; this data is laid out document by document. Give --layout stream, or leave --stream out."
      )
    }
    return false
  }

  /// How documents will be laid into windows: prompts that are not learned only make sense document by document.
  private func arrangement(of documents: [Document]) -> LocalTuning.Layout {
    layout.flatMap(LocalTuning.Layout.init(rawValue:))
      ?? (documents.contains(where: \.hasGivenPart) ? .packed : .stream)
  }

  /// The blocks that an adapter will sit in, numbered in this checkpoint.
  private func localBlocks(_ checkpoint: Checkpoint, _ emulator: EmulatorFacts?) throws -> [Int] {
    let count = checkpoint.configuration.blockCount
    if let emulator { return emulator.localEndBlocks }
    guard bottom != nil || top != nil else { return Array(0..<count) }
    return try ModelSplit(bottom: bottom ?? 0, top: top ?? 0, of: count).ends
  }

  /// Throws where a word is not known, before anything is read.
  private func checkWords() throws {
    let method = self.method ?? LoRA.name
    if update, method == "full" {
      throw PeatError.usage("--update makes an update of an adapter; --method full tunes none.")
    }
    if from != nil, self.method == "full" {
      throw PeatError.usage("--from starts from an adapter; --method full tunes none.")
    }
    _ = try ClientID(typed: client)
    let methods = Adapter.Method.names + ["full"]
    guard methods.contains(method) else {
      throw PeatError.usage(
        "Unknown method '\(method)'. " + suggestion(for: method, among: methods))
    }
    if from == nil {
      try MethodOptions.check(methodOptionsGiven, of: method) { $0.flag }
    }
    if let layout, LocalTuning.Layout(rawValue: layout) == nil {
      throw PeatError.usage(
        "Unknown layout '\(layout)'. "
          + suggestion(for: layout, among: LocalTuning.Layout.allCases.map(\.rawValue)))
    }
  }

  private func trainingConfiguration(longest: Int) throws -> TrainingConfiguration {
    guard let course = LearningRateSchedule.Course(rawValue: schedule) else {
      throw PeatError.usage(
        "Unknown schedule '\(schedule)'. "
          + suggestion(for: schedule, among: LearningRateSchedule.Course.allCases.map(\.rawValue)))
    }
    if let saveEvery, saveEvery < 1 {
      throw PeatError.usage("--save-every is \(saveEvery); it must be at least 1.")
    }
    return TrainingConfiguration(
      steps: steps, batch: batch, context: context ?? min(RunConfiguration.usualContext, longest),
      learningRate: try learningRate
        ?? MethodOptions.usualLearningRate(of: adapterMethod()?.name ?? "full"),
      schedule: .init(course, warmUpSteps: warmUp), optimizer: .init(weightDecay: weightDecay),
      clipNorm: clip, accumulation: accumulation, checkpointing: checkpointing,
      prefixCacheBytes: prefixCache?.bytes ?? 0, stateNoise: stateNoise, seed: common.seedValue,
      threads: common.threadCount
    )
  }

  private func datasets(
    _ documents: [Document]?, _ reader: InputReader, _ model: TransformerConfiguration,
    _ arrangement: LocalTuning.Layout, context: Int
  ) throws -> (training: TokenDataset, validation: TokenDataset?) {
    let all =
      try documents.map {
        try TokenDataset.make(
          $0, reader: reader, for: model, layout: arrangement, context: context, addBegin: bos,
          seed: common.seedValue)
      }
      ?? TokenDataset.streaming(
        URL(path: data), reader: reader, for: model, context: context, addBegin: bos,
        seed: common.seedValue)
    CutTexts(context: context, shortened: all.shortenedDocuments).tell(
      of: all.documentCount, advice: "--context allows more, where the model reads more")
    guard let validationShare else { return (all, nil) }
    let parts = try all.split(validationShare: validationShare, seed: common.seedValue)
    return (parts.training, parts.validation)
  }

  /// What trains, and how it is written at the end.
  private struct Work {
    var parameters: [Parameter]
    /// `nil`: every weight.
    var method: Adapter.Method?
    var write: (URL, Trainer.Outcome) throws -> Void
  }

  private func prepare(_ loaded: LoadedModel, exampleCount: Int) throws -> Work {
    if method == "full" {
      return Work(parameters: loaded.model.parameters, method: nil) { target, _ in
        var files = try loaded.checkpoint.filesBesideWeights()
        files.merge(try CheckpointWriter.mark("full")) { $1 }
        if let emulator = loaded.emulator { files["emulator.json"] = try JSONFile.encode(emulator) }
        try CheckpointWriter.write(
          to: target, tensors: loaded.model.tensors,
          raw: loaded.emulator == nil
            ? loaded.checkpoint.unusedWeights(beside: loaded.model) : [:],
          configuration: loaded.checkpoint.configurationJSON, otherFiles: files)
      }
    }
    let adapter = try startingAdapter(loaded)
    let injected = try adapter.inject(into: loaded.model)
    let isFrozen = { (name: String) in freezeA && LowRankNames.layer(ofDown: name) != nil }
    guard !freezeA || injected.parameters.contains(where: { isFrozen($0.name) }) else {
      throw PeatError.usage(
        "--freeze-a is for LoRA; the method '\(adapter.method.name)' has no A.")
    }
    let trained = injected.parameters.filter { !isFrozen($0.name) }
    return Work(parameters: trained.map(\.parameter), method: adapter.method) { target, outcome in
      var tuned = adapter
      tuned.state = injected.state
      try AdapterFolder.write(
        tuned, facts: facts(loaded, adapter.method), configuration: loaded.model.configuration,
        baseModel: model, to: target,
        otherFiles: try updateFiles(
          tuned, from: adapter, classes: loaded.model.configuration.head?.labels, exampleCount,
          outcome))
    }
  }
}
