import PeatData
import PeatModels
import PeatTensor
import PeatTuning
import TestSupport
import Testing

@Suite("Memory between steps") struct HeapTests {
  private func trainer(_ data: TokenDataset) throws -> Trainer {
    let model = try checkpoint().model()
    let adapter = try Adapter(
      new: .lora(try LoRAConfiguration(rank: 4, alpha: 8)), for: model, blocks: [0, 4], seed: 2,
      sourceDigest: nil)
    let injected = try adapter.inject(into: model)
    return try Trainer(
      model, parameters: injected.parameters.map(\.parameter), data: data,
      configuration: TrainingConfiguration(
        steps: 1000, batch: 4, context: 50, learningRate: 1e-3, threads: 2))
  }

  /// Sequences of so many tokens.
  private func sequences(_ lengths: [Int]) -> [TokenSequence] {
    var random = SeededRandom(seed: 5)
    return lengths.map { TokenSequence((0..<$0).map { _ in Int32(random.integer(below: 97)) }) }
  }

  @Test func `after the first step nothing more is taken`() throws {
    let trainer = try trainer(
      TokenDataset(sequences(Array(repeating: 48, count: 40)), .stream(context: 24)))
    _ = try trainer.advance()
    let taken = trainer.activationBytes
    #expect(taken > 0)
    for _ in 0..<40 { _ = try trainer.advance() }
    #expect(trainer.activationBytes == taken)
  }

  @Test func `batches of any shape take no more than the fullest`() throws {
    let full = try trainer(
      TokenDataset(sequences(Array(repeating: 51, count: 40)), .documents(context: 50)))
    _ = try full.advance()
    var random = SeededRandom(seed: 9)
    let lengths = (0..<60).map { $0 < 10 ? 51 : 2 + random.integer(below: 49) }
    let ragged = try trainer(TokenDataset(sequences(lengths), .documents(context: 50)))
    for _ in 0..<300 { _ = try ragged.advance() }
    let (taken, bound) = (Double(ragged.activationBytes), Double(full.activationBytes))
    #expect(taken > 0.8 * bound && taken < 1.1 * bound, "\(taken) of \(bound)")
  }
}
