import Foundation
import PeatData
import PeatEmulation
import PeatModels
import PeatNN
import PeatTensor
import PeatTuning
import TestSupport
import Testing

@Suite("Compressions that look at a text") struct CalibratedCompressionTests {
  private struct Sample {
    let checkpoint: Checkpoint
    let full: TransformerModel
    let split: ModelSplit
    let data: TokenDataset
    let calibration: CompressionCalibration

    init(_ name: String) throws {
      checkpoint = try Checkpoint(
        folder: ProjectFolders.golden.appendingPathComponent("checkpoints/\(name)"))
      full = try checkpoint.model()
      split = try ModelSplit(bottom: 1, top: full.blocks.count > 3 ? 1 : 0, of: full.blocks.count)
      var random = SeededRandom(seed: 8)
      let tokens = (0..<600).map { _ in Int32(random.integer(below: 97)) }
      data = try TokenDataset(
        [TokenSequence(tokens: tokens, isTarget: tokens.map { _ in true })], .stream(context: 20))
      calibration = CompressionCalibration(data, windows: 24, threads: 2)
    }

    func emulator(_ recipe: String) throws -> Emulator {
      try EmulatorRecipe(recipe).makeEmulator(from: full, split: split, calibration: calibration)
    }

    /// How far the states behind the middle are off.
    func error(_ recipe: String) throws -> Double {
      try emulator(recipe).stateError(beside: full, on: calibration)
    }
  }

  private static let models = ["llama-tiny", "gpt2-tiny"]

  @Test(arguments: models)
  func `gradients of the middle's matrices are those that a trainer finds`(name: String) throws {
    let sample = try Sample(name)
    var found: [String: Tensor] = [:]
    let sampled = CompressionCalibration(sample.data, windows: 24, threads: 2)
    sampled.descend(
      sample.full, sample.split, paths: \.linearPaths
    ) { _, seen in
      for (name, sums) in seen { found[name] = sums.gradients?.weight }
    }
    let model = try sample.full.sharingWeights()
    let matrices = sample.split.middle.flatMap { model.blocks[$0].linears }.map(\.weight)
    #expect(Set(found.keys) == Set(matrices.map(\.name)))
    let rows = min(24, sample.data.windowCount) / 4
    let trainer = try Trainer(
      model, parameters: matrices, data: sample.data,
      configuration: TrainingConfiguration(
        steps: 1, batch: rows, context: 20, learningRate: 1e-3, order: .sequential, threads: 1))
    let gradient = trainer.gradient()
    trainer.finish()
    var sampler = BatchSampler(sample.data, .sequential, rows: rows, seed: 0)
    let targets = Float(sampler.next().targetCount)
    var offset = 0
    for matrix in matrices {
      let sum = try #require(found[matrix.name])
      // Σ g · xᵀ is [outputs, inputs] in either layout.
      let own = sample.full.configuration.layout == .outputsByInputs ? sum : sum.transposed()
      let expected = gradient[offset..<offset + matrix.count]
      offset += matrix.count
      let largest = expected.map(\.magnitude).max() ?? 0
      for (place, value) in expected.enumerated() {
        #expect(abs(own.pointer[place] / targets - value) <= 1e-3 * largest + 1e-7)
      }
    }
  }

