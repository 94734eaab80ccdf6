#if canImport(Accelerate)
  import Accelerate
#else
  import CPeatBLAS
#endif

/// A symmetric matrix of inputs' products, S + ε · mean(diagonal of S) · 1 = L · Lᵀ.
package struct CholeskyFactor {
  /// L, `[n, n]`; zero above the diagonal.
  package let lower: Tensor

  /// By LAPACK.
  ///
  /// - Parameters:
  ///   - matrix: S, symmetric, with no negative eigenvalue but for rounding.
  ///   - damping: ε; it is raised tenfold, a few times, where the matrix is not positive.
  /// - Throws: `badData` where the matrix holds no numbers, or is not positive all the same.
  package init(of matrix: Tensor, damping: Float = 0.01, named name: String) throws {
    precondition(
      matrix.shape.count == 2 && matrix.shape[0] == matrix.shape[1],
      "CholeskyFactor: \(matrix.shape)")
    guard matrix.isFinite else {
      throw PeatError.badData(
        "What goes into '\(name)' holds NaN or infinity: the model's weights are damaged.")
    }
    let count = matrix.shape[0]
    let mean =
      (0..<count).reduce(0.0) { $0 + Double(matrix.pointer[$1 * count + $1]) }
      / Double(max(count, 1))
    var damping = damping
    _ = BLAS.singleThreaded
    for _ in 0..<6 {
      let copy = matrix.copied()
      // Where nothing goes in any direction will do.
      let added = mean > 0 ? Float(mean) * damping : 1
      for index in 0..<count { copy.pointer[index * count + index] += added }
      // LAPACK reads columns: to it the lower triangle is the upper one.
      var triangle = CChar(UInt8(ascii: "U"))
      var (n, information) = (Int32(count), Int32(0))
      spotrf_(&triangle, &n, copy.pointer, &n, &information)
      if information == 0 {
        for row in 0..<count {
          (copy.pointer + row * count + row + 1).update(repeating: 0, count: count - row - 1)
        }
        lower = copy
        return
      }
      damping *= 10
    }
    throw PeatError.badData(
      "What goes into '\(name)' has no positive products; give a longer text.")
  }

  /// U with (L · Lᵀ)⁻¹ = Uᵀ · U, `[n, n]`, zero below the diagonal.
  package func inverseFactor(named name: String) throws -> Tensor {
    let count = lower.shape[0]
    let copy = lower.copied()
    var triangle = CChar(UInt8(ascii: "U"))
    var (n, information) = (Int32(count), Int32(0))
    spotri_(&triangle, &n, copy.pointer, &n, &information)
    // What LAPACK wrote is our lower triangle; the factor wanted is that of the columns' upper, which is our rows' lower: mirror first.
    for row in 0..<count {
      for column in 0..<row {
        copy.pointer[column * count + row] = copy.pointer[row * count + column]
      }
    }
    if information == 0 {
      // By columns A = Lc · Lcᵀ, with Lc the lower triangle by columns: by rows that is the upper one, U = Lcᵀ.
      triangle = CChar(UInt8(ascii: "L"))
      spotrf_(&triangle, &n, copy.pointer, &n, &information)
    }
    guard information == 0 else {
      throw PeatError.badData(
        "What goes into '\(name)' has products that can't be inverted; give a longer text.")
    }
    for row in 0..<count {
      (copy.pointer + row * count).update(repeating: 0, count: row)
    }
    return copy
  }

  /// X with X · Lᵀ⁻¹… : solves Y · Lᵀ = X for Y where `transposed`, Y · L = X where not; X and Y are `[m, n]`.
  package func dividing(_ matrix: Tensor, transposed: Bool = false) -> Tensor {
    let count = lower.shape[0]
    precondition(matrix.shape.count == 2 && matrix.shape[1] == count, "dividing: \(matrix.shape)")
    let result = matrix.copied()
    _ = BLAS.singleThreaded
    cblas_strsm(
      CblasRowMajor, CblasRight, CblasLower, transposed ? CblasTrans : CblasNoTrans, CblasNonUnit,
      Int32(matrix.shape[0]), Int32(count), 1, lower.pointer, Int32(count), result.pointer,
      Int32(count))
    return result
  }
}
