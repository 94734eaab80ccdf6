import Foundation
import PeatData
import PeatEmulation
import PeatModels
import PeatNN
import PeatTensor
import PeatTuning
import TestSupport
import Testing

@Suite("Memory of an emulator") struct EmulatorMemoryTests {
  private struct Sample {
    let source: Checkpoint
    let emulator: Emulator

    init(_ name: String, _ recipe: String) throws {
      source = try Checkpoint(
        folder: ProjectFolders.golden.appendingPathComponent("checkpoints/\(name)"))
      let full = try source.model()
      let split = try ModelSplit(
        bottom: 1, top: full.blocks.count > 3 ? 1 : 0, of: full.blocks.count)
      emulator = try EmulatorRecipe(recipe).makeEmulator(from: full, split: split)
    }

    /// The emulator in a folder, as devices get it.
    func write(to folder: URL) throws -> Checkpoint {
      try emulator.write(
        to: folder, source: source, facts: try emulator.facts(source: source, full: source.model()))
      return try Checkpoint(folder: folder)
    }
  }

  private func demands(
    _ checkpoint: Checkpoint, threads: Int = 1, batch: Int = 8, context: Int = 32
  ) throws -> MemoryDemands {
    let configuration = checkpoint.configuration
    let ends = try #require(try EmulatorFacts.read(in: checkpoint.folder)).localEndBlocks
    return MemoryDemands(
      model: configuration, packed: checkpoint.packedStorages,
      method: .lora(try LoRAConfiguration(rank: 4, alpha: 8)), blocks: ends, batch: batch,
      context: context, threads: threads)
  }

  static let recipes = [
    "layers=0", "share", "int8", "int4", "bf16", "f16", "low-rank=0.4", "prune-heads=0.5",
    "prune-channels=0.4", "layers=0,share,int8",
    "prune-heads=0.5,prune-channels=0.4,low-rank=0.6,int4",
  ]

  @Test(arguments: ["llama-tiny", "llama-tiny-untied", "gpt2-tiny"], recipes)
  func `weights are counted as they are kept`(name: String, recipe: String) throws {
    let sample = try Sample(name, recipe)
    try withTemporaryFolder { folder in
      let checkpoint = try sample.write(to: folder.appendingPathComponent("emulator"))
      let demands = try demands(checkpoint)
      #expect(checkpoint.packedStorages == sample.emulator.model.packedStorages)
      // What the emulator keeps packed stays so, in whatever storage the rest is.
      for storage in WeightStorage.allCases {
        let model = try checkpoint.model(storage: .all(storage))
        #expect(demands.weightBytes(storage) == Double(model.byteCount), "\(storage)")
      }
      let sizes = checkpoint.configuration
      for (number, block) in sample.emulator.model.blocks.enumerated() {
        let matrices = block.linears.flatMap { [$0.reduction, $0.weight].compactMap { $0 } }
        #expect(sizes.matrices(ofBlock: number).map(\.name) == matrices.map(\.name))
        #expect(sizes.matrices(ofBlock: number).map(\.count) == matrices.map(\.count))
        let vectors = block.parameters.filter { $0.shape.count == 1 }
        #expect(sizes.vectorWeights(ofBlock: number) == vectors.reduce(0) { $0 + $1.count })
      }
    }
  }

  @Test func `smaller blocks need less, shared ones are run and kept as often as they stand`()
    throws
  {
    func bytes(_ recipe: String, checkpointing: Bool = false) throws -> Int {
      let sample = try Sample("llama-tiny", recipe)
      return try withTemporaryFolder { folder in
        try demands(sample.write(to: folder.appendingPathComponent("emulator")), batch: 64).bytes(
          storage: .float32, checkpointing: checkpointing, accumulation: 1, logitRows: 256, base: 0)
      }
    }
    let whole = try bytes("layers=0:1:2")
    #expect(try bytes("int4") < bytes("int8"))
    #expect(try bytes("int8") < bytes("bf16"))
    #expect(try bytes("bf16") < whole)
    #expect(try bytes("prune-channels=0.4") < bytes("prune-channels=0.8"))
    #expect(try bytes("prune-heads=0.5") < whole)
    #expect(try bytes("layers=0") < bytes("layers=0,share"))
    // All of a shared middle but its weights is as in the whole model.
    let weights = 2 * 4 * (2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 40 + 2 * 32)
    #expect(try abs(whole - weights - bytes("layers=0,share")) < 64)
    #expect(try bytes("int4", checkpointing: true) < bytes("int4"))
  }

