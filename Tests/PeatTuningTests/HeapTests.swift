import PeatData
import PeatModels
import PeatTensor
import PeatTuning
import TestSupport
import Testing

@Suite("Memory between steps") struct HeapTests {
  @Test(arguments: [false, true]) func `after the first epochs nothing more is taken`(ragged: Bool)
    throws
  {
    let model = try checkpoint().model()
    let adapter = try Adapter(
      new: .lora(try LoRAConfiguration(rank: 4, alpha: 8)), for: model, blocks: [0, 4], seed: 2,
      sourceDigest: nil)
    let injected = try adapter.inject(into: model)
    // Sequences of 2 to 50 tokens, so that each batch has another shape; or windows of one length.
    var random = SeededRandom(seed: 5)
    let sequences = (0..<40).map { _ in
      TokenSequence(
        (0..<2 + random.integer(below: 49)).map { _ in Int32(random.integer(below: 97)) })
    }
    let data = try TokenDataset(sequences, ragged ? .documents(context: 50) : .stream(context: 24))
    let trainer = try Trainer(
      model, parameters: injected.parameters.map(\.parameter), data: data,
      configuration: TrainingConfiguration(
        steps: 1000, batch: 4, context: 50, learningRate: 1e-3, threads: 2))
    for _ in 0..<(ragged ? 200 : 2) { _ = try trainer.advance() }
    let taken = trainer.activationBytes
    #expect(taken > 0)
    for _ in 0..<40 { _ = try trainer.advance() }
    #expect(trainer.activationBytes == taken)
  }
}
