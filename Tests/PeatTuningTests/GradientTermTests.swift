import PeatData
import PeatModels
import PeatNN
import PeatTensor
import PeatTuning
import TestSupport
import Testing

@Suite("Gradient terms") struct GradientTermTests {
  /// A trainer of a small model's adapter that steps by plain gradient descent.
  private struct Run {
    let injected: InjectedAdapter
    let trainer: Trainer

    init(steps: Int, rate: Float = 0.05, clipNorm: Float? = nil) throws {
      let model = try checkpoint().model()
      let adapter = try Adapter.active(for: model, blocks: [0, 4])
      injected = try adapter.inject(into: model)
      var configuration = TrainingConfiguration(
        steps: steps, batch: 3, context: 12, learningRate: rate, clipNorm: clipNorm, seed: 9)
      configuration.rule = .sgd
      trainer = try Trainer(
        model, parameters: injected.parameters.map(\.parameter),
        data: TokenDataset(randomSequences(11), .stream(context: 12)),
        configuration: configuration)
    }

    /// All that trains, one parameter after the other.
    var values: [Float] { injected.parameters.flatMap { $0.parameter.tensor.scalars } }

    func advance(_ count: Int) throws -> [Float] {
      for _ in 0..<count { _ = try trainer.advance() }
      return values
    }
  }

  @Test func `the proximal term is the gradient of μ/2 · ‖w − w₀‖², by finite differences`() {
    var random = SeededRandom(seed: 4)
    let start = randomTensor([23], &random)
    let now = randomTensor([23], &random)
    let mu: Float = 0.37
    var terms = GradientTerms(proximal: mu)
    terms.begin(at: start)
    let gradient = randomTensor([23], &random)
    let before = gradient.scalars
    terms.add(to: gradient.pointer, at: now, isStep: true)
    func objective(_ w: [Double]) -> Double {
      zip(w, start.scalars).reduce(0) {
        $0 + Double(mu) / 2 * ($1.0 - Double($1.1)) * ($1.0 - Double($1.1))
      }
    }
    let point = now.scalars.map(Double.init)
    for place in point.indices {
      var (above, below) = (point, point)
      above[place] += 1e-4
      below[place] -= 1e-4
      let slope = (objective(above) - objective(below)) / 2e-4
      #expect(abs(Double(gradient.scalars[place] - before[place]) - slope) < 1e-5)
    }
    #expect(terms.meanGradient == nil)
  }

  /// With gradient descent the second step differs by η·μ·(w₁ − w₀), and the first by nothing.
  @Test func `a trainer adds it before the step`() throws {
    let (rate, mu): (Float, Float) = (0.05, 3)
    let plain = try Run(steps: 2, rate: rate)
    let held = try Run(steps: 2, rate: rate)
    held.trainer.add(GradientTerms(proximal: mu))
    let start = plain.values
    let first = try plain.advance(1)
    #expect(try held.advance(1) == first)
    let (second, other) = (try plain.advance(1), try held.advance(1))
    var moved: Float = 0
    for place in start.indices {
      let term = rate * mu * (first[place] - start[place])
      moved = max(moved, abs(term))
      #expect(abs(second[place] - other[place] - term) < 1e-6)
    }
    #expect(moved > 1e-4)
  }

  /// SCAFFOLD's option II: with K steps at the rate η the mean gradient is (w₀ − w_K) / (K·η) − s.
  @Test(arguments: [Float(0), 2])
  func `the mean of the gradients is the paper's option II`(mu: Float) throws {
    let (rate, count): (Float, Int) = (0.05, 4)
    let run = try Run(steps: count, rate: rate)
    var random = SeededRandom(seed: 8)
    let start = run.values
    let shift = start.map { _ in 0.01 * Float(random.normal()) }
    run.trainer.add(GradientTerms(proximal: mu, shift: shift))
    let end = try run.advance(count)
    let mean = try #require(run.trainer.terms?.meanGradient)
    #expect(mean.count == start.count)
    guard mu == 0 else { return }
    for place in start.indices {
      let stated = (start[place] - end[place]) / (Float(count) * rate) - shift[place]
      #expect(abs(mean[place] - stated) < 2e-5)
    }
  }

  @Test func `gradients are clipped with their terms`() throws {
    let run = try Run(steps: 1, rate: 1, clipNorm: 1e-3)
    let start = run.values
    run.trainer.add(GradientTerms(shift: start.map { _ in 5 }))
    let end = try run.advance(1)
    let moved = zip(start, end).reduce(0.0) { $0 + Double(($1.0 - $1.1) * ($1.0 - $1.1)) }
    #expect(abs(moved.squareRoot() - 1e-3) < 1e-5)
  }

  @Test func `plain gradient descent, by hand`() {
    let matrix = Parameter("weight", Tensor([2, -4], shape: [1, 2]))
    let vector = Parameter("norm", [2, -4])
    let trainable = TrainableParameters([matrix, vector])
    var optimizer = AdamW(count: 4, settings: .init(weightDecay: 0.5))
    let gradient: Tensor = [1, 2, 1, 2]
    optimizer.descend(trainable, gradient: gradient.pointer, learningRate: 0.5)
    // Of the matrix three quarters are left before the step.
    #expect(matrix.tensor.scalars == [1, -4])
    #expect(vector.tensor.scalars == [1.5, -5])
    #expect(optimizer.steps == 1)
  }

  @Test func `AdamW goes on with another trainer's moments, where they are of the same parameters`()
    throws
  {
    /// The first step, with the moments of a trainer that made two before.
    func first(after blocks: [Int]?) throws -> [Float] {
      func make(_ blocks: [Int]) throws -> (InjectedAdapter, Trainer) {
        let model = try checkpoint().model()
        let injected = try Adapter.active(for: model, blocks: blocks).inject(into: model)
        let trainer = try Trainer(
          model, parameters: injected.parameters.map(\.parameter),
          data: TokenDataset(randomSequences(11), .stream(context: 12)),
          configuration: TrainingConfiguration(
            steps: 2, batch: 3, context: 12, learningRate: 1e-2, seed: 9))
        return (injected, trainer)
      }
      let (injected, trainer) = try make([0, 4])
      if let blocks {
        let (_, other) = try make(blocks)
        for _ in 0..<2 { _ = try other.advance() }
        trainer.goOn(with: other.moments)
      }
      _ = try trainer.advance()
      return injected.parameters.flatMap { $0.parameter.tensor.scalars }
    }
    let fresh = try first(after: nil)
    let going = try first(after: [0, 4])
    #expect(going != fresh)
    #expect(try first(after: [0, 4]) == going)
    #expect(try first(after: [1, 4]) == fresh)
  }
}
