import Foundation
import PeatData
import PeatModels
import PeatNN
import PeatTensor
import PeatTuning
import TestSupport
import Testing

@Suite("Trainer") struct TrainerTests {
  /// A model with something to tune in it, and a trainer of that.
  private struct Run {
    let model: TransformerModel
    let injected: InjectedAdapter
    let trainer: Trainer

    init(
      _ configuration: TrainingConfiguration, method: Adapter.Method? = nil,
      blocks: [Int] = [0, 4], data: TokenDataset? = nil
    ) throws {
      model = try checkpoint().model()
      let lora = Adapter.Method.lora(try LoRAConfiguration(rank: 4, alpha: 8))
      let adapter = try Adapter(
        new: method ?? lora, for: model, blocks: blocks, seed: 2, sourceDigest: nil)
      injected = try adapter.inject(into: model)
      trainer = try Trainer(
        model, parameters: injected.parameters.map(\.parameter), data: data ?? Run.data(),
        configuration: configuration)
    }

    static func data(seed: UInt64 = 1) throws -> TokenDataset {
      try TokenDataset(randomSequences(11, seed: seed), .stream(context: 12))
    }

    /// Losses of all steps that are left.
    func finish() throws -> [Double] {
      var losses: [Double] = []
      let outcome = try trainer.run(onStep: { losses.append($0.report.loss) })
      #expect(outcome.isComplete)
      return losses
    }
  }

  private static let lively = TrainingConfiguration(
    steps: 12, batch: 3, context: 12, learningRate: 1e-2,
    schedule: .init(.cosine, warmUpSteps: 3), optimizer: .init(weightDecay: 0.1), clipNorm: 0.5,
    seed: 9)

  private static func configurations() -> [TrainingConfiguration] {
    BatchSampler.Order.allCases.flatMap { order in
      [(1, 1, false), (2, 1, false), (3, 2, true)].map { threads, accumulation, checkpointing in
        var configuration = lively
        configuration.order = order
        configuration.threads = threads
        configuration.accumulation = accumulation
        configuration.checkpointing = checkpointing
        return configuration
      }
    }
  }

