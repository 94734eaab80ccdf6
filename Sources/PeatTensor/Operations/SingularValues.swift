#if canImport(Accelerate)
  import Accelerate
#else
  import CPeatBLAS
#endif

/// A matrix as U · diag(s) · Vᵀ.
package struct SingularValues {
  /// `[rows, k]`, k the smaller of both sizes; columns are orthonormal.
  package let left: Tensor
  /// Falling.
  package let values: [Float]
  /// `[k, columns]`; rows are orthonormal.
  package let right: Tensor

  /// By LAPACK's divide and conquer.
  ///
  /// - Throws: `badData` where the matrix holds no numbers, or the iteration does not end.
  package init(of matrix: Tensor, named name: String) throws {
    precondition(matrix.shape.count == 2, "SingularValues: \(matrix.shape)")
    guard matrix.isFinite else {
      throw PeatError.badData("'\(name)' holds NaN or infinity: it has no singular values.")
    }
    // LAPACK reads columns: to it the matrix is its transpose, and both factors change places.
    var m = Int32(matrix.shape[1])
    var n = Int32(matrix.shape[0])
    var small = min(m, n)
    let copy = matrix.copied()
    let u = Tensor(uninitialized: [Int(small), Int(m)])
    let vt = Tensor(uninitialized: [Int(n), Int(small)])
    var singular = [Float](repeating: 0, count: Int(small))
    var integers = [Int32](repeating: 0, count: 8 * Int(small))
    var information: Int32 = 0
    var job = CChar(UInt8(ascii: "S"))
    var size: Int32 = -1
    var wanted: Float = 0
    _ = BLAS.singleThreaded
    sgesdd_(
      &job, &m, &n, copy.pointer, &m, &singular, u.pointer, &m, vt.pointer, &small, &wanted, &size,
      &integers, &information)
    size = Int32(wanted)
    var work = [Float](repeating: 0, count: max(Int(size), 1))
    sgesdd_(
      &job, &m, &n, copy.pointer, &m, &singular, u.pointer, &m, vt.pointer, &small, &work, &size,
      &integers, &information)
    guard information == 0 else {
      throw PeatError.badData(
        "The singular values of '\(name)' could not be found (LAPACK says \(information)).")
    }
    values = singular
    right = u
    left = vt
  }

  /// Some of the components σ_k · u_k · v_kᵀ, summed, as two factors, each with the square roots of the singular values: `[rows, r]` and
  /// `[r, columns]`. The first r are the matrix's best approximation of that rank.
  package func factors(of places: [Int]) -> (left: Tensor, right: Tensor) {
    let (rows, columns, all) = (left.shape[0], right.shape[1], values.count)
    let rank = places.count
    let first = Tensor(uninitialized: [rows, rank])
    let second = Tensor(uninitialized: [rank, columns])
    for (new, k) in places.enumerated() {
      let root = values[k].squareRoot()
      for row in 0..<rows {
        first.pointer[row * rank + new] = left.pointer[row * all + k] * root
      }
      for column in 0..<columns {
        second.pointer[new * columns + column] = right.pointer[k * columns + column] * root
      }
    }
    return (first, second)
  }
}

/// The product of two matrices, `[m, k]` and `[k, n]`.
package func matrixProduct(_ left: Tensor, _ right: Tensor) -> Tensor {
  let (m, k, n) = (left.shape[0], left.shape[1], right.shape[1])
  precondition(right.shape[0] == k, "matrixProduct: \(left.shape) and \(right.shape)")
  let result = Tensor(zeros: [m, n])
  MatrixProduct.compute(
    m: m, n: n, k: k, alpha: 1, a: left.pointer, lda: k, b: right.pointer, ldb: n, beta: 0,
    c: result.pointer, ldc: n)
  return result
}
