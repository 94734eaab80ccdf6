import Foundation
import PeatModels
import PeatNN
import PeatTensor
import TestSupport
import Testing

/// T5's golden checkpoints: three blocks in the encoder, four in the decoder.
@Suite("A model with an encoder", .timeLimit(.minutes(5))) struct EncoderDecoderTests {
  static let names = ["t5", "t5-gated"]

  private static func checkpoint(_ name: String) throws -> Checkpoint {
    try Checkpoint(folder: ProjectFolders.golden.appendingPathComponent("families/\(name)"))
  }

  private static func tokens(_ count: Int, seed: UInt64 = 1) -> [Int32] {
    var random = SeededRandom(seed: seed)
    return (0..<count).map { _ in Int32(random.integer(below: 53)) }
  }

  private static let lengths = [12, 3, 20, 2]
  private static let sources = [7, 2, 4, 1]

  private static func targets(_ lengths: [Int], _ sources: [Int]) -> [Int32] {
    var targets: [Int32] = []
    for (length, source) in zip(lengths, sources) {
      for place in 0..<length { targets.append(place < source ? -1 : Int32((place * 7 + 3) % 53)) }
    }
    return targets
  }

  /// Loss and gradient of some pairs of different lengths, targets at the ends of sequences.
  private func gradient(
    _ model: TransformerModel, _ lengths: [Int], _ sources: [Int], _ tokens: [Int32],
    workers count: Int = 1, checkpointing: Bool = false
  ) -> (gradient: Tensor, loss: Double) {
    let trainable = TrainableParameters(model.parameters)
    defer { trainable.release() }
    let targets = Self.targets(lengths, sources)
    let workers = StepWorkers(count: count, parameterCount: trainable.count)
    workers.zeroGradient()
    let loss = workers.run(
      SequenceLayout(lengths: lengths, sources: sources), wholeSequences: true
    ) { tape, layout in
      tokens.withUnsafeBufferPointer { tokens in
        targets.withUnsafeBufferPointer { targets in
          model.loss(
            .init(rebasing: tokens[layout.rows]), targets: .init(rebasing: targets[layout.rows]),
            layout: layout, scale: 0.1, on: tape, checkpointing: checkpointing)
        }
      }
    }
    workers.joinGradients()
    return (Tensor((0..<trainable.count).map { workers.gradient[$0] }), loss.sum)
  }

  @Test(arguments: names) func `each sequence is read and said by itself`(name: String) throws {
    let model = try Self.checkpoint(name).model()
    let tokens = Self.tokens(Self.lengths.reduce(0, +))
    let together = gradient(model, Self.lengths, Self.sources, tokens)
    var (row, sum, loss): (Int, Tensor?, Double) = (0, nil, 0)
    for (length, source) in zip(Self.lengths, Self.sources) {
      let alone = gradient(model, [length], [source], Array(tokens[row..<row + length]))
      sum = sum.map { Tensor(zip($0.scalars, alone.gradient.scalars).map(+)) } ?? alone.gradient
      loss += alone.loss
      row += length
    }
    expectClose(together.gradient, try #require(sum), within: 1e-4, "gradients")
    #expect(abs(together.loss - loss) < 1e-5 * loss)
  }

  @Test(arguments: names)
  func `blocks that are computed twice, and several threads, change nothing`(name: String) throws {
    let model = try Self.checkpoint(name).model()
    let tokens = Self.tokens(Self.lengths.reduce(0, +))
    let expected = gradient(model, Self.lengths, Self.sources, tokens)
    for workers in 1...3 {
      for checkpointing in [false, true] {
        let found = gradient(
          model, Self.lengths, Self.sources, tokens, workers: workers,
          checkpointing: checkpointing)
        expectClose(
          found.gradient, expected.gradient, within: 1e-5, "\(workers) workers, \(checkpointing)")
      }
    }
  }

  @Test(arguments: names) func `it can be cut between any two blocks`(name: String) throws {
    let model = try Self.checkpoint(name).model()
    let tokens = Self.tokens(Self.lengths.reduce(0, +))
    let layout = SequenceLayout(lengths: Self.lengths, sources: Self.sources)
    tokens.withUnsafeBufferPointer { tokens in
      let tape = Tape()
      let whole = model.hiddenStates(tokens, layout: layout, on: tape).tensor()
      for cut in 0...model.blocks.count {
        let below = model.hiddenStates(below: cut, tokens, layout: layout, on: tape)
        let above = model.hiddenStates(from: cut, below, layout: layout, on: tape)
        expectClose(above.tensor(), whole, within: 1e-5, "cut at \(cut)")
      }
    }
  }

  @Test(arguments: names) func `a cache changes nothing`(name: String) throws {
    let model = try Self.checkpoint(name).model()
    let (source, said) = (Self.tokens(9), Self.tokens(15, seed: 2))
    let whole = model.logits(source + said, length: 24, sourceLength: 9)
    let tape = Tape()
    let cache = KeyValueCache(model, capacity: said.count, on: tape)
    let head = try #require(model.head)
    // The decoder's tokens come one by one, and once three at a time.
    var steps = said.indices.map { $0..<$0 + 1 }
    steps.replaceSubrange(4..<7, with: [4..<7])
    for range in steps {
      let inputs = (range.lowerBound == 0 ? source : []) + said[range]
      let layout =
        range.lowerBound == 0
        ? SequenceLayout(lengths: [inputs.count], sources: [9])
        : SequenceLayout(lengths: [inputs.count], firstPosition: range.lowerBound)
      let logits = inputs.withUnsafeBufferPointer {
        let states = model.hiddenStates($0, layout: layout, on: tape, cache: cache)
        return head.logits(states.rows(states.rows - range.count..<states.rows), on: tape).tensor()
      }
      expectClose(
        logits, whole.rows(9 + range.lowerBound..<9 + range.upperBound), within: 1e-4, "\(range)")
    }
  }

  @Test(arguments: names) func `a greedy answer is transformers'`(name: String) throws {
    let checkpoint = try Self.checkpoint(name)
    let reference = try SafeTensorsFile(
      contentsOf: checkpoint.folder.appendingPathComponent("reference.safetensors")
    ).tensors()
    let source = try #require(reference["greedy_source"]).scalars.map { Int32($0) }
    let expected = try #require(reference["greedy"]).scalars.map { Int32($0) }
    var generator = try TextGenerator(
      try checkpoint.model(), prompt: source, capacity: source.count + expected.count,
      settings: .init())
    var said: [Int32] = []
    while let token = try generator.next() { said.append(token) }
    #expect(said == expected)
  }

  @Test func `fewer blocks of both stacks keep the tables of positions`() throws {
    let model = try Self.checkpoint("t5").model()
    let smaller = try model.selecting(blocks: [1, 2, 4, 6])
    #expect(smaller.configuration.keys.encoderBlocks == 2)
    #expect(
      smaller.blocks.map(\.nameInFullModel) == [
        "encoder.block.1", "encoder.block.2", "decoder.block.1", "decoder.block.3",
      ])
    let table = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    #expect(smaller.tensors[table] == model.tensors[table])
    let name = "layer.1.EncDecAttention.k.weight"
    #expect(
      smaller.tensors["decoder.block.1.\(name)"] == model.tensors["decoder.block.3.\(name)"])
    // Blocks in which nothing is put out change nothing.
    let silent = try TransformerModel(
      configuration: model.configuration,
      tensors: Dictionary(
        uniqueKeysWithValues: model.tensors.map { name, tensor in
          let isSilent =
            ["encoder.block.0.", "decoder.block.0.", "decoder.block.2."].contains {
              name.hasPrefix($0)
            } && ["SelfAttention.o.", "EncDecAttention.o.", ".wo."].contains { name.contains($0) }
          return (name, isSilent ? Tensor(zeros: tensor.shape) : tensor)
        }), source: "silent")
    let tokens = Self.tokens(14)
    expectClose(
      smaller.logits(tokens, length: 14), silent.logits(tokens, length: 14), within: 1e-4, "logits")
  }

  @Test func `config.json of fewer blocks says how many each stack has`() throws {
    let json = try Self.checkpoint("t5").configurationJSON
    let smaller = Architectures.configuration(json, withBlocks: [0, 2, 3, 5, 6])
    #expect(smaller["num_layers"]?.integer == 2)
    #expect(smaller["num_decoder_layers"]?.integer == 3)
  }

  @Test func `names say a block's place`() throws {
    let keys = try Self.checkpoint("t5").configuration.keys
    #expect(keys.block(2) == "encoder.block.2")
    #expect(keys.block(3) == "decoder.block.0")
    let place = try #require(keys.place(of: "decoder.block.3.layer.2.layer_norm.weight"))
    #expect(place.number == 6 && place.path == "layer.2.layer_norm.weight")
    #expect(keys.place(of: "decoder.block.03.layer.2.layer_norm.weight") == nil)
    #expect(
      !keys.isInBlock("decoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"))
    #expect(keys.ofBlock(2).linearPaths.count == 6 && keys.ofBlock(3).linearPaths.count == 10)
    #expect(keys.linearNames == ["q", "k", "v", "o", "wi", "wo"])
  }

  private func configuration(
    _ changes: [String: JSONValue] = [:], without keys: [String] = []
  ) throws -> TransformerConfiguration {
    guard case .object(var table) = try Self.checkpoint("t5").configurationJSON else {
      throw PeatError.badData("no object")
    }
    for key in keys { table[key] = nil }
    table.merge(changes) { $1 }
    return try Architectures.configuration(
      from: ConfigurationFile(name: "config.json", json: .object(table)))
  }

  @Test func `config.json says which version it is`() throws {
    let unsaid = ["scale_decoder_outputs", "dense_act_fn", "is_gated_act"]
    let first = try configuration(without: unsaid)
    #expect(first.head?.isTied == true && first.head?.scale == 0.25)
    #expect(first.feedForward == .plain(.relu))
    let later = try configuration(
      ["tie_word_embeddings": false, "feed_forward_proj": "gated-gelu"],
      without: unsaid + ["num_decoder_layers"])
    #expect(later.head?.isTied == false && later.head?.scale == 1)
    #expect(later.feedForward == .gated(.tanhGELU))
    #expect(later.blockCount == 6)
    #expect(later.keys.linearNames.contains("wi_0"))
    let silu = try configuration(["feed_forward_proj": "gated-silu"], without: unsaid)
    #expect(silu.feedForward == .gated(.silu))
  }

  @Test(
    arguments: [
      (["feed_forward_proj": "gated-nothing"], "feed_forward_proj"),
      (["feed_forward_proj": "gelu-relu"], "feed_forward_proj"),
      (["relative_attention_num_buckets": 7], "relative_attention_num_buckets"),
      (["relative_attention_max_distance": 4], "relative_attention_max_distance"),
      (["decoder_start_token_id": 53], "decoder_start_token_id"),
      (["architectures": ["T5EncoderModel"]], "T5EncoderModel, which has no head. Of a model"),
      (
        ["architectures": ["T5ForSequenceClassification"]],
        "T5ForSequenceClassification, whose head this program does not compute. Of a model of the type t5 it computes the heads T5ForConditionalGeneration"
      ),
      (["is_encoder_decoder": false], "is_encoder_decoder"),
      (["dense_act_fn": "gelu"], "dense_act_fn"), (["is_gated_act": true], "is_gated_act"),
      (["tie_encoder_decoder": true], "tie_encoder_decoder"),
      (["pruned_heads": ["1": [0]]], "pruned_heads"),
      (["num_decoder_layers": 0], "num_decoder_layers"),
    ] as [([String: JSONValue], String)])
  func `what it does not compute is refused by name`(
    changes: [String: JSONValue], word: String
  ) throws {
    let error = #expect(throws: PeatError.self) { try configuration(changes) }
    #expect(error?.message.contains(word) == true, "\(error?.message ?? "")")
  }

  @Test func `a head in the files is one of its own unless it is the embedding`() throws {
    let source = try Self.checkpoint("t5-gated")
    // transformers 5 writes that it is tied.
    #expect(source.configurationJSON["tie_word_embeddings"] == true)
    #expect(source.configuration.head?.isTied == false)
    #expect(try source.model().parameters.contains { $0.name == "lm_head.weight" })
    try withTemporaryFolder { folder in
      var tensors = try source.tensors()
      tensors["lm_head.weight"] = tensors["shared.weight"]
      try TinyModel.write(folder, configuration: source.configurationJSON, tensors: tensors)
      #expect(try Checkpoint(folder: folder).configuration.head?.isTied == true)
    }
  }
}
