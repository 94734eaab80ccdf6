import FedPEAT
import Foundation
import TestSupport
import Testing

@Suite("Pretraining") struct PretrainingTests {
  private var documents: [Document] {
    (0..<40).map { Document("the cat sat on the mat and the dog ran over hill number \($0 % 4).") }
  }

  private func configuration(_ steps: Int, every: Int = 5) -> PretrainingConfiguration {
    PretrainingConfiguration(
      vocabularySize: 270, blocks: 2, hiddenSize: 16, heads: 2, keyValueHeads: 1,
      feedForwardSize: 24, context: 16, batch: 4, learningRate: 1e-2, warmUpSteps: 2,
      maximumSteps: steps, measureEvery: every, heldOutShare: 0.2, seed: 3)
  }

  @Test(arguments: [1, 2, 3, 7, 20, 41]) func `it never makes more steps than allowed`(steps: Int)
    throws
  {
    // The loss is measured more rarely than the steps end.
    var settings = configuration(steps, every: 50)
    settings.levelShare = -1
    let report = try Pretraining(documents, settings).run()
    #expect(report.steps <= steps)
    #expect(report.steps >= steps * 4 / 5)
    #expect(!report.levelledOff)
    #expect(report.loss.isFinite && abs(report.perplexity - exp(report.loss)) < 1e-9)
  }

  @Test func `it levels off, says so, and decays`() throws {
    var settings = configuration(2000)
    settings.levelShare = 0.05
    settings.patience = 2
    var losses: [Double] = []
    var levelled: Int?
    let report = try Pretraining(documents, settings).run(onEvent: { event in
      if case .heldOut(_, let loss) = event { losses.append(loss) }
      if case .levelledOff(let step, _, _) = event { levelled = step }
    })
    #expect(report.levelledOff)
    let step = try #require(levelled)
    #expect(report.steps == step + max(1, step / 4))
    #expect(report.steps < 2000)
    let first = try #require(losses.first)
    #expect(report.loss < first)
  }

  @Test func `it stops when asked`() throws {
    do {
      _ = try Pretraining(documents, configuration(100)).run(shouldStop: { true })
      Issue.record("was not stopped")
    } catch { #expect((error as? PeatError)?.code == .interrupted) }
  }

  @Test func `the same seed gives the same model`() throws {
    func digest(_ seed: UInt64) throws -> Digest {
      var settings = configuration(4)
      settings.seed = seed
      let pretraining = try Pretraining(documents, settings)
      _ = try pretraining.run()
      return pretraining.model.tensors.digest
    }
    #expect(try digest(1) == digest(1))
    #expect(try digest(1) != digest(2))
  }

  @Test func `what it writes is a checkpoint with the keys that transformers reads`() throws {
    try withTemporaryFolder { folder in
      let pretraining = try Pretraining(documents, configuration(4))
      let report = try pretraining.run()
      let place = folder.appendingPathComponent("model")
      try pretraining.write(to: place)
      let checkpoint = try Checkpoint(folder: place)
      #expect(try checkpoint.model().tensors == pretraining.model.tensors)
      #expect(try checkpoint.model().parameterCount == report.parameters)
      let expected: [String: JSONValue] = [
        "architectures": .array([.string("LlamaForCausalLM")]), "model_type": .string("llama"),
        "hidden_size": .integer(16), "intermediate_size": .integer(24),
        "num_hidden_layers": .integer(2), "num_attention_heads": .integer(2),
        "num_key_value_heads": .integer(1), "head_dim": .integer(8),
        "max_position_embeddings": .integer(16), "hidden_act": .string("silu"),
        "tie_word_embeddings": .bool(true), "vocab_size": .integer(report.vocabularySize),
        "attention_bias": .bool(false), "mlp_bias": .bool(false),
        "torch_dtype": .string("float32"),
      ]
      for (key, value) in expected { #expect(checkpoint.configurationJSON[key] == value, "\(key)") }
      for key in ["rms_norm_eps", "rope_theta", "bos_token_id", "eos_token_id"] {
        #expect(checkpoint.configurationJSON[key] != nil, "\(key)")
      }
      let tokenizer = try Tokenizer(folder: place)
      #expect(tokenizer.vocabularySize == report.vocabularySize)
      let text = "the cat sat on hill number 3."
      let tokens = try tokenizer.encode(text, addSpecialTokens: false)
      #expect(tokenizer.decode(tokens, skipSpecialTokens: true) == text)
      #expect(
        checkpoint.configurationJSON["eos_token_id"]?.integer == tokenizer.endToken.map(Int.init))
    }
  }

  @Test func `shapes that make no sense are refused`() {
    let changes: [(inout PretrainingConfiguration) -> Void] = [
      { $0.blocks = 0 }, { $0.hiddenSize = 15 }, { $0.hiddenSize = .max }, { $0.heads = 3 },
      { $0.keyValueHeads = 3 }, { $0.vocabularySize = 256 }, { $0.heldOutShare = 0 },
      { $0.learningRate = .nan }, { $0.maximumSteps = 0 }, { $0.batch = -1 },
      {
        $0.hiddenSize = 1 << 19
        $0.feedForwardSize = 1 << 19
        $0.blocks = 1000
      },
    ]
    for (number, change) in changes.enumerated() {
      var settings = configuration(5)
      change(&settings)
      #expect(throws: PeatError.self, "change \(number)") { try settings.validate() }
    }
  }
}
