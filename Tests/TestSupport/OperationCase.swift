import PeatTensor
import Testing

/// An input or a weight of an operation under test.
package struct Operand {
  package let name: String
  package let tensor: Tensor
  /// Whether a gradient with respect to it is wanted.
  package let trains: Bool

  package init(_ name: String, _ tensor: Tensor, trains: Bool = true) {
    self.name = name
    self.tensor = tensor
    self.trains = trains
  }

  func with(_ tensor: Tensor) -> Operand { Operand(name, tensor, trains: trains) }
}

/// What an operation under test leaves: a matrix to seed with a gradient, or a loss that carries its own.
package enum OperationResult {
  case matrix(Activation)
  case loss(Double)
}

/// One run of an operation on a tape of its own: what it gave, and the gradients of `Σ output · upstream`.
package struct OperationRun {
  package let output: [Double]
  package let inputGradients: [Tensor]
  package let weightGradients: [Tensor]
  package let records: Int

  /// - Parameters:
  ///   - upstream: the gradient at the output; all ones if `nil`. A loss ignores it.
  ///   - accumulated: what the gradient vector holds before.
  package init(
    inputs: [Operand], weights: [Operand], upstream: [Float]? = nil, accumulated: Float = 0,
    pool: BufferPool = BufferPool(),
    _ body: (Tape, [Activation], [Weight]) -> OperationResult
  ) {
    // Gradients lie at odd places, with guards between them that nobody may touch.
    let guardWidth = 3
    let guardValue: Float = 1234.5
    let total = weights.reduce(guardWidth) { $0 + $1.tensor.count + guardWidth }
    let vector = UnsafeMutablePointer<Float>.allocate(capacity: total)
    defer { vector.deallocate() }
    vector.update(repeating: guardValue, count: total)
    var offsets: [Int] = []
    var offset = guardWidth
    for weight in weights {
      offsets.append(offset)
      if weight.trains {
        (vector + offset).update(repeating: accumulated, count: weight.tensor.count)
      }
      offset += weight.tensor.count + guardWidth
    }
    let tape = Tape(pool: pool, weightGradients: vector)
    let activations = inputs.map { tape.input($0.tensor, needsGradient: $0.trains) }
    let result = body(
      tape, activations,
      zip(weights, offsets).map { Weight($0.tensor, gradientOffset: $0.trains ? $1 : nil) })
    records = tape.recordCount
    switch result {
    case .loss(let loss): output = [loss]
    case .matrix(let matrix):
      output = matrix.tensor().scalars.map(Double.init)
      let ones = [Float](repeating: 1, count: matrix.rows * matrix.columns)
      tape.seed(Tensor(upstream ?? ones, shape: [matrix.rows, matrix.columns]), for: matrix)
    }
    inputGradients = tape.backward(gradientsOf: activations)
    var gradients: [Tensor] = []
    var untouched = (0..<guardWidth).allSatisfy { vector[$0] == guardValue }
    for (weight, offset) in zip(weights, offsets) {
      let count = weight.tensor.count
      if weight.trains {
        gradients.append(
          Tensor((offset..<offset + count).map { vector[$0] }, shape: weight.tensor.shape))
      } else {
        gradients.append(Tensor(zeros: weight.tensor.shape))
        untouched = untouched && (offset..<offset + count).allSatisfy { vector[$0] == guardValue }
      }
      let end = offset + count
      untouched = untouched && (end..<end + guardWidth).allSatisfy { vector[$0] == guardValue }
    }
    weightGradients = gradients
    #expect(untouched, "a gradient was written beside its place")
  }
}

