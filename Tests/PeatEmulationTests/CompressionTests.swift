import Foundation
import PeatData
import PeatEmulation
import PeatModels
import PeatTensor
import PeatTuning
import Synchronization
import TestSupport
import Testing

@Suite("Compressing the middle") struct CompressionTests {
  private struct Sample {
    let checkpoint: Checkpoint
    let full: TransformerModel
    let split: ModelSplit
    let tokens: [Int32] = [1, 5, 90, 33, 0, 96, 7, 7, 12]

    init(_ name: String = "llama-tiny") throws {
      checkpoint = try Checkpoint(
        folder: ProjectFolders.golden.appendingPathComponent("checkpoints/\(name)"))
      full = try checkpoint.model()
      split = try ModelSplit(bottom: 1, top: full.blocks.count > 3 ? 1 : 0, of: full.blocks.count)
    }

    func emulator(_ recipe: String) throws -> Emulator {
      try EmulatorRecipe(recipe).makeEmulator(from: full, split: split)
    }

    func logits(_ model: TransformerModel) -> Tensor {
      model.logits(tokens, length: tokens.count)
    }
  }

  private func difference(_ left: Tensor, _ right: Tensor) -> Float {
    left.withUnsafeBufferPointer { left in
      right.withUnsafeBufferPointer { right in
        zip(left, right).map { abs($0 - $1) }.max() ?? 0
      }
    }
  }

  static let models = ["llama-tiny", "llama-tiny-bf16", "gpt2-tiny", "gpt2-tiny-f16"]