  @Test(arguments: [BatchSampler.Order.shuffledEpochs, .sequential], [1, 2, 3])
  func `cached states of the frozen blocks change nothing`(
    order: BatchSampler.Order, threads: Int
  ) throws {
    var configuration = Self.lively
    configuration.order = order
    configuration.threads = threads
    let plain = try Run(configuration, blocks: [3, 4])
    configuration.prefixCacheBytes = 1 << 20
    let cached = try Run(configuration, blocks: [3, 4])
    // Room for some windows only: the others are computed each time.
    configuration.prefixCacheBytes = 20_000
    let cramped = try Run(configuration, blocks: [3, 4])
    let losses = try plain.finish()
    for run in [cached, cramped] {
      let others = try run.finish()
      for (a, b) in zip(losses, others) { #expect(abs(a - b) <= 1e-6 * a) }
      #expect(run.trainer.prefixCacheBytes > 0)
    }
    #expect(cramped.trainer.prefixCacheBytes <= 20_000)
    #expect(cached.trainer.prefixCacheBytes > cramped.trainer.prefixCacheBytes)
    #expect(plain.trainer.prefixCacheBytes == 0)
    // Where the bottom trains there is nothing to keep, and windows that start anywhere do not come again.
    configuration.order = .uniformWindows
    #expect(try Run(configuration, blocks: [3, 4]).trainer.prefixCacheBytes == 0)
  }

  @Test(arguments: configurations())
  func `same seed, same bits; another seed, others`(configuration: TrainingConfiguration) throws {
    let first = try Run(configuration)
    let second = try Run(configuration)
    let losses = try first.finish()
    #expect(losses.count == 12)
    #expect(try second.finish() == losses)
    #expect(second.injected.state == first.injected.state)
    var other = configuration
    other.seed += 1
    let third = try Run(other)
    // The order of the dataset itself has no seed.
    #expect(try (third.finish() == losses) == (configuration.order == .sequential))
  }

  @Test(arguments: configurations(), [1, 7])
  func `interrupted and resumed gives the bits of an uninterrupted run`(
    configuration: TrainingConfiguration, stop: Int
  ) throws {
    let whole = try Run(configuration)
    let losses = try whole.finish()
    try withTemporaryFolder { folder in
      let first = try Run(configuration)
      let outcome = try first.trainer.run(shouldStop: { first.trainer.step == stop })
      #expect(!outcome.isComplete && outcome.steps == stop)
      #expect(!Trainer.State.exists(in: folder))
      try first.trainer.state.write(to: folder)
      #expect(Trainer.State.exists(in: folder))
      let second = try Run(configuration)
      let state = try Trainer.State(readFrom: folder)
      #expect(state.step == stop)
      #expect(state.configuration == configuration)
      try second.trainer.resume(state)
      #expect(second.trainer.tokens == first.trainer.tokens)
      #expect(try second.finish() == Array(losses.dropFirst(stop)))
      #expect(second.injected.state == whole.injected.state)
      #expect(second.trainer.tokens == whole.trainer.tokens)
      #expect(second.model.someLogits == whole.model.someLogits)
    }
  }

  @Test func `with another trainer's moments, and terms that sum gradients up, it resumes as well`()
    throws
  {
    let before = try Run(Self.lively)
    _ = try before.finish()
    func run() throws -> Run {
      let run = try Run(Self.lively)
      let count = run.trainer.trainableCount
      run.trainer.add(
        GradientTerms(proximal: 0.3, shift: (0..<count).map { Float($0 % 7) * 1e-3 }))
      run.trainer.goOn(with: before.trainer.moments)
      return run
    }
    let whole = try run()
    let losses = try whole.finish()
    try withTemporaryFolder { folder in
      let first = try run()
      for _ in 0..<5 { _ = try first.trainer.advance() }
      try first.trainer.write(to: folder)
      // One that was started again has no moments of earlier rounds: those in the state are enough.
      let second = try Run(Self.lively)
      let state = try Trainer.State(readFrom: folder)
      expectError(.badData, "sums up gradients") { try second.trainer.resume(state) }
      let count = second.trainer.trainableCount
      second.trainer.add(
        GradientTerms(proximal: 0.3, shift: (0..<count).map { Float($0 % 7) * 1e-3 }))
      try second.trainer.resume(state)
      #expect(try second.finish() == Array(losses.dropFirst(5)))
      #expect(second.injected.state == whole.injected.state)
      let mean = try #require(whole.trainer.terms?.meanGradient)
      #expect(second.trainer.terms?.meanGradient == mean && mean.contains { $0 != 0 })
    }
  }

  @Test func `it keeps how far it is every so many steps, and where it is stopped`() throws {
    func kept(_ interval: StateKeeping.Interval?, stop: Int? = nil) throws -> [Int] {
      let trainer = try Run(Self.lively).trainer
      var steps: [Int] = []
      _ = try trainer.run(
        keeping: StateKeeping(every: interval) { steps.append($0.step) },
        shouldStop: { trainer.step == stop })
      return steps
    }
    // The last step is the end.
    #expect(try kept(.steps(4)) == [4, 8])
    #expect(try kept(.steps(5), stop: 7) == [5, 7])
    #expect(try kept(.steps(5), stop: 10) == [5, 10])
    #expect(try kept(nil, stop: 7) == [7])
    #expect(try kept(nil) == [])
    #expect(try kept(.time(.seconds(1000))) == [])
  }

  @Test func `by time it keeps at most every so often, and less where that takes long`() {
    var pace = KeepingPace(.time(.seconds(10)))
    #expect(!pace.isDue(1, at: .seconds(9)) && pace.isDue(2, at: .seconds(10)))
    pace.kept(2, from: .seconds(10), to: .milliseconds(10_100))
    #expect(!pace.isDue(3, at: .seconds(20)) && pace.isDue(4, at: .milliseconds(20_100)))
    pace.kept(4, from: .milliseconds(20_100), to: .milliseconds(22_100))
    // 2 s: a fiftieth of 100.
    #expect(!pace.isDue(5, at: .seconds(122)) && pace.isDue(6, at: .milliseconds(122_100)))
    #expect(pace.lastKept == 4)
  }

  @Test func `end blocks resume as well`() throws {
    let whole = try Run(Self.lively, method: .endBlocks)
    let losses = try whole.finish()
    let first = try Run(Self.lively, method: .endBlocks)
    for _ in 0..<5 { _ = try first.trainer.advance() }
    let second = try Run(Self.lively, method: .endBlocks)
    try second.trainer.resume(first.trainer.state)
    // A state is a copy: what the first run does afterwards is its own.
    _ = try first.trainer.advance()
    #expect(try second.finish() == Array(losses.dropFirst(5)))
    #expect(second.injected.state == whole.injected.state)
  }

  @Test func `a constant rate may be resumed for more steps`() throws {
    var configuration = Self.lively
    configuration.schedule = .init(.constant)
    configuration.steps = 12
    let whole = try Run(configuration)
    let losses = try whole.finish()
    configuration.steps = 5
    let first = try Run(configuration)
    _ = try first.finish()
    configuration.steps = 12
    let second = try Run(configuration)
    try second.trainer.resume(first.trainer.state)
    #expect(try second.finish() == Array(losses.dropFirst(5)))
  }

  @Test func `a state of another run is refused and changes nothing`() throws {
    let first = try Run(Self.lively)
    for _ in 0..<3 { _ = try first.trainer.advance() }
    let state = first.trainer.state
    func refuse(
      _ word: String, _ configuration: TrainingConfiguration, blocks: [Int] = [0, 4],
      data: TokenDataset? = nil, state: Trainer.State,
      sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
      let run = try Run(configuration, blocks: blocks, data: data)
      let before = run.injected.state
      expectError(.badData, word, sourceLocation: sourceLocation) {
        try run.trainer.resume(state)
      }
      #expect(run.injected.state == before, sourceLocation: sourceLocation)
      #expect(run.trainer.step == 0, sourceLocation: sourceLocation)
      _ = try run.trainer.advance()
    }
    for change: (inout TrainingConfiguration) -> Void in [
      { $0.learningRate *= 2 }, { $0.seed += 1 }, { $0.batch += 1 }, { $0.threads += 1 },
      { $0.clipNorm = nil }, { $0.order = .sequential }, { $0.optimizer.weightDecay = 0 },
      { $0.accumulation = 2 }, { $0.schedule.warmUpSteps = 0 },
    ] {
      var configuration = Self.lively
      change(&configuration)
      try refuse("settings differ", configuration, state: state)
    }
    var longer = Self.lively
    longer.steps += 1
    try refuse("number of steps", longer, state: state)
    try refuse("other parameters", Self.lively, blocks: [0, 3], state: state)
    try refuse("other data", Self.lively, data: Run.data(seed: 2), state: state)
  }

  @Test func `damaged state files are refused`() throws {
    let first = try Run(Self.lively)
    for _ in 0..<3 { _ = try first.trainer.advance() }
    try withTemporaryFolder { folder in
      try first.trainer.state.write(to: folder)
      let names = try FileManager.default.contentsOfDirectory(atPath: folder.path).sorted()
      #expect(names == ["training_state.json", "training_state.safetensors"])
      let facts = folder.appendingPathComponent(Trainer.State.factsName)
      let tensors = folder.appendingPathComponent(Trainer.State.tensorsName)
      let goodFacts = try Data(contentsOf: facts)
      let goodTensors = try Data(contentsOf: tensors)

      func refuse(_ word: String, _ code: PeatError.Code = .badData) throws {
        let run = try Run(Self.lively)
        let before = run.injected.state
        expectError(code, word) { try run.trainer.resume(Trainer.State(readFrom: folder)) }
        #expect(run.injected.state == before)
        try goodFacts.write(to: facts)
        try goodTensors.write(to: tensors)
      }
      func change(_ path: [String], to value: JSONValue) throws {
        func changed(_ json: JSONValue, _ path: ArraySlice<String>) -> JSONValue {
          guard let key = path.first, case .object(var table) = json else { return value }
          table[key] = changed(table[key] ?? .null, path.dropFirst())
          return .object(table)
        }
        let json = try JSONFile.read(JSONValue.self, from: facts)
        try JSONFile.write(changed(json, path[...]), to: facts)
      }
      try goodTensors.prefix(goodTensors.count - 5).write(to: tensors)
      try refuse("training_state.safetensors")
      try goodFacts.prefix(goodFacts.count / 2).write(to: facts)
      try refuse("training_state.json")
      try change(["formatVersion"], to: .integer(2))
      try refuse("formatVersion 2")
      // The two files of different steps.
      try change(["step"], to: .integer(4))
      try refuse("two different steps")
      try change(["tokens"], to: .integer(-1))
      try refuse("negative")
      try change(["sampler", "rows"], to: .integer(1))
      try refuse("drawn in another way")
      try change(["sampler", "position"], to: .integer(1 << 40))
      try refuse("no sampler writes that")
      var short = try SafeTensors.decode(goodTensors, from: "state")
      short["values"] = Tensor(zeros: [3])
      try SafeTensors.write(short, to: tensors, metadata: ["step": "3"])
      try refuse("do not fit")
      short["values"] = nil
      try SafeTensors.write(short, to: tensors, metadata: ["step": "3"])
      try refuse("do not fit")
      try FileManager.default.removeItem(at: tensors)
      try refuse("training_state.safetensors", .inputOutput)
      try FileManager.default.removeItem(at: facts)
      try refuse("training_state.json", .inputOutput)
      let run = try Run(Self.lively)
      try run.trainer.resume(Trainer.State(readFrom: folder))
      #expect(run.trainer.step == 3)
    }
  }

  @Test func `a state that can't be written leaves nothing half-written`() throws {
    let run = try Run(Self.lively)
    _ = try run.trainer.advance()
    try withTemporaryFolder { folder in
      // A folder stands where the tensors are to go.
      let place = folder.appendingPathComponent(Trainer.State.tensorsName)
      try FileManager.default.createDirectory(
        at: place.appendingPathComponent("x"), withIntermediateDirectories: true)
      expectError(.inputOutput, "training_state.safetensors") {
        try run.trainer.state.write(to: folder)
      }
      #expect(!Trainer.State.exists(in: folder))
      #expect(
        try FileManager.default.contentsOfDirectory(atPath: folder.path)
          == [Trainer.State.tensorsName])
      expectError(.inputOutput) {
        try run.trainer.state.write(to: folder.appendingPathComponent("nowhere"))
      }
    }
  }

