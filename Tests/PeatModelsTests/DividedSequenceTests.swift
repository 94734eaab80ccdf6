import PeatModels
import PeatNN
import PeatTensor
import TestSupport
import Testing

/// One sequence on several workers: each holds a part of its rows.
@Suite("A divided sequence", .timeLimit(.minutes(5))) struct DividedSequenceTests {
  private func gradient(
    _ name: String, lengths: [Int], workers count: Int, checkpointing: Bool = false
  ) throws -> (gradient: Tensor, loss: TokenLoss) {
    let model = try TinyModel.checkpoint(name).model()
    let trainable = TrainableParameters(model.parameters)
    defer { trainable.release() }
    let rows = lengths.reduce(0, +)
    var random = SeededRandom(seed: 7)
    let tokens = (0..<rows).map { _ in Int32(random.integer(below: 97)) }
    let targets = (0..<rows).map { _ in Int32(random.integer(below: 97)) }
    let workers = StepWorkers(count: count, parameterCount: trainable.count)
    workers.zeroGradient()
    let loss = workers.run(SequenceLayout(lengths: lengths)) { tape, layout in
      tokens.withUnsafeBufferPointer { tokens in
        targets.withUnsafeBufferPointer { targets in
          model.loss(
            .init(rebasing: tokens[layout.rows]), targets: .init(rebasing: targets[layout.rows]),
            layout: layout, scale: 1 / Float(rows), on: tape, checkpointing: checkpointing)
        }
      }
    }
    workers.joinGradients()
    return (Tensor((0..<trainable.count).map { workers.gradient[$0] }), loss)
  }

  @Test(arguments: ["llama-tiny", "gpt2-tiny"], [[40], [5, 31, 2], [1, 1, 37]])
  func `gives the gradient that one worker gives`(name: String, lengths: [Int]) throws {
    let alone = try gradient(name, lengths: lengths, workers: 1)
    for workers in 2...5 {
      for checkpointing in [false, true] {
        let together = try gradient(
          name, lengths: lengths, workers: workers, checkpointing: checkpointing)
        expectClose(together.gradient, alone.gradient, within: 1e-5, "\(workers) workers")
        #expect(abs(together.loss.sum - alone.loss.sum) <= 1e-6 * alone.loss.sum)
        let again = try gradient(
          name, lengths: lengths, workers: workers, checkpointing: checkpointing)
        #expect(again.gradient == together.gradient)
      }
    }
  }

  @Test func `sequences in one batch give the sum of what each gives by itself`() throws {
    let together = try gradient("llama-tiny", lengths: [20, 20], workers: 1)
    let divided = try gradient("llama-tiny", lengths: [20, 20], workers: 3)
    expectClose(divided.gradient, together.gradient, within: 1e-5, "gradient")
  }
}
