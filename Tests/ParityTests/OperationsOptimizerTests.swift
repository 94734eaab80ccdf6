import PeatTensor
import TestSupport
import Testing

/// The loops of an optimizer step against PyTorch's AdamW and gradient clipping.
@Suite("Optimizer loops agree with PyTorch") struct OperationsOptimizerTests {
  @Test(arguments: ["adamw", "adamw_decay"], ["w", "b"])
  func `three steps of AdamW`(name: String, parameter: String) throws {
    let golden = try GoldenCase(name)
    let rate: Double = try golden.fact("learningRate")
    let decay: Double = try golden.fact("weightDecay")
    let values = try golden.tensor("start.\(parameter)").copied()
    let first = Tensor(zeros: values.shape)
    let second = Tensor(zeros: values.shape)
    // β as the update uses them: rounded to float32.
    let (beta1, beta2) = (Float(0.9), Float(0.999))
    var powers = (1.0, 1.0)
    for step in 1...3 {
      powers = (powers.0 * Double(beta1), powers.1 * Double(beta2))
      let gradient = try golden.tensor("step\(step).grad_\(parameter)").copied()
      defer { withExtendedLifetime(gradient) {} }
      adamWUpdate(
        count: values.count, values: values.pointer, gradient: gradient.pointer,
        first: first.pointer, second: second.pointer, decay: Float(1 - rate * decay), beta1: beta1,
        beta2: beta2, rate: Float(rate / (1 - powers.0)),
        inverseRoot: Float(1 / (1 - powers.1).squareRoot()), epsilon: 1e-8)
      expectClose(
        values, try golden.tensor("step\(step).\(parameter)"), within: 1e-6, "values, step \(step)")
      expectClose(
        first, try golden.tensor("step\(step).mean_\(parameter)"), within: 1e-6, "m, step \(step)")
      // 1 − β₂ of the rounded β₂ is 1.3e-5 smaller than 0.001; the correction takes it out again.
      expectClose(
        second, try golden.tensor("step\(step).square_\(parameter)"), within: 2e-5,
        "v, step \(step)")
    }
  }

  @Test func `clipping by the norm over all tensors`() throws {
    let golden = try GoldenCase("clip_gradients")
    for facts in try golden.fact("cases", as: [[String: Any]].self) {
      let prefix = try #require(facts["prefix"] as? String)
      let maximum = try #require(facts["maximum"] as? Double)
      let expected = try #require(facts["norm"] as? Double)
      let gradients = try ["w", "b"].map { try golden.tensor("grad_\($0)").copied() }
      let norm = gradients.reduce(0) { $0 + squaredNorm($1.count, $1.pointer) }.squareRoot()
      #expect(abs(norm - expected) <= 1e-6 * expected)
      for (name, gradient) in zip(["w", "b"], gradients) {
        scale(gradient.count, gradient.pointer, by: Float(min(1, maximum / (norm + 1e-6))))
        expectClose(
          gradient, try golden.tensor("\(prefix).grad_\(name)"), within: 3e-7, "\(prefix) \(name)")
      }
    }
  }

  @Test(arguments: [0, 1, 7, 8, 9, 15, 16, 17, 4095, 4096, 4097, 100_000])
  func `norms and sums of any length agree with double precision`(count: Int) {
    var random = SeededRandom(seed: UInt64(count))
    let x = randomTensor([count], &random)
    let y = randomTensor([count], &random)
    let expected = x.scalars.reduce(0.0) { $0 + Double($1) * Double($1) }
    #expect(abs(squaredNorm(count, x.pointer) - expected) <= 2e-7 * expected)
    let sum = y.copied()
    accumulate(count, x.pointer, to: sum.pointer)
    #expect(sum.scalars == zip(x.scalars, y.scalars).map { $0 + $1 })
    let scaled = x.copied()
    scale(count, scaled.pointer, by: -0.3)
    #expect(scaled.scalars == x.scalars.map { $0 * -0.3 })
  }
}
