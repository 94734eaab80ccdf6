import Foundation

/// Greedy text of a GPT-2-shaped model with random weights, token by token with cached keys and values.
public final class GenerationBenchmark {
  private let model: TransformerModel
  private let prompt: [Int32]
  private let tokens: Int
  private let threads: Int

  /// Bytes of the weights that are read for each token.
  public let weightBytes: Int

  public init(
    layers: Int, promptTokens: Int, tokens: Int, threads: Int, storage: WeightStorage = .float32,
    seed: UInt64 = 0
  ) throws {
    let model = try TransformerModel.random(layers: layers, storage: storage, seed: seed)
    self.model = model
    self.tokens = tokens
    self.threads = threads
    var random = SeededRandom(seed: seed, "benchmark")
    prompt = (0..<promptTokens).map { _ in
      Int32(random.integer(below: model.configuration.vocabularySize))
    }
    weightBytes =
      model.blocks.reduce(0) { $0 + $1.parameters.reduce(0) { $0 + $1.byteCount } }
      + (model.finalNorm?.parameters ?? []).reduce(0) { $0 + $1.byteCount }
      + (model.head?.table.byteCount ?? 0)
  }

  /// Seconds for the whole text, prompt included.
  public func run() throws -> Double {
    let clock = ContinuousClock()
    let start = clock.now
    var generator = try TextGenerator(
      model, prompt: prompt, capacity: prompt.count + tokens, settings: SamplingSettings(),
      threads: threads)
    for _ in 0..<tokens {
      guard try generator.next() != nil else {
        throw PeatError.usage("The text is longer than the model's context.")
      }
    }
    return (clock.now - start).seconds
  }
}
