import Foundation
import PeatModels
import PeatTensor
import TestSupport
import Testing

/// Tiny random checkpoints as transformers writes them, against what transformers computes
/// (Tools/golden/checkpoints.py). Tolerance: max |a − b| / max |b| ≤ 1e-4 per tensor.
@Suite("Checkpoints agree with transformers") struct CheckpointParityTests {
  @Test(arguments: GoldenModels.names)
  func `logits and loss`(name: String) throws {
    let golden = try GoldenCase("expected", in: "checkpoints/\(name)")
    let model = try GoldenModels.model(name)
    #expect(model.parameterCount == (try golden.fact("parameters", as: Int.self)))
    let rows = try golden.rows()
    expectClose(model.logits(rows), try golden.matrix("logits"), within: 1e-4, "logits")
    let loss: Double = try golden.fact("loss")
    #expect(abs(model.meanLoss(rows) - loss) <= 1e-5 * loss)
  }

  @Test(arguments: ["llama-tiny", "llama-tiny-untied", "gpt2-tiny"])
  func `the last hidden states, and those of each first part of the model`(name: String) throws {
    let golden = try GoldenCase("expected", in: "checkpoints/\(name)")
    let model = try GoldenModels.model(name)
    let rows = try golden.rows()
    let tokens = rows.flatMap { $0 }
    let final = tokens.withUnsafeBufferPointer {
      model.hiddenStates(
        $0, layout: SequenceLayout(rows: $0.count, length: rows[0].count), on: Tape()
      ).tensor()
    }
    expectClose(final, try golden.matrix("hidden.final"), within: 1e-4, "hidden.final")
    let norm = try #require(model.finalNorm)
    // What the first n blocks give, behind the norm that transformers' state has yet to go through.
    for count in 1...model.blocks.count {
      let part = try model.selecting(blocks: Array(0..<count))
      let found = tokens.withUnsafeBufferPointer {
        part.hiddenStates(
          $0, layout: SequenceLayout(rows: $0.count, length: rows[0].count), on: Tape()
        ).tensor()
      }
      let tape = Tape()
      let state = tape.input(try golden.matrix("hidden.\(count)"))
      expectClose(
        found, norm(state, on: tape).tensor(), within: 1e-4, "after \(count) blocks")
    }
  }

  @Test(arguments: GoldenModels.names)
  func `greedy continuations`(name: String) throws {
    let golden = try GoldenCase("expected", in: "checkpoints/\(name)")
    let model = try GoldenModels.model(name)
    for text in try golden.fact("greedy", as: [[String: Any]].self) {
      let prompt = try #require(text["prompt"] as? [Int]).map(Int32.init)
      let expected = try #require(text["continuation"] as? [Int]).map(Int32.init)
      var generator = try TextGenerator(model, prompt: prompt, capacity: 64, settings: .init())
      #expect(try (0..<expected.count).map { _ in try generator.next() } == expected)
    }
  }

  @Test func `GPT-2 saved from inside the model, without "transformer."`() throws {
    let golden = try GoldenCase("expected", in: "checkpoints/gpt2-tiny")
    let checkpoint = try GoldenModels.checkpoint("gpt2-tiny")
    try withTemporaryFolder { folder in
      var tensors: NamedTensors = [:]
      for (name, tensor) in try checkpoint.tensors() {
        tensors[String(name.dropFirst("transformer.".count))] = tensor
      }
      #expect(tensors["wte.weight"] != nil)
      // The first checkpoints also hold the causal masks.
      tensors["h.0.attn.bias"] = Tensor(zeros: [1, 1, 64, 64])
      let short = folder.appendingPathComponent("short")
      try CheckpointWriter.write(
        to: short, tensors: tensors, configuration: checkpoint.configurationJSON)
      let model = try Checkpoint(folder: short).model()
      expectClose(
        model.logits(try golden.rows()), try golden.matrix("logits"), within: 1e-4, "logits")
      // Names inside the program, and of what is written from it, are the full ones.
      #expect(model.embedding.name == "transformer.wte.weight")
    }
  }

  @Test func `16-bit weights are the stored ones, exactly`() throws {
    for (name, type) in [("llama-tiny-bf16", StorageType.bfloat16), ("gpt2-tiny-f16", .float16)] {
      let checkpoint = try GoldenModels.checkpoint(name)
      #expect(checkpoint.storageType == type)
      #expect(checkpoint.storageTypes.values.allSatisfy { $0 == type })
      // Writing them in their type and reading again changes no bit.
      let tensors = try checkpoint.tensors()
      let again = try SafeTensors.decode(SafeTensors.encode(tensors, as: type), from: name)
      #expect(again == tensors)
    }
  }
}