  @Test func `a diverging step is an error, and the parameters are as before it`() throws {
    let run = try Run(Self.lively, method: .endBlocks)
    _ = try run.trainer.advance()
    // Weights that are numbers still, but whose products are not.
    let name = "model.layers.4.mlp.up_proj.weight"
    let parameter = try #require(run.injected.parameters.first { $0.name == name }).parameter
    parameter.assign(Tensor(repeating: 1e38, shape: parameter.shape))
    let before = run.injected.state
    let step = run.trainer.step
    for _ in 0..<2 {
      expectError(.badData, "diverged at step 2", "learning rate") {
        _ = try run.trainer.advance()
      }
    }
    #expect(run.injected.state == before)
    #expect(run.injected.state.values.allSatisfy { $0.isFinite })
    #expect(run.trainer.step == step)
    run.trainer.finish()
    run.injected.remove()
    #expect(run.model.someLogits == (try checkpoint().model().someLogits))
  }

  @Test func `what is no number before the first step is the weights' fault`() throws {
    let run = try Run(Self.lively, method: .endBlocks)
    let parameter = try #require(run.injected.parameters.first).parameter
    parameter.assign(Tensor(repeating: .nan, shape: parameter.shape))
    expectError(.badData, "before the first step", "weights are damaged") {
      _ = try run.trainer.advance()
    }
    #expect(run.trainer.step == 0)
  }