  @Test(arguments: models)
  func `integers that are compensated leave states nearer`(name: String) throws {
    let sample = try Sample(name)
    let (plain, better) = (try sample.error("int4"), try sample.error("int4=gptq"))
    #expect(better < 0.9 * plain, "\(better) beside \(plain)")
    #expect(try sample.error("int8=gptq") < 0.05 * plain)
    let emulator = try sample.emulator("int4=gptq")
    #expect(
      emulator.model.blocks[1].linears.allSatisfy { $0.weight.storage == .int4 })
    // What is written is what was made.
    try withTemporaryFolder { folder in
      let place = folder.appendingPathComponent("emulator")
      try emulator.write(
        to: place, source: sample.checkpoint,
        facts: try emulator.facts(source: sample.checkpoint, full: sample.full))
      let tokens: [Int32] = [1, 5, 90, 33]
      #expect(
        try Emulator(folder: place).model.logits(tokens, length: 4)
          == emulator.model.logits(tokens, length: 4))
    }
    // Shared blocks are packed once, factors both.
    #expect(try sample.error("layer-drop=1,share,int8=gptq").isFinite)
    let factored = try sample.emulator("low-rank=0.3,int4=gptq")
    #expect(
      factored.model.blocks[1].linears.allSatisfy {
        $0.weight.storage == .int4 && $0.reduction?.storage ?? .int4 == .int4
      })
  }

  @Test func `of all matrices of a rank the weighted one's outputs are nearest`() throws {
    var random = SeededRandom(seed: 2)
    func normal(_ shape: [Int]) -> Tensor {
      Tensor((0..<shape.reduce(1, *)).map { _ in random.normal() }, shape: shape)
    }
    let weights = normal([10, 16])
    let inputs = matrixProduct(normal([50, 16]), normal([16, 16]))
    let (left, right) = try WeightedLowRank.factors(
      of: weights, inputs: matrixProduct(inputs.transposed(), inputs), named: "w", rank: 4)
    let off = matrixProduct(left, right)
    for place in 0..<off.count { off.pointer[place] -= weights.pointer[place] }
    let error = matrixProduct(off, inputs.transposed()).withUnsafeBufferPointer {
      $0.reduce(0) { $0 + Double($1) * Double($1) }
    }
    // Eckart and Young: what is lost at least are the smaller singular values of all outputs.
    let outputs = try SingularValues(
      of: matrixProduct(weights, inputs.transposed()), named: "outputs")
    let least = outputs.values.dropFirst(4).reduce(0) { $0 + Double($1) * Double($1) }
    #expect(error >= 0.999 * least && error <= 1.01 * least, "\(error) beside \(least)")
  }

  @Test(arguments: models)
  func `weighted ranks leave states nearer, and all of them leave them as they are`(
    name: String
  ) throws {
    let sample = try Sample(name)
    let (plain, better) = (
      try sample.error("low-rank=0.4"), try sample.error("weighted-low-rank=0.4")
    )
    #expect(better < plain, "\(better) beside \(plain)")
    #expect(try sample.error("weighted-low-rank=1") < 1e-6)
    // Behind a word that makes layers narrower, too.
    #expect(try sample.error("prune-channels=0.5,weighted-low-rank=0.5").isFinite)
    #expect(try sample.error("layer-drop=1,share,weighted-low-rank=0.5").isFinite)
  }

  @Test func `scores of ranks and channels are those of the whole matrices`() throws {
    var random = SeededRandom(seed: 5)
    func normal(_ shape: [Int]) -> Tensor {
      Tensor((0..<shape.reduce(1, *)).map { _ in random.normal() }, shape: shape)
    }
    let weights = normal([6, 9])
    let (x, g) = (normal([30, 9]), normal([30, 6]))
    let inputs = matrixProduct(x.transposed(), x)
    let gradients = MatrixStatistics.Gradients(
      outputs: matrixProduct(g.transposed(), g), weight: matrixProduct(g.transposed(), x))
    func terms(_ part: Tensor) -> (change: Double, loss: Double) {
      let moved = matrixProduct(matrixProduct(gradients.outputs, part), inputs)
      var (change, loss) = (0.0, 0.0)
      for place in 0..<part.count {
        change += Double(moved.pointer[place].magnitude)
        loss -= Double(part.pointer[place]) * Double(gradients.weight.pointer[place])
      }
      return (change, loss)
    }
    func expect(_ found: GradientScore.Terms, _ place: Int, _ part: Tensor) {
      let expected = terms(part)
      #expect(abs(found.changes[place] / expected.change - 1) < 1e-3)
      #expect(abs(found.losses[place] - expected.loss) < 1e-3 * (1 + expected.loss.magnitude))
    }
    let values = try SingularValues(of: weights, named: "w")
    let ranks = GradientScore.ranks(values, inputs: inputs, gradients)
    for k in 0..<6 {
      let factors = values.factors(of: [k])
      expect(ranks, k, matrixProduct(factors.left, factors.right))
    }
    let rows = GradientScore.channels(weights, areInputs: false, inputs: inputs, gradients)
    let columns = GradientScore.channels(weights, areInputs: true, inputs: inputs, gradients)
    for row in 0..<6 {
      let part = Tensor(zeros: [6, 9])
      for column in 0..<9 { part.pointer[row * 9 + column] = weights.pointer[row * 9 + column] }
      expect(rows, row, part)
    }
    for column in 0..<9 {
      let part = Tensor(zeros: [6, 9])
      for row in 0..<6 { part.pointer[row * 9 + column] = weights.pointer[row * 9 + column] }
      expect(columns, column, part)
    }
  }

  @Test(arguments: models)
  func `gradient words keep what they say, and all of it leaves the model as it is`(
    name: String
  ) throws {
    let sample = try Sample(name)
    let emulator = try sample.emulator("gradient-channels=0.4,gradient-ranks=0.3")
    let model = sample.full.configuration
    let sizes = try #require(emulator.model.configuration.variation.sizes["1"])
    #expect(sizes.feedForwardSize == Int((0.4 * Double(model.feedForwardSize)).rounded(.up)))
    let ranks = emulator.model.configuration.variation.ranks
    #expect(!ranks.isEmpty)
    #expect(
      ranks.keys.allSatisfy { key in model.keys.attentionPaths.contains { key.hasSuffix($0) } })
    #expect(try sample.error("gradient-channels=1,gradient-ranks=1") < 1e-6)
    #expect(try sample.error("layer-drop=1,gradient-channels=0.5").isFinite)
  }

  @Test(arguments: models + ["llama-tiny-bf16"])
  func `of each matrix the largest weights stay, and only they are stored`(name: String) throws {
    let sample = try Sample(name)
    let emulator = try sample.emulator("magnitude=0.3")
    for number in sample.split.middle {
      for (own, whole) in zip(
        emulator.model.blocks[number].linears, sample.full.blocks[number].linears)
      {
        let (kept, all) = (own.weight.tensor, whole.weight.tensor)
        let places = (0..<all.count).filter { kept.pointer[$0] != 0 }
        #expect(places.count == Int((0.3 * Double(all.count)).rounded(.up)))
        #expect(places.allSatisfy { kept.pointer[$0] == all.pointer[$0] })
        let least = places.map { all.pointer[$0].magnitude }.min() ?? 0
        #expect(
          (0..<all.count).allSatisfy {
            kept.pointer[$0] != 0 || all.pointer[$0].magnitude <= least
          })
      }
    }
    try withTemporaryFolder { folder in
      let place = folder.appendingPathComponent("emulator")
      try emulator.write(
        to: place, source: sample.checkpoint,
        facts: try emulator.facts(source: sample.checkpoint, full: sample.full))
      let tokens: [Int32] = [1, 5, 90, 33]
      let read = try Emulator(folder: place)
      #expect(read.model.logits(tokens, length: 4) == emulator.model.logits(tokens, length: 4))
      let bytes = try Checkpoint(folder: place).byteCount
      #expect(bytes < sample.checkpoint.byteCount)
    }
    // Nothing is gained where nearly all stays.
    let most = try sample.emulator("magnitude=0.99").facts(
      source: sample.checkpoint, full: sample.full)
    #expect(most.storage.values.allSatisfy { $0.packing == nil })
  }

  @Test(
    arguments: models + ["llama-tiny-bf16"],
    ["bf16", "f16", "int8", "int4", "int8=gptq", "int4=gptq"])
  func `only what is not zero is stored in fewer bits, too`(name: String, word: String) throws {
    let sample = try Sample(name)
    let sparse = try sample.emulator("magnitude=0.2")
    let emulator = try sample.emulator("magnitude=0.2,\(word)")
    for number in sample.split.middle {
      for (own, thin) in zip(
        emulator.model.blocks[number].linears, sparse.model.blocks[number].linears)
      {
        let (kept, all) = (own.weight.tensor, thin.weight.tensor)
        #expect((0..<all.count).allSatisfy { all.pointer[$0] != 0 || kept.pointer[$0] == 0 })
        #expect((0..<all.count).contains { kept.pointer[$0] != 0 })
      }
    }
    try withTemporaryFolder { folder in
      func written(_ emulator: Emulator) throws -> URL {
        let place = folder.appendingPathComponent(emulator.recipe.description)
        try emulator.write(
          to: place, source: sample.checkpoint,
          facts: try emulator.facts(source: sample.checkpoint, full: sample.full))
        return place
      }
      let place = try written(emulator)
      let facts = try #require(try EmulatorFacts.read(in: place))
      #expect(facts.storage.values.contains { $0.packing == SparseTensor.packing })
      let tokens: [Int32] = [1, 5, 90, 33]
      let read = try Emulator(folder: place)
      #expect(read.model.logits(tokens, length: 4) == emulator.model.logits(tokens, length: 4))
      #expect(read.model.byteCount == emulator.model.byteCount)
      #expect(read.model.blocks[1].linears[0].weight.packed != nil)
      func bytes(_ place: URL) throws -> Int { try Checkpoint(folder: place).byteCount }
      let (own, dense, wide) = try (
        bytes(place), bytes(written(sample.emulator(word))), bytes(written(sparse))
      )
      #expect(own < dense)
      // Half of numbers of 16 bits is saved where the source has 32.
      #expect(name == "llama-tiny-bf16" || own < wide)
      // Another shape than the model's.
      let file = place.appendingPathComponent("emulator.json")
      var json = try #require(
        JSONSerialization.jsonObject(with: Data(contentsOf: file)) as? [String: Any])
      var storage = try #require(json["storage"] as? [String: [String: Any]])
      let sparseNames = storage.filter { $0.value["shape"] != nil }.map(\.key)
      let key = try #require(sparseNames.min())
      storage[key]?["shape"] = [3, 5]
      json["storage"] = storage
      try JSONSerialization.data(withJSONObject: json).write(to: file)
      #expect(throws: PeatError.self) { _ = try Emulator(folder: place) }
    }
    // Nothing is gained where nearly all stays.
    let most = try sample.emulator("magnitude=0.99,\(word)").facts(
      source: sample.checkpoint, full: sample.full)
    #expect(most.storage.values.allSatisfy { $0.packing != SparseTensor.packing })
  }

  @Test func `zeros stay zeros while the middle is distilled`() throws {
    let sample = try Sample("llama-tiny")
    let emulator = try EmulatorRecipe("magnitude=0.3").makeUnpacked(
      from: sample.full, split: sample.split)
    let matrices = sample.split.middle.flatMap { emulator.model.blocks[$0].linears }.map(\.weight)
    let before = matrices.map { $0.tensor.copied() }
    var settings = DistillationSettings()
    (settings.steps, settings.batch, settings.context) = (5, 4, 16)
    let distillation = try Distillation(
      emulator, full: sample.full, data: sample.data, settings: settings)
    while !distillation.trainer.isFinished { _ = try distillation.trainer.advance() }
    distillation.trainer.finish()
    for (matrix, old) in zip(matrices, before) {
      let new = matrix.tensor
      #expect(new != old)
      #expect((0..<old.count).allSatisfy { (old.pointer[$0] == 0) == (new.pointer[$0] == 0) })
    }
  }

  @Test(arguments: [
    ("int4=best", "gptq"), ("int8=", "gptq"), ("magnitude=0", "above 0"),
    ("magnitude=0.5,magnitude=0.5", "twice"), ("low-rank=0.5,magnitude=0.5", "can't follow"),
    ("int8,magnitude=0.5", "can't follow"), ("weighted-low-rank", "share of singular values"),
    ("low-rank=0.5,weighted-low-rank=0.5", "twice"), ("gradient-ranks=0.5,low-rank=1", "twice"),
    ("prune-heads=0.5,gradient-ranks=0.5", "can't follow prune-heads"),
    ("prune-channels=0.5,gradient-channels=0.5", "twice"),
  ])
  func `recipes that make no sense say so`(recipe: String, says: String) throws {
    let sample = try Sample("llama-tiny")
    expectError(.usage, says) {
      try EmulatorRecipe(recipe).check(sample.full.configuration, sample.split)
    }
  }

  @Test(arguments: [
    "int4=gptq", "weighted-low-rank=0.5", "gradient-ranks=0.5", "gradient-channels=0.5",
  ])
  func `without a text they say what to do`(recipe: String) throws {
    let sample = try Sample("llama-tiny")
    expectError(.usage, "needs a text", "--calibration") {
      _ = try EmulatorRecipe(recipe).makeEmulator(from: sample.full, split: sample.split)
    }
  }
}
