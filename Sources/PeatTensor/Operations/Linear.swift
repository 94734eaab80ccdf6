/// How a linear layer's weight lies in memory.
public enum WeightLayout: Sendable {
  /// `[outputs, inputs]`, as PyTorch's Linear keeps it.
  case outputsByInputs
  /// `[inputs, outputs]`, as GPT-2's Conv1D keeps it.
  case inputsByOutputs
}

/// A low-rank update beside a linear layer: y += s · (x · Aᵀ) · Bᵀ.
///
/// Source: Hu et al. 2021, <https://arxiv.org/abs/2106.09685>.
public struct LowRankWeights {
  /// A, `[r, inputs]`.
  package let down: Weight
  /// B, `[outputs, r]`.
  package let up: Weight
  /// s = α / r.
  package let scale: Float

  package init(down: Weight, up: Weight, scale: Float) {
    self.down = down
    self.up = up
    self.scale = scale
  }
}

extension Tape {
  /// A linear layer with everything that is usually added to its output, in one pass.
  ///
  /// Equal to `x · Wᵀ + b + residual + s · (x · Aᵀ) · Bᵀ`.
  ///
  /// `N` rows, `K` inputs, `M` outputs, `r` rank.
  ///
  /// - Parameters:
  ///   - x: `[N, K]`.
  ///   - weight: W, `[M, K]`, or `[K, M]` in the layout `inputsByOutputs`.
  ///   - bias: b, `[M]`.
  ///   - residual: `[N, M]`.
  ///   - lowRank: A `[r, K]`, B `[M, r]` and s.
  /// - Returns: `[N, M]`.
  public func linear(
    _ x: Activation, weight: Weight, layout: WeightLayout = .outputsByInputs, bias: Weight? = nil,
    residual: Activation? = nil, lowRank: LowRankWeights? = nil
  ) -> Activation {
    profile?.enter(.products)
    defer { profile?.leave() }
    let inputs = weight.shape[layout == .outputsByInputs ? 1 : 0]
    let outputs = weight.shape[layout == .outputsByInputs ? 0 : 1]
    precondition(x.columns == inputs, "linear: input of width \(x.columns), weight \(weight.shape)")
    let weightsTrain =
      weight.trains || bias?.trains == true || lowRank?.down.trains == true
      || lowRank?.up.trains == true
    let output = makeActivation(
      rows: x.rows, columns: outputs,
      needsGradient: x.needsGradient || weightsTrain || residual?.needsGradient == true)
    if let residual {
      precondition(
        residual.columns == outputs && residual.rows == x.rows,
        "linear: residual [\(residual.rows), \(residual.columns)], output [\(x.rows), \(outputs)]")
    }
    var projected: Buffer?
    if let lowRank {
      let rank = lowRank.down.shape[0]
      precondition(
        lowRank.down.shape == [rank, inputs] && lowRank.up.shape == [outputs, rank],
        "linear: low rank \(lowRank.down.shape), \(lowRank.up.shape) for \(inputs) → \(outputs)")
      projected = pool.take(x.rows * rank)
    }
    WeightProduct(weight: weight, layout: layout, lowRank: lowRank).forward(
      x, projected: projected, out: output.pointer,
      start: ProductStart(
        rows: residual?.pointer, stride: residual?.stride ?? 0, bias: bias?.pointer), pool,
      team: isRecording ? nil : team)
    if output.needsGradient {
      let needsInput = weight.trains || lowRank?.down.trains == true
      record(
        .linear(
          LinearRecord(
            input: needsInput && x.recomputation == nil ? x : x.shapeOnly,
            recomputation: needsInput ? x.recomputation : nil,
            weight: weight, layout: layout, bias: bias, residual: residual?.shapeOnly,
            lowRank: lowRank, projected: projected, output: output.shapeOnly)))
    }
    return output
  }
}

struct LinearRecord {
  /// Its values only where they are needed and nobody can compute them again.
  let input: Activation
  let recomputation: Recomputation?
  let weight: Weight
  let layout: WeightLayout
  let bias: Weight?
  let residual: Activation?
  let lowRank: LowRankWeights?
  let projected: Buffer?
  let output: Activation