  @Test(arguments: [1 as Float, 100, 1000])
  func `no learning rate makes a parameter something else than a number`(rate: Float) throws {
    var configuration = Self.lively
    configuration.learningRate = rate
    configuration.schedule = .init(.constant)
    configuration.optimizer.weightDecay = 1 / rate
    configuration.clipNorm = nil
    for method in [nil, Adapter.Method.endBlocks] {
      let run = try Run(configuration, method: method)
      do { _ = try run.finish() } catch let error as PeatError { #expect(error.code == .badData) }
      #expect(run.injected.state.values.allSatisfy { $0.isFinite })
    }
  }

  @Test func `settings that make no sense`() throws {
    let changes: [(String, (inout TrainingConfiguration) -> Void)] = [
      ("steps", { $0.steps = -1 }), ("batch", { $0.batch = 0 }), ("context", { $0.context = 0 }),
      ("context", { $0.context = 65 }), ("learningRate", { $0.learningRate = 0 }),
      ("learningRate", { $0.learningRate = .nan }),
      ("learningRate", { $0.learningRate = .infinity }),
      ("learningRate", { $0.learningRate = 1e9 }),
      ("warmUpSteps", { $0.schedule.warmUpSteps = -1 }),
      ("accumulation", { $0.accumulation = 0 }), ("accumulation", { $0.accumulation = 4 }),
      ("clipNorm", { $0.clipNorm = 0 }), ("clipNorm", { $0.clipNorm = .nan }),
      ("weightDecay", { $0.optimizer.weightDecay = -1 }),
      ("weightDecay", { $0.optimizer.weightDecay = 1e6 }), ("beta", { $0.optimizer.beta1 = 1 }),
      ("beta", { $0.optimizer.beta2 = -0.1 }), ("epsilon", { $0.optimizer.epsilon = 0 }),
      ("threads", { $0.threads = 0 }), ("threads", { $0.threads = 2000 }),
    ]
    for (word, change) in changes {
      var configuration = Self.lively
      change(&configuration)
      expectError(.usage, word) { _ = try Run(configuration) }
    }
    expectError(.badData, "97") {
      _ = try Run(
        Self.lively,
        data: TokenDataset([TokenSequence([1, 2, 97, 3])], .stream(context: 12)))
    }
  }

  @Test func `a prompt is read and not learned`() throws {
    // Rows of 10 tokens, of which the last 4 are completions.
    var random = SeededRandom(seed: 4)
    let rows = (0..<4).map { _ in (0..<10).map { _ in Int32(random.integer(below: 97)) } }
    let sequences = rows.map { TokenSequence(tokens: $0, isTarget: $0.indices.map { $0 >= 6 }) }
    var configuration = Self.lively
    configuration.batch = 4
    configuration.order = .sequential
    configuration.schedule = .init(.constant)
    let run = try Run(configuration, data: TokenDataset(sequences, .documents(context: 12)))
    // −ln p of the completions alone, from the logits.
    var sum = 0.0
    for row in rows {
      let logits = run.model.logits(Array(row.dropLast()), length: 9).scalars
      for position in 5..<9 {
        let line = logits[position * 97..<(position + 1) * 97].map(Double.init)
        let top = line.max() ?? 0
        let total = line.reduce(0) { $0 + exp($1 - top) }
        sum += top + log(total) - line[Int(row[position + 1])]
      }
    }
    let report = try run.trainer.advance()
    #expect(report.tokens == 16)
    #expect(abs(report.loss - sum / 16) <= 1e-5 * sum / 16)
    // The gradient is that of the mean over 16 predictions.
    let other = try checkpoint().model()
    let adapter = try Adapter(
      new: .lora(try LoRAConfiguration(rank: 4, alpha: 8)), for: other, blocks: [0, 4], seed: 2,
      sourceDigest: nil)
    let trainable = TrainableParameters(
      try adapter.inject(into: other).parameters.map(\.parameter))
    let workers = StepWorkers(count: 1, parameterCount: trainable.count)
    _ = workers.run(SequenceLayout(rows: 36, length: 9)) { tape, layout in
      let inputs = rows.flatMap { $0.dropLast() }
      let targets = rows.flatMap { row in (1..<10).map { $0 < 6 ? -1 : row[$0] } }
      return inputs.withUnsafeBufferPointer { inputs in
        targets.withUnsafeBufferPointer {
          other.loss(
            inputs, targets: $0, layout: layout, scale: 1 / 16, on: tape)
        }
      }
    }
    let norm = squaredNorm(trainable.count, workers.gradient).squareRoot()
    #expect(norm > 0.01 && abs(report.gradientNorm - norm) <= 1e-5 * norm)
    // Packed into fewer windows each document is still read by itself.
    let packed = try Run(
      configuration, data: TokenDataset(sequences, .packed(context: 39)))
    let same = try packed.trainer.advance()
    #expect(same.tokens == 16 && abs(same.loss - report.loss) <= 1e-6 * report.loss)
    #expect(abs(same.gradientNorm - norm) <= 1e-5 * norm)
    // Learning the prompts too is something else.
    let plain = try Run(
      configuration,
      data: TokenDataset(rows.map { TokenSequence($0) }, .documents(context: 12)))
    #expect(try plain.trainer.advance().tokens == 36)
    let isOther = plain.injected.state != run.injected.state
    #expect(isOther)
  }

  @Test func `a run tells where it stands, learns, and leaves the model usable`() throws {
    var configuration = Self.lively
    configuration.steps = 40
    configuration.learningRate = 2e-2
    let run = try Run(configuration)
    let before = run.model.someLogits
    var steps: [Int] = []
    var losses: [Double] = []
    let outcome = try run.trainer.run(onStep: { progress in
      steps.append(progress.report.step)
      losses.append(progress.report.loss)
      #expect(progress.steps == 40 && progress.rate > 0 && progress.unit == .tokens)
      #expect(progress.timeLeft >= .zero)
    })
    #expect(steps == Array(1...40))
    #expect(outcome.isComplete && outcome.steps == 40 && outcome.tokens == run.trainer.tokens)
    let lastMean = losses.suffix(4).reduce(0, +) / 4
    #expect(abs(outcome.finalLoss - lastMean) < 1e-9)
    #expect(outcome.finalLoss < losses[0] - 0.5)
    #expect(run.trainer.isFinished)
    run.trainer.finish()
    #expect(run.injected.parameters.allSatisfy { !$0.parameter.trains })
    #expect(run.model.someLogits != before)
    run.injected.remove()
    #expect(run.model.someLogits == before)
    // The same parameters may be trained again.
    let again = try Run(configuration)
    again.trainer.finish()
  }

  @Test func `an interruption before the first step, and an error on the way`() throws {
    struct Stop: Error {}
    let run = try Run(Self.lively)
    let outcome = try run.trainer.run(shouldStop: { true })
    #expect(!outcome.isComplete && outcome.steps == 0 && outcome.tokens == 0)
    #expect(throws: Stop.self) {
      try run.trainer.run(onStep: { if $0.report.step == 2 { throw Stop() } })
    }
    #expect(run.trainer.step == 2)
    #expect(try run.finish().count == 10)
  }
}