/// An operation with its plain reference: checked forward, backward and by finite differences in one go.
package struct OperationCase {
  package let name: String
  package let inputs: [Operand]
  package let weights: [Operand]
  package let body: (Tape, [Activation], [Weight]) -> OperationResult
  /// The same function in double precision, by simple loops: values of inputs, values of weights → output.
  package let reference: ([[Double]], [[Double]]) -> [Double]

  package init(
    _ name: String, inputs: [Operand] = [], weights: [Operand] = [],
    body: @escaping (Tape, [Activation], [Weight]) -> OperationResult,
    reference: @escaping ([[Double]], [[Double]]) -> [Double]
  ) {
    self.name = name
    self.inputs = inputs
    self.weights = weights
    self.body = body
    self.reference = reference
  }

  /// Expects three things, each to its tolerance.
  ///
  /// 1. The output agrees with the reference, relative to its largest element.
  /// 2. The gradient of `Σ output · upstream`, upstream random, with respect to every operand that trains agrees with
  ///    finite differences of the reference: along a random direction (which looks at all elements) and at some
  ///    single elements, relative to the largest gradient or, if that is more, a twentieth of the largest upstream.
  ///    (An operation whose true gradient nearly cancels can't be exact relative to what is left.)
  /// 3. Along the same random direction, it agrees with finite differences of the operation itself in float32.
  package func check(
    output: Double = 2e-6, gradient: Double = 1e-5, own: Double = 2e-3,
    seed: UInt64 = 1, sourceLocation: SourceLocation = #_sourceLocation
  ) {
    var random = SeededRandom(seed: seed, name)
    let inputValues = inputs.map { $0.tensor.scalars.map(Double.init) }
    let weightValues = weights.map { $0.tensor.scalars.map(Double.init) }
    let expected = reference(inputValues, weightValues)
    let upstream =
      isLoss ? [1] : (0..<expected.count).map { _ in random.uniform(-1, 1) }
    let run = self.run(inputs, weights, upstream: upstream)
    compare(run.output, expected, output, 0, "output", sourceLocation)

    let floor = Double(upstream.map(abs).max() ?? 0) / 20
    for (index, operand) in (inputs + weights).enumerated() where operand.trains {
      let isInput = index < inputs.count
      let number = isInput ? index : index - inputs.count
      let gradient64 = (isInput ? run.inputGradients : run.weightGradients)[number].scalars
        .map(Double.init)
      let direction = (0..<operand.tensor.count).map { _ in Double(random.uniform(-1, 1)) }

      func referenceSum(_ change: (inout [Double]) -> Void) -> Double {
        var inputs = inputValues
        var weights = weightValues
        if isInput { change(&inputs[number]) } else { change(&weights[number]) }
        return zip(reference(inputs, weights), upstream).reduce(0) { $0 + $1.0 * Double($1.1) }
      }
      func ownSum(_ step: Double) -> Double {
        let moved = operand.with(
          Tensor(
            zip(operand.tensor.scalars, direction).map { Float(Double($0) + step * $1) },
            shape: operand.tensor.shape))
        var inputs = self.inputs
        var weights = self.weights
        if isInput { inputs[number] = moved } else { weights[number] = moved }
        return zip(self.run(inputs, weights, upstream: upstream).output, upstream)
          .reduce(0) { $0 + $1.0 * Double($1.1) }
      }

      let norm = direction.reduce(0) { $0 + $1 * $1 }.squareRoot()
      let along = zip(gradient64, direction).reduce(0) { $0 + $1.0 * $1.1 }
      let size = gradient64.reduce(0) { $0 + $1 * $1 }.squareRoot()
      let scale = max(size, floor)
      let wanted = slope(step: 1e-4) { step in
        referenceSum { values in for i in values.indices { values[i] += step * direction[i] } }
      }
      #expect(
        abs(along - wanted) <= gradient * scale * max(norm, 1),
        "\(name): gradient of \(operand.name) along a direction: \(along), reference \(wanted)",
        sourceLocation: sourceLocation)
      let felt = slope(step: 0.02, ownSum)
      #expect(
        abs(along - felt) <= own * scale * max(norm, 1),
        "\(name): gradient of \(operand.name) along a direction: \(along), finite differences \(felt)",
        sourceLocation: sourceLocation)

      let largest = max(gradient64.map(abs).max() ?? 0, floor)
      let picked =
        operand.tensor.count <= 12
        ? Array(0..<operand.tensor.count)
        : (0..<12).map { _ in random.integer(below: operand.tensor.count) }
      for i in picked {
        let wanted = slope(step: 1e-4) { step in referenceSum { $0[i] += step } }
        #expect(
          abs(gradient64[i] - wanted) <= gradient * largest,
          "\(name): gradient of \(operand.name)[\(i)]: \(gradient64[i]), reference \(wanted), largest \(largest)",
          sourceLocation: sourceLocation)
      }
    }
  }

  private var isLoss: Bool {
    if case .loss = runResult() { return true }
    return false
  }

  private func runResult() -> OperationResult {
    let tape = Tape()
    return body(
      tape, inputs.map { tape.input($0.tensor) }, weights.map { Weight($0.tensor) })
  }

  private func run(_ inputs: [Operand], _ weights: [Operand], upstream: [Float]) -> OperationRun {
    OperationRun(inputs: inputs, weights: weights, upstream: upstream, body)
  }

  private func compare(
    _ found: [Double], _ expected: [Double], _ tolerance: Double, _ floor: Double, _ what: String,
    _ sourceLocation: SourceLocation
  ) {
    guard found.count == expected.count else {
      Issue.record(
        "\(name): \(what) has \(found.count) elements, expected \(expected.count)",
        sourceLocation: sourceLocation)
      return
    }
    let scale = max(expected.map(abs).max() ?? 0, floor)
    let worst = found.indices.max { abs(found[$0] - expected[$0]) < abs(found[$1] - expected[$1]) }
    guard let worst else { return }
    #expect(
      abs(found[worst] - expected[worst]) <= tolerance * scale,
      "\(name): \(what)[\(worst)]: \(found[worst]), reference \(expected[worst]), largest \(scale)",
      sourceLocation: sourceLocation)
  }
}

/// f'(0) by central differences of fourth order.
private func slope(step h: Double, _ f: (Double) -> Double) -> Double {
  (8 * (f(h) - f(-h)) - (f(2 * h) - f(-2 * h))) / (12 * h)
}

/// Normal random numbers, `scale` wide, around `mean`.
package func randomTensor(
  _ shape: [Int], _ random: inout SeededRandom, scale: Float = 1, mean: Float = 0
) -> Tensor {
  Tensor(
    (0..<shape.reduce(1, *)).map { _ in random.normal() * scale + mean }, shape: shape)
}