  func backward(_ tape: Tape) {
    guard let gradient = tape.takeGradient(of: output) else { return }
    // What follows uses a bare pointer into the gradient: the pool must not give its memory away meanwhile.
    defer { withExtendedLifetime(gradient) {} }
    let dy = gradient.pointer
    let rows = output.rows
    let outputs = output.columns
    let inputs = input.columns
    let restored = recomputation?.restored(tape.pool)
    defer { withExtendedLifetime(restored) {} }
    let values = restored?.pointer ?? input.pointer
    let valueStride = restored == nil ? input.stride : inputs
    tape.addGradient(of: weight) { dw in
      switch layout {
      case .outputsByInputs:
        addTransposedProduct(
          rows, dy, outputs, columns: outputs, values, valueStride, columns: inputs, to: dw,
          tape.pool)
      case .inputsByOutputs:
        addTransposedProduct(
          rows, values, valueStride, columns: inputs, dy, outputs, columns: outputs, to: dw,
          tape.pool)
      }
    }
    if let bias {
      tape.addGradient(of: bias) { db in
        for row in 0..<rows { add(outputs, dy + row * outputs, to: db) }
      }
    }
    let target = input.slot.map { tape.gradientTarget(for: input, in: $0) }
    let product = WeightProduct(weight: weight, layout: layout, lowRank: lowRank)
    if let lowRank, let projected {
      let rank = lowRank.down.shape[0]
      tape.addGradient(of: lowRank.up) { dB in
        tape.measured(.lowRank) {
          addTransposedSums(lowRank, projected, dy, rows, to: dB, tape.pool)
        }
      }
      if lowRank.down.trains || target != nil {
        // dy · B; times s it is the gradient of h.
        let slope = tape.pool.take(rows * rank)
        defer { withExtendedLifetime(slope) {} }
        product.backward(
          dy, rows: rows, slope: slope, out: target?.pointer, outStride: input.stride,
          adds: target?.isFresh == false, tape.pool)
        tape.addGradient(of: lowRank.down) { dA in
          tape.measured(.lowRank) {
            SkinnyProduct.addWeightedSums(
              rows: rows, rank: rank, columns: inputs, scale: lowRank.scale, u: slope.pointer,
              v: values, stride: valueStride, out: dA, pool: tape.pool)
          }
        }
      }
    } else if let target {
      product.backward(
        dy, rows: rows, slope: nil, out: target.pointer, outStride: input.stride,
        adds: !target.isFresh, tape.pool)
    }
    if let residual, let slot = residual.slot {
      if residual.columns == residual.stride {
        tape.give(gradient, to: residual)
      } else {
        let (place, _) = tape.gradientTarget(for: residual, in: slot)
        for row in 0..<rows { add(outputs, dy + row * outputs, to: place + row * residual.stride) }
      }
    }
  }

  /// out += aᵀ · b, over `rows` rows.
  private func addTransposedProduct(
    _ rows: Int, _ a: FloatPointer, _ aStride: Int, columns m: Int, _ b: FloatPointer,
    _ bStride: Int, columns n: Int, to out: FloatPointer, _ pool: BufferPool
  ) {
    PanelProduct.computeTransposed(
      rows: m, columns: n, depth: rows, x: a, stride: aStride,
      source: RowPanels(b, stride: bStride, columns: n), out: out, outStride: n,
      start: .values(out, stride: n), pool: pool)
  }

  /// dB += s · dyᵀ · h, computed as its transpose, whose rows are long.
  private func addTransposedSums(
    _ lowRank: LowRankWeights, _ projected: Buffer, _ dy: FloatPointer, _ rows: Int,
    to dB: FloatPointer, _ pool: BufferPool
  ) {
    let rank = lowRank.down.shape[0]
    let outputs = output.columns
    let sums = pool.take(rank * outputs)
    defer { withExtendedLifetime(sums) {} }
    sums.pointer.update(repeating: 0, count: rank * outputs)
    SkinnyProduct.addWeightedSums(
      rows: rows, rank: rank, columns: outputs, scale: lowRank.scale, u: projected.pointer, v: dy,
      stride: outputs, out: sums.pointer, pool: pool)
    for j in 0..<outputs {
      for r in 0..<rank { dB[j * rank + r] += sums.pointer[r * outputs + j] }
    }
  }
}

/// W + s · B · A in memory of its own, in the layout of W.
package func mergingLowRank(
  _ weight: Tensor, down: Tensor, up: Tensor, scale: Float, layout: WeightLayout
) -> Tensor {
  let result = weight.copied()
  let rank = down.shape[0]
  let (inputs, outputs) = (down.shape[1], up.shape[0])
  switch layout {
  case .outputsByInputs:
    MatrixProduct.compute(
      m: outputs, n: inputs, k: rank, alpha: scale, a: up.pointer, lda: rank,
      b: down.pointer, ldb: inputs, beta: 1, c: result.pointer, ldc: inputs)
  case .inputsByOutputs:
    MatrixProduct.compute(
      m: inputs, n: outputs, k: rank, alpha: scale, a: down.pointer, lda: inputs,
      transposeA: true, b: up.pointer, ldb: rank, transposeB: true, beta: 1, c: result.pointer,
      ldc: outputs)
  }
  return result
}