  @Test(
    arguments: models,
    [
      "int8", "int4", "bf16", "f16", "low-rank=0.4", "low-rank=0.3,int8", "layers=1,share,int4",
      "layers=0",
    ])
  func `what is written is what was made`(name: String, recipe: String) throws {
    let sample = try Sample(name)
    let emulator = try sample.emulator(recipe)
    try withTemporaryFolder { folder in
      let place = folder.appendingPathComponent("emulator")
      let facts = try emulator.facts(source: sample.checkpoint, full: sample.full)
      try emulator.write(to: place, source: sample.checkpoint, facts: facts)
      let read = try Emulator(folder: place)
      let (made, again) = (sample.logits(emulator.model), sample.logits(read.model))
      // Factors are stored as their source is, which rounds them.
      let isRounded = recipe.contains("low-rank") && (name.hasSuffix("16"))
      #expect(difference(made, again) <= (isRounded ? 0.05 : 0), "\(difference(made, again))")
      #expect(read.recipe == emulator.recipe)
      #expect(read.model.byteCount == emulator.model.byteCount)
      #expect(
        read.model.blocks.flatMap(\.linears).map(\.weight.storage)
          == emulator.model.blocks.flatMap(\.linears).map(\.weight.storage))
      // Ends are as they were.
      for number in sample.split.ends {
        let own = read.model.blocks.first { $0.numberInFullModel == number }
        #expect(
          own?.parameters.map(\.tensor) == sample.full.blocks[number].parameters.map(\.tensor))
      }
    }
  }

  @Test func `integers come near, and the fewer bits the smaller`() throws {
    let sample = try Sample()
    let exact = sample.logits(sample.full)
    let (eight, four) = (try sample.emulator("int8"), try sample.emulator("int4"))
    let most = difference(exact, Tensor(zeros: exact.shape))
    // Half a percent from each of 21 matrices in a row.
    #expect(difference(sample.logits(eight.model), exact) < 0.05 * most)
    #expect(difference(sample.logits(four.model), exact) < 0.25 * most)
    #expect(four.model.byteCount < eight.model.byteCount)
    #expect(eight.model.byteCount < sample.full.byteCount)
  }

  @Test func `shared blocks are run in the place of missing ones`() throws {
    let sample = try Sample()
    let shared = try sample.emulator("layers=0:2,share")
    // Of two kept neighbours the later stands for the one between them.
    let expected = try sample.full.selecting(blocks: [0, 1, 3, 3, 4].sorted())
    #expect(shared.model.configuration.order == [0, 1, 2, 2, 3])
    #expect(sample.logits(shared.model) == sample.logits(expected))
    #expect(shared.model.parameterCount < expected.parameterCount)
    #expect(shared.keptBlocks == [0, 1, 3, 4])
    #expect(try sample.emulator("share").model.configuration.variation == .none)
  }

  @Test func `a low rank keeps so many singular values, and all of them keep everything`() throws {
    for name in ["llama-tiny", "gpt2-tiny"] {
      let sample = try Sample(name)
      let exact = sample.logits(sample.full)
      #expect(difference(sample.logits(try sample.emulator("low-rank=1").model), exact) < 1e-4)
      let half = try sample.emulator("low-rank=0.4")
      let path = try #require(half.model.configuration.variation.ranks.keys.min())
      let linear = try #require(half.model.blocks.flatMap(\.linears).first { $0.name == path })
      let smaller = min(linear.inputs, linear.outputs)
      #expect(
        half.model.configuration.variation.ranks[path]
          == Int((0.4 * Double(smaller)).rounded(.up)))
      #expect(half.model.byteCount < sample.full.byteCount)
    }
  }

  @Test(arguments: models)
  func `what is pruned computes what the model does without those channels and heads`(
    name: String
  ) throws {
    let sample = try Sample(name)
    let pruned = try sample.emulator("prune-channels=0.4,prune-heads=0.5")
    let sizes = try #require(pruned.model.configuration.variation.sizes["1"])
    let model = sample.full.configuration
    #expect(sizes.feedForwardSize == Int((0.4 * Double(model.feedForwardSize)).rounded(.up)))
    #expect(sizes.keyValueHeads == Int((0.5 * Double(model.keyValueHeads)).rounded(.up)))
    #expect(sizes.heads * model.keyValueHeads == sizes.keyValueHeads * model.heads)
    #expect(pruned.model.parameterCount < sample.full.parameterCount)
    // In the full model, all that is not in the pruned one is set to zero: rows that lead to channels, columns that lead from heads.
    var tensors = sample.full.tensors.copied()
    for number in sample.split.middle {
      let (whole, own) = (sample.full.blocks[number], pruned.model.blocks[number])
      for (linear, small) in zip(whole.linears, own.linears) {
        tensors[linear.weight.name] = Self.spread(
          small.weight.tensor, in: linear.weight.tensor)
        if let bias = linear.bias, let ownBias = small.bias {
          tensors[bias.name] = Self.spread(ownBias.tensor, in: bias.tensor)
        }
      }
    }
    let zeroed = try TransformerModel(
      configuration: model, tensors: tensors, source: "zeroed")
    #expect(difference(sample.logits(zeroed), sample.logits(pruned.model)) < 2e-4)
    let same = try sample.emulator("prune-channels=1,prune-heads=1")
    #expect(sample.logits(same.model) == sample.logits(sample.full))
  }

  @Test func `heads that share keys and values go one by one where few are to stay`() throws {
    let sample = try Sample()
    let model = sample.full.configuration
    #expect(model.heads == 4 && model.keyValueHeads == 2)
    let pruned = try sample.emulator("prune-heads=0.2")
    let sizes = try #require(pruned.model.configuration.variation.sizes["1"])
    #expect(sizes.heads == 1 && sizes.keyValueHeads == 1)
    // In the full model: the group with the larger product of norms, and in it the head with the larger part in the output.
    let width = model.headWidth
    let tensors = sample.full.tensors.copied()
    for number in sample.split.middle {
      let name = "model.layers.\(number).self_attn"
      let values = try #require(tensors["\(name).v_proj.weight"])
      let outputs = try #require(tensors["\(name).o_proj.weight"])
      func square(_ tensor: Tensor, rows: Range<Int>, columns: Range<Int>) -> Double {
        rows.reduce(0) { sum, row in
          columns.reduce(sum) {
            let value = Double(tensor.pointer[row * tensor.shape[1] + $1])
            return $0 + value * value
          }
        }
      }
      func part(_ head: Int) -> Double {
        square(
          outputs, rows: 0..<outputs.shape[0], columns: head * width..<(head + 1) * width)
      }
      let groups = (0..<2).map { group in
        square(
          values, rows: group * width..<(group + 1) * width, columns: 0..<values.shape[1])
          * (part(2 * group) + part(2 * group + 1))
      }
      let group = groups[0] >= groups[1] ? 0 : 1
      let head = 2 * group + (part(2 * group) >= part(2 * group + 1) ? 0 : 1)
      for other in 0..<4 where other != head {
        for row in 0..<outputs.shape[0] {
          for column in other * width..<(other + 1) * width {
            outputs.pointer[row * outputs.shape[1] + column] = 0
          }
        }
      }
    }
    let zeroed = try TransformerModel(
      configuration: model, tensors: tensors, source: "zeroed")
    #expect(difference(sample.logits(zeroed), sample.logits(pruned.model)) < 2e-4)
    // Groups go first: half of the heads is one of two groups, whole.
    let half = try sample.emulator("prune-heads=0.5").model.configuration.variation.sizes["1"]
    #expect(half?.heads == 2 && half?.keyValueHeads == 1)
  }

  @Test func `a share of n is rounded up as exact arithmetic does`() {
    for hundredths in 1...100 {
      for count in [1, 3, 8, 25, 50, 100, 172, 200, 300, 768, 2048, 3072, 11008, 589_824] {
        let share = Double("0.\(hundredths < 10 ? "0" : "")\(hundredths)") ?? 1
        #expect(
          ceiling(hundredths == 100 ? 1 : share, of: count) == (hundredths * count + 99) / 100,
          "\(hundredths) hundredths of \(count)")
      }
    }
    // What is above a whole number by little is above it.
    #expect(ceiling(0.500001, of: 100) == 51)
    #expect(ceiling(1e-300, of: 5) == 1)
  }

  @Test func `a weight that is no number is found`() throws {
    let sample = try Sample()
    try sample.full.checkWeights(source: "sound")
    let tensors = sample.full.tensors.copied()
    let name = "model.layers.2.mlp.up_proj.weight"
    try #require(tensors[name]).pointer[7] = .infinity
    let damaged = try TransformerModel(
      configuration: sample.full.configuration, tensors: tensors, source: "damaged")
    expectError(.badData, "'damaged'", "'\(name)'") {
      try damaged.checkWeights(source: "damaged")
    }
  }

  /// The values of a smaller tensor in their places in a larger one, which are found by what is equal; all others 0.
  private static func spread(_ small: Tensor, in whole: Tensor) -> Tensor {
    func lines(_ tensor: Tensor, _ isRow: Bool) -> [[Float]] {
      let columns = tensor.shape.count > 1 ? tensor.shape[1] : 1
      let rows = tensor.shape[0]
      return tensor.withUnsafeBufferPointer { values in
        isRow
          ? (0..<rows).map { row in Array(values[row * columns..<(row + 1) * columns]) }
          : (0..<columns).map { column in (0..<rows).map { values[$0 * columns + column] } }
      }
    }
    guard small.shape != whole.shape else { return whole.copied() }
    let result = Tensor(zeros: whole.shape)
    let columns = whole.shape.count > 1 ? whole.shape[1] : 1
    let isRow = small.shape[0] != whole.shape[0]
    let wholeLines = lines(whole, isRow)
    var next = 0
    for line in lines(small, isRow) {
      // In the same order, so each is looked for behind the one before.
      guard let place = wholeLines[next...].firstIndex(of: line) else { continue }
      for (index, value) in line.enumerated() {
        result.pointer[isRow ? place * columns + index : index * columns + place] = value
      }
      next = place + 1
    }
    return result
  }

  private var randomTokens: [Int32] {
    var random = SeededRandom(seed: 8)
    return (0..<600).map { _ in Int32(random.integer(below: 97)) }
  }

  /// A text of random tokens, whose states each word ranks in its own way.
  private func calibration() throws -> CompressionCalibration {
    let tokens = randomTokens
    let data = try TokenDataset(
      [TokenSequence(tokens: tokens, isTarget: tokens.map { _ in true })], .stream(context: 20))
    return CompressionCalibration(data, windows: 24, threads: 2)
  }

  @Test func `blocks that do nothing are the first to go`() throws {
    let sample = try Sample()
    // The second of the middle's blocks adds nothing to the residual stream.
    var tensors = sample.full.tensors.copied()
    for path in ["self_attn.o_proj", "mlp.down_proj"] {
      let name = "model.layers.2.\(path).weight"
      tensors[name] = Tensor(zeros: try #require(tensors[name]).shape)
    }
    let model = try TransformerModel(
      configuration: sample.full.configuration, tensors: tensors, source: "with an idle block")
    let emulator = try EmulatorRecipe("importance=2").makeEmulator(
      from: model, split: sample.split, calibration: try calibration())
    #expect(emulator.keptBlocks == [0, 1, 3, 4])
    #expect(sample.logits(emulator.model) == sample.logits(model))
    // The two without which the loss is highest, computed by hand.
    let tokens = randomTokens
    let losses = try sample.split.middle.map { number in
      let without = try model.selecting(blocks: (0..<5).filter { $0 != number })
      return tokens.dropLast(120 - 1).withUnsafeBufferPointer { all in
        without.loss(
          UnsafeBufferPointer(rebasing: all[..<480]),
          targets: UnsafeBufferPointer(rebasing: all[1...480]),
          layout: SequenceLayout(rows: 480, length: 20), on: Tape()
        ).mean
      }
    }
    let lossKept = try EmulatorRecipe("loss-importance=2").makeEmulator(
      from: model, split: sample.split, calibration: try calibration()
    ).keptBlocks
    let least = try #require(losses.indices.min { losses[$0] < losses[$1] })
    #expect(lossKept == (0..<5).filter { $0 != least + 1 }, "\(losses)")
    // Its states are those of the block before it: both are one group, of which the later member is kept.
    let clustered = try EmulatorRecipe("cluster=2").makeEmulator(
      from: model, split: sample.split, calibration: try calibration())
    #expect(clustered.keptBlocks == [0, 2, 3, 4])
    expectError(.usage, "needs a text", "--calibration") {
      _ = try sample.emulator("importance=2")
    }
  }

  @Test(arguments: [
    ("importance=4", "more blocks than the middle has, 3"), ("cluster=0", "at least 1"),
    ("loss-importance", "at least 1"), ("prune-heads=0", "above 0"),
    ("prune-channels=2", "at most 1"),
    ("prune-heads", "needs the share"),
    ("prune-heads=0.5,prune-heads=0.5", "twice"), ("low-rank=0.5,prune-heads=0.5", "can't follow"),
    ("layers=3", "the middle has 3 blocks"), ("layers=1:0", "rising order"), ("layers", "rising"),
    ("share=2", "takes no value"), ("share,share", "twice"), ("share,layer-drop=2", "can't follow"),
    ("int8,layer-drop=2", "can't follow"), ("int8,int4", "two storages"), ("int8=3", "no value"),
    ("low-rank=0", "above 0"), ("low-rank=1.5", "at most 1"), ("low-rank=nan", "above 0"),
    ("low-rank=0.5,low-rank=0.5", "twice"), ("layer-drop=2,layers=2", "has 2 blocks"),
  ])
  func `recipes that make no sense say so`(recipe: String, says: String) throws {
    let sample = try Sample()
    expectError(.usage, says) {
      try EmulatorRecipe(recipe).check(sample.full.configuration, sample.split)
    }
  }

  @Test(arguments: [
    "prune-channels=0.5,prune-heads=0.5", "low-rank=0.5", "weighted-low-rank=0.5,int8",
    "gradient-channels=0.5,gradient-ranks=0.5,int4=gptq", "magnitude=0.3", "share,low-rank=0.4",
  ])
  func `a ladder's levels are those that are made one by one`(words: String) throws {
    let sample = try Sample()
    let text = try calibration()
    var blocks = LevelBlocks()
    for drops in ["layer-drop=3", "layer-drop=3,layer-drop=2", "layer-drop=3,layer-drop=1"] {
      let recipe = try EmulatorRecipe("\(drops),\(words)")
      let told = Mutex<[String]>([])
      let level = try recipe.makeUnpacked(
        from: sample.full, split: sample.split, calibration: text, sharing: &blocks
      ) { progress in told.withLock { $0.append(progress.word) } }
      try level.pack(text)
      let alone = try recipe.makeEmulator(
        from: sample.full, split: sample.split, calibration: text)
      #expect(level.keptBlocks == alone.keptBlocks)
      #expect(level.model.configuration == alone.model.configuration)
      #expect(level.model.tensors == alone.model.tensors, "\(recipe)")
      // Words that look at a text or compute singular values do so once.
      #expect(told.withLock { $0.isEmpty } || drops == "layer-drop=3", "\(recipe)")
    }
  }

  @Test(arguments: [
    ("exposure", "-5", "exposure of -5"), ("exposure", "1e308", "a share, from 0 to 1"),
    ("recipe", #"[{"name": "layer-drop", "value": "77"}]"#, "which it can't"),
    ("recipe", #"[{"name": "layers", "value": "0"}, {"name": "share"}]"#, "which it can't"),
    ("recipe", #"[{"name": "layers", "value": "0:2"}]"#, "does not ask for"),
    ("variation", #"{"order": [0, 0, 1, 1, 2, 3]}"#, "in the order"),
    ("variation", #"{"order": [0, 1, 1, 2, 2, 3]}"#, "in the order"),
    ("variation", #"{"order": [0, 1, 2, 3]}"#, "in the order"),
    ("variation", #"{"order": [0, 1, 3, 2, 3]}"#, "in the order"),
  ])
  func `an emulator json that contradicts itself is refused`(
    key: String, value: String, says: String
  ) throws {
    let sample = try Sample()
    try withTemporaryFolder { folder in
      let place = folder.appendingPathComponent("emulator")
      let emulator = try sample.emulator("layers=0:2,share")
      try emulator.write(
        to: place, source: sample.checkpoint,
        facts: try emulator.facts(source: sample.checkpoint, full: sample.full))
      let facts = try #require(try EmulatorFacts.read(in: place))
      #expect(facts.variation?.order == [0, 1, 2, 2, 3])
      let file = place.appendingPathComponent("emulator.json")
      var json = try #require(
        JSONSerialization.jsonObject(with: Data(contentsOf: file)) as? [String: Any])
      json[key] = try JSONSerialization.jsonObject(
        with: Data(value.utf8), options: .fragmentsAllowed)
      try JSONSerialization.data(withJSONObject: json).write(to: file)
      expectError(.badData, "emulator.json", says) { _ = try EmulatorFacts.read(in: place) }
    }
  }

  @Test(arguments: ["order", "sizes", "ranks"])
  func `an emulator json that contradicts its tensors is refused`(key: String) throws {
    let sample = try Sample()
    try withTemporaryFolder { folder in
      let place = folder.appendingPathComponent("emulator")
      let emulator = try sample.emulator("layers=0:2,share,int8")
      try emulator.write(
        to: place, source: sample.checkpoint,
        facts: try emulator.facts(source: sample.checkpoint, full: sample.full))
      let file = place.appendingPathComponent("emulator.json")
      var json = try #require(
        JSONSerialization.jsonObject(with: Data(contentsOf: file)) as? [String: Any])
      let wrong: [String: Any] = [
        "order": ["order": [0, 1, 9]],
        "sizes": ["sizes": ["7": ["heads": 1, "keyValueHeads": 1, "feedForwardSize": 3]]],
        "ranks": ["ranks": ["model.layers.1.mlp.side": 4]],
      ]
      json["variation"] = wrong[key]
      try JSONSerialization.data(withJSONObject: json).write(to: file)
      expectError(.badData, "emulator.json") { _ = try Checkpoint(folder: place) }
      // A scale that is no number, a value of another type.
      json["variation"] = nil
      var storage = try #require(json["storage"] as? [String: [String: Any]])
      storage["model.layers.1.mlp.up_proj.weight"]?["groupSize"] = 64
      json["storage"] = storage
      try JSONSerialization.data(withJSONObject: json).write(to: file)
      expectError(.badData, "groupSize 64") { _ = try Checkpoint(folder: place).model() }
    }
  }
}
