#if canImport(Accelerate)
  import Accelerate
#else
  import CPeatBLAS
#endif

/// What all calls of BLAS and LAPACK need first.
enum BLAS {
  /// Lets them work on the calling thread alone: threads of their own wait for each other where others are busy.
  static let singleThreaded: Void = {
    #if !canImport(Accelerate)
      openblas_set_num_threads(1)
    #endif
  }()
}

/// Matrix products, by OpenBLAS or Accelerate, always on the calling thread.
///
/// Parallelism belongs to the engine: it splits the batch over workers with one join per step, which beats a BLAS
/// that forks and joins inside each product.
enum MatrixProduct {
  /// C = α · op(A) · op(B) + β · C, row-major.
  ///
  /// - Parameters:
  ///   - m: rows of op(A) and C.
  ///   - n: columns of op(B) and C.
  ///   - k: columns of op(A), rows of op(B).
  ///   - a: `[m, k]` with row stride `lda`, or `[k, m]` if `transposeA`.
  ///   - b: `[k, n]` with row stride `ldb`, or `[n, k]` if `transposeB`.
  ///   - c: `[m, n]` with row stride `ldc`. Not read where `beta` is 0.
  static func compute(
    m: Int, n: Int, k: Int, alpha: Float = 1,
    a: FloatPointer, lda: Int, transposeA: Bool = false,
    b: FloatPointer, ldb: Int, transposeB: Bool = false,
    beta: Float = 0, c: FloatPointer, ldc: Int
  ) {
    if m == 0 || n == 0 { return }
    _ = BLAS.singleThreaded
    cblas_sgemm(
      CblasRowMajor, transposeA ? CblasTrans : CblasNoTrans, transposeB ? CblasTrans : CblasNoTrans,
      numericCast(m), numericCast(n), numericCast(k), alpha, a, numericCast(lda), b,
      numericCast(ldb), beta, c, numericCast(ldc))
  }

  /// The lower triangle of C += Xᵀ · X; X is `[k, n]` with row stride `ldx`, C `[n, n]`.
  static func addSquare(n: Int, k: Int, x: FloatPointer, ldx: Int, c: FloatPointer) {
    if n == 0 || k == 0 { return }
    _ = BLAS.singleThreaded
    cblas_ssyrk(
      CblasRowMajor, CblasLower, CblasTrans, Int32(n), Int32(k), 1, x, Int32(ldx), 1, c, Int32(n))
  }
}
