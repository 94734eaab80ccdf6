/// The squares of a layer's weights, summed for each output: ‖wᵢ‖², `[outputs]`.
package func squaredRowNorms(_ weight: Tensor, layout: WeightLayout) -> Tensor {
  let (outputs, inputs) =
    layout == .outputsByInputs
    ? (weight.shape[0], weight.shape[1]) : (weight.shape[1], weight.shape[0])
  let result = Tensor(zeros: [outputs])
  switch layout {
  case .outputsByInputs:
    for row in 0..<outputs {
      let place = weight.pointer + row * inputs
      var sum = 0.0
      for i in 0..<inputs { sum += Double(place[i]) * Double(place[i]) }
      result.pointer[row] = Float(sum)
    }
  case .inputsByOutputs:
    var sums = [Double](repeating: 0, count: outputs)
    for i in 0..<inputs {
      let place = weight.pointer + i * outputs
      for row in 0..<outputs { sums[row] += Double(place[row]) * Double(place[row]) }
    }
    for row in 0..<outputs { result.pointer[row] = Float(sums[row]) }
  }
  return result
}

extension Tape {
  /// The norm of each row of W + s · B · A without that matrix: ‖wᵢ‖² + 2 s · bᵢ · (A wᵢ) + s² · bᵢ · (A Aᵀ) bᵢ, and its root.
  ///
  /// Costs r · inputs · outputs, as much as the layer itself costs for r rows.
  ///
  /// - Parameters:
  ///   - weight: W, frozen; packed or not.
  ///   - squares: ‖wᵢ‖², `[outputs]`.
  ///   - lowRank: A `[r, inputs]`, B `[outputs, r]` and s.
  /// - Returns: `[outputs]`, as constants.
  package func rowNorms(
    of weight: Weight, layout: WeightLayout, squares: Tensor, lowRank: LowRankWeights
  ) -> Buffer {
    profile?.enter(.lowRank)
    defer { profile?.leave() }
    let (rank, inputs) = (lowRank.down.shape[0], lowRank.down.shape[1])
    let outputs = lowRank.up.shape[0]
    let (a, b) = (lowRank.down.pointer, lowRank.up.pointer)
    let down = makeActivation(rows: rank, columns: inputs, needsGradient: false)
    down.pointer.update(from: a, count: rank * inputs)
    // A · Wᵀ, [r, outputs]
    let crossed = pool.take(rank * outputs)
    defer { withExtendedLifetime(crossed) {} }
    WeightProduct(weight: weight, layout: layout, lowRank: nil).forward(
      down, projected: nil, out: crossed.pointer, start: .zero, pool)
    // A · Aᵀ, [r, r]
    var gram = [Double](repeating: 0, count: rank * rank)
    for i in 0..<rank {
      for j in 0...i {
        let product = Double(dot(inputs, a + i * inputs, a + j * inputs))
        gram[i * rank + j] = product
        gram[j * rank + i] = product
      }
    }
    let s = Double(lowRank.scale)
    let result = pool.take(outputs)
    for output in 0..<outputs {
      let row = b + output * rank
      var (mixed, own) = (0.0, 0.0)
      for i in 0..<rank {
        let value = Double(row[i])
        mixed += value * Double(crossed.pointer[i * outputs + output])
        var sum = 0.0
        for j in 0..<rank { sum += gram[i * rank + j] * Double(row[j]) }
        own += value * sum
      }
      let square = Double(squares.pointer[output]) + 2 * s * mixed + s * s * own
      result.pointer[output] = Float(max(square, 1e-24).squareRoot())
    }
    return result
  }
}

/// W with its row for each output multiplied by a number, in memory of its own.
package func scalingOutputs(_ weight: Tensor, by factors: [Float], layout: WeightLayout) -> Tensor {
  let result = weight.copied()
  let (rows, columns) = (weight.shape[0], weight.shape[1])
  for row in 0..<rows {
    let place = result.pointer + row * columns
    for column in 0..<columns {
      place[column] *= factors[layout == .outputsByInputs ? row : column]
    }
  }
  return result
}