  @Test(arguments: ["llama-tiny", "gpt2-tiny"], recipes)
  func `a step is refused where it does not fit, by what plans count, and nowhere else`(
    name: String, recipe: String
  ) throws {
    let sample = try Sample(name, recipe)
    try withTemporaryFolder { folder in
      let checkpoint = try sample.write(to: folder.appendingPathComponent("emulator"))
      var plans = try demands(checkpoint, threads: 2)
      plans.adapterCopies = 0
      let emulator = try Emulator(folder: checkpoint.folder)
      let injected = try Adapter(
        new: .lora(try LoRAConfiguration(rank: 4, alpha: 8)), for: emulator.model,
        blocks: emulator.split.ends, seed: 0, sourceDigest: nil
      ).inject(into: emulator.model)
      defer { injected.remove() }
      for checkpointing in [false, true] {
        let configuration = TrainingConfiguration(
          steps: 1, batch: 8, context: 32, accumulation: 2, checkpointing: checkpointing,
          threads: 2)
        // What the plan keeps in reserve for the process is not the step's.
        let planned =
          plans.bytes(
            storage: .float32, checkpointing: checkpointing, accumulation: 2,
            logitRows: configuration.logitRows, base: 0) - 3_000_000
        let own = MemoryDemands(
          of: emulator.model, tuning: injected.parameters.map(\.parameter), configuration,
          isRagged: false, sharesGradient: false)
        func check(_ machine: Int) throws {
          try own.check(
            configuration, weightBytes: emulator.model.byteCount, machine: Double(machine))
        }
        try check(planned + 1)
        expectError(.usage, "A step of 8 windows of 32 tokens", "Make batch or context smaller") {
          try check(planned - 1)
        }
      }
    }
  }

  @Test func `what trains says what a step takes`() throws {
    let model = try Sample("llama-tiny", "layers=0,share").emulator.model
    let configuration = TrainingConfiguration(steps: 1, batch: 8, context: 32, threads: 2)
    func demands(_ parameters: [Parameter], shares: Bool = false) -> MemoryDemands {
      MemoryDemands(
        of: model, tuning: parameters, configuration, isRagged: false, sharesGradient: shares)
    }
    func bytes(_ demands: MemoryDemands) -> Int {
      demands.bytes(
        storage: .float32, checkpointing: false, accumulation: 1, logitRows: 64, base: 0)
    }
    let middle = model.blocks[1].parameters
    let top = model.blocks[2].parameters
    #expect(demands(middle).frozenPrefix == 1)
    // The shared block stands in three places.
    #expect(demands(top).frozenPrefix == 4)
    #expect(demands([model.embedding]).frozenPrefix == 0)
    #expect(demands(model.parameters).trainableWeights == model.parameterCount)
    #expect(bytes(demands(top)) < bytes(demands(middle)))
    // The second thread's gradient.
    let count = middle.reduce(0) { $0 + $1.count }
    #expect(bytes(demands(middle)) - bytes(demands(middle, shares: true)) == 4 * count)
  }

  /// What a step's activations took, beside what the plan counts for them.
  @Test(
    arguments: ["llama-tiny", "gpt2-tiny"],
    [
      "layers=0", "share", "int8", "low-rank=0.4", "prune-heads=0.5,prune-channels=0.4",
      "layers=0,share",
    ])
  func `activations take what is counted for them`(name: String, recipe: String) throws {
    let emulator = try Sample(name, recipe).emulator
    let model = emulator.model
    var random = SeededRandom(seed: 5)
    let context = 32
    let tokens = (0..<256 * context + 1).map { _ in Int32(random.integer(below: 90)) }
    let ends = model.blocks.indices.filter {
      !emulator.split.middle.contains(model.blocks[$0].numberInFullModel)
    }
    for (checkpointing, threads) in [(false, 1), (true, 1), (false, 2)] {
      let method = Adapter.Method.lora(try LoRAConfiguration(rank: 4, alpha: 8))
      let adapter = try Adapter(
        new: method, for: model, blocks: emulator.split.ends, seed: 0, sourceDigest: nil)
      let injected = try adapter.inject(into: model)
      defer { injected.remove() }
      let trainer = try Trainer(
        model, parameters: injected.parameters.map(\.parameter),
        data: try TokenDataset([TokenSequence(tokens)], .stream(context: context)),
        configuration: TrainingConfiguration(
          steps: 2, batch: 256, context: context, learningRate: 1e-3, checkpointing: checkpointing,
          order: .sequential, seed: 0, threads: threads))
      for _ in 0..<2 { _ = try trainer.advance() }
      let demands = MemoryDemands(
        model: model.configuration, packed: model.packedStorages, method: method, blocks: ends,
        batch: 256, context: context, threads: threads)
      let counted = demands.activationBytes(
        checkpointing: checkpointing, accumulation: 1,
        logitRows: trainer.configuration.logitRows)
      let taken = Double(trainer.activationBytes)
      trainer.finish()
      // Buffers leave gaps; a plan allows 4 % for them.
      #expect((0.96...1.15).contains(counted / taken), "\(counted) of \(taken)")
    }
  }
}
