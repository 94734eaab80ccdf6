extension PackedMatrix {
  /// Packs a matrix into integers so that its products with inputs like those seen change little: what rounding one input's weights changes is made good by the weights
  /// of the inputs that come after it.
  ///
  ///     q_i = round(w_i);  w_j ← w_j − (w_i − q_i) / U_ii · U_ij  for j > i,   H⁻¹ = Uᵀ · U
  ///
  /// Scales are those, of the largest magnitude times 1, 0.975, …, 0.6, with which a group's weights as they are then lose the least, Σ (w − q)² / U_ii².
  ///
  /// Source: Frantar et al. 2023, *GPTQ*, <https://arxiv.org/abs/2210.17323>, with their dampening of 1 % of the diagonal's mean.
  ///
  /// - Parameters:
  ///   - products: H, `[inputs, inputs]`: the sum over the inputs x seen of x · xᵀ.
  ///   - keepsZeros: what is zero stays so, and makes nothing good.
  ///   - name: what errors call the matrix.
  /// - Throws: `badData` where the products are none.
  package convenience init(
    _ matrix: Tensor, as storage: WeightStorage, axis: Int, products: Tensor,
    keepsZeros: Bool = false, named name: String
  ) throws {
    precondition(storage == .int8 || storage == .int4, "error compensation is for integers")
    guard matrix.isFinite else {
      self.init(matrix, as: storage, axis: axis, halfScales: true)
      return
    }
    self.init(storage, rows: matrix.shape[0], columns: matrix.shape[1], axis: axis)
    let factor = try CholeskyFactor(of: products, named: name).inverseFactor(named: name)
    // [outputs, inputs]
    let weights = axis == 1 ? matrix.copied() : matrix.transposed()
    let (rows, columns) = (storedRows, storedColumns)
    let group = Self.groupSize
    let limit: Float = storage == .int8 ? 127 : 7
    let errors = Tensor(zeros: [max(rows, 1), group])
    let zeros = keepsZeros ? weights.copied() : nil
    let seen = Tensor(zeros: [group])
    for first in stride(from: 0, to: columns, by: group) {
      let count = min(group, columns - first)
      for row in 0..<rows {
        let line = weights.pointer + row * columns + first
        let own = zeros.map { $0.pointer + row * columns + first }
        func isGone(_ place: Int) -> Bool { own.map { $0[place] == 0 } ?? false }
        for place in 0..<count { seen.pointer[place] = isGone(place) ? 0 : line[place] }
        let scale = Self.scale(seen.pointer, count, limit: limit, factor, first)
        scales[row * scaleStride + first / group] = scale
        let error = errors.pointer + row * group
        for place in 0..<count {
          let whole = factor.pointer + (first + place) * columns
          let rounded =
            scale > 0 && !isGone(place) ? (line[place] / scale).rounded(.toNearestOrEven) : 0
          let kept = max(-limit, min(limit, rounded))
          put(Int8(kept), row, first + place)
          let off = (line[place] - kept * scale) / whole[first + place]
          error[place] = off
          for other in place + 1..<max(count, place + 1) {
            line[other] -= off * whole[first + other]
          }
        }
      }
      let rest = columns - first - count
      MatrixProduct.compute(
        m: rows, n: rest, k: count, alpha: -1, a: errors.pointer, lda: group,
        b: factor.pointer + first * columns + first + count, ldb: columns, beta: 1,
        c: weights.pointer + first + count, ldc: columns)
    }
  }

  /// The scale with which a group's weights lose the least, as float16 has it.
  private static func scale(
    _ weights: FloatPointer, _ count: Int, limit: Float, _ factor: Tensor, _ first: Int
  ) -> Float {
    let columns = factor.shape[1]
    let largest = (0..<count).reduce(Float(0)) { max($0, weights[$1].magnitude) }
    guard largest > 0 else { return 0 }
    var best = (loss: Float.infinity, scale: Float(0))
    for step in 0...16 {
      let scale = Float(float16: (largest / limit * (1 - 0.025 * Float(step))).float16Bits)
      guard scale > 0, scale.isFinite else { continue }
      var loss: Float = 0
      for place in 0..<count {
        let rounded = (weights[place] / scale).rounded(.toNearestOrEven)
        let off =
          (weights[place] - max(-limit, min(limit, rounded)) * scale)
          / factor.pointer[(first + place) * columns + first + place]
        loss += off * off
      }
      if loss < best.loss { best = (loss, scale) }
    }
    return best.scale
  }
}
