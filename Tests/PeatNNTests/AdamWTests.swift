import PeatNN
import PeatTensor
import TestSupport
import Testing

@Suite("AdamW") struct AdamWTests {
  @Test func `one step by hand`() {
    // m/(1−β₁) = g and v/(1−β₂) = g², so the first step moves by the rate against the gradient's sign.
    let parameter = Parameter("w", [1, -2, 3])
    let trainable = TrainableParameters([parameter])
    var optimizer = AdamW(count: 3)
    let gradient: Tensor = [0.5, -4, 0]
    optimizer.update(trainable, gradient: gradient, learningRate: 0.125)
    #expect(optimizer.steps == 1)
    expectClose(parameter.tensor, [0.875, -1.875, 3], within: 1e-6, "values")
    #expect(parameter.tensor.scalars[2] == 3)
  }

  @Test(arguments: ["adamw", "adamw_decay"])
  func `three steps agree with PyTorch's`(name: String) throws {
    let golden = try GoldenCase(name)
    let decay = Float(try golden.fact("weightDecay", as: Double.self))
    let w = Parameter("w", try golden.tensor("start.w"))
    // PyTorch decays the vector too; a matrix of one row is treated alike here.
    let start = try golden.tensor("start.b")
    let b = Parameter("b", start.reshaped([1, start.count]))
    let trainable = TrainableParameters([w, b])
    var optimizer = AdamW(count: trainable.count, settings: .init(weightDecay: decay))
    let rate = Float(try golden.fact("learningRate", as: Double.self))
    for step in 1...3 {
      let gradient = Tensor(
        try golden.tensor("step\(step).grad_w").scalars
          + golden.tensor("step\(step).grad_b").scalars)
      optimizer.update(trainable, gradient: gradient, learningRate: rate)
      expectClose(w.tensor, try golden.tensor("step\(step).w"), within: 1e-6, "w, step \(step)")
      expectClose(
        b.tensor.reshaped([start.count]), try golden.tensor("step\(step).b"), within: 1e-6,
        "b, step \(step)")
    }
  }

  @Test func `weight decay shrinks matrices and leaves vectors alone`() {
    let matrix = Parameter("weight", Tensor(repeating: 2, shape: [2, 2]))
    let vector = Parameter("norm", Tensor(repeating: 2, shape: [4]))
    let trainable = TrainableParameters([matrix, vector])
    var optimizer = AdamW(count: 8, settings: .init(weightDecay: 0.5))
    optimizer.update(trainable, gradient: Tensor(zeros: [8]), learningRate: 0.1)
    expectClose(
      matrix.tensor, Tensor(repeating: 1.9, shape: [2, 2]), within: 1e-6, "2 · (1 − 0.1 · 0.5)")
    #expect(vector.tensor == Tensor(repeating: 2, shape: [4]))
  }

  @Test func `a resumed optimizer goes on to the same bits`() {
    var random = SeededRandom(seed: 3)
    let gradients = (0..<6).map { _ in randomTensor([37], &random) }
    func train(stoppingAt stop: Int?) -> [Float] {
      let parameter = Parameter("w", Tensor(repeating: 1, shape: [37]))
      let trainable = TrainableParameters([parameter])
      var optimizer = AdamW(count: 37)
      for (step, gradient) in gradients.enumerated() {
        if step == stop {
          optimizer = AdamW(
            resuming: optimizer.settings, steps: optimizer.steps,
            firstMoment: optimizer.firstMoment, secondMoment: optimizer.secondMoment)
        }
        optimizer.update(trainable, gradient: gradient, learningRate: 0.01)
      }
      return parameter.tensor.scalars
    }
    #expect(train(stoppingAt: 4) == train(stoppingAt: nil))
  }
}

extension AdamW {
  /// One update from a gradient that stays as it is.
  fileprivate mutating func update(
    _ parameters: TrainableParameters, gradient: Tensor, learningRate: Float
  ) {
    var values = gradient.scalars
    values.withUnsafeMutableBufferPointer {
      guard let base = $0.baseAddress else { return }
      update(parameters, gradient: base, learningRate: learningRate)
    }
  }
}
