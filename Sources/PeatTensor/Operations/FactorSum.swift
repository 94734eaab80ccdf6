#if canImport(Accelerate)
  import Accelerate
#else
  import CPeatBLAS
#endif

/// A sum of products of thin matrices, Σ wₖ · Lₖ · Rₖ, kept as factors in float64: the matrix itself, `rows × columns`, is never made.
///
/// The factors stand side by side, L = [w₁·L₁, w₂·L₂, …] and R below each other. Where they get wider than the matrix could need they are
/// written anew with as many columns as its rank, so that memory does not grow with the number of products.
package struct FactorSum: Sendable {
  package let rows: Int
  package let columns: Int
  /// Columns of the factors.
  package private(set) var width = 0
  /// L, column after column.
  private var left: [Double] = []
  /// R, row after row.
  private var right: [Double] = []

  package init(rows: Int, columns: Int) {
    self.rows = rows
    self.columns = columns
  }

  /// Adds w · L · R.
  ///
  /// - Parameters:
  ///   - first: L, `[rows, r]`.
  ///   - second: R, `[r, columns]`.
  package mutating func add(_ weight: Double, _ first: Tensor, _ second: Tensor) throws {
    let rank = first.shape.last ?? 0
    precondition(
      first.shape == [rows, rank] && second.shape == [rank, columns],
      "FactorSum: \(first.shape) and \(second.shape) for \(rows) × \(columns)")
    if weight == 0 { return }
    left.reserveCapacity(left.count + rows * rank)
    for column in 0..<rank {
      for row in 0..<rows { left.append(weight * Double(first.pointer[row * rank + column])) }
    }
    right.append(contentsOf: (0..<second.count).lazy.map { Double(second.pointer[$0]) })
    width += rank
    if width > 2 * min(rows, columns) { try compress() }
  }

  /// Adds w · B · A.
  package mutating func add(_ weight: Double, _ pair: LowRankFactors) throws {
    try add(weight, pair.up, pair.down)
  }

  /// Adds w times another sum of the same size.
  package mutating func add(_ weight: Double, _ other: FactorSum) {
    precondition(other.rows == rows && other.columns == columns, "FactorSum: another size")
    left.append(contentsOf: other.left.lazy.map { weight * $0 })
    right.append(contentsOf: other.right)
    width += other.width
  }

  /// Multiplies the sum.
  package mutating func scale(by factor: Double) {
    for place in left.indices { left[place] *= factor }
  }

  private mutating func compress() throws {
    let parts = try singularValues()
    let kept = parts.rank(tolerance: 1e-15)
    left = (0..<kept).flatMap { k in parts.leftColumn(k).map { $0 * parts.values[k] } }
    right = (0..<kept).flatMap { k in Array(parts.rightRow(k)) }
    width = kept
  }

  /// The Frobenius norm: √ of the sum of (LᵀL) ∘ (RRᵀ).
  ///
  /// Its error is about 1e-8 of the norms of the products that were added, also where they cancel.
  package var norm: Double {
    if width == 0 { return 0 }
    let first = Self.squares(left, length: rows, count: width)
    let second = Self.squares(right, length: columns, count: width)
    let sum = zip(first, second).reduce(0.0) { $0 + $1.0 * $1.1 }
    return max(sum, 0).squareRoot()
  }

  /// XᵀX of a matrix of `count` columns.
  private static func squares(_ values: [Double], length: Int, count: Int) -> [Double] {
    var result = [Double](repeating: 0, count: count * count)
    _ = BLAS.singleThreaded
    cblas_dgemm(
      CblasColMajor, CblasTrans, CblasNoTrans, numericCast(count), numericCast(count),
      numericCast(length), 1, values, numericCast(length), values, numericCast(length), 0, &result,
      numericCast(count))
    return result
  }

  // MARK: Singular values

  /// The sum as U · diag(s) · Vᵀ, with at most as many singular values as the factors have columns.
  package struct SingularValues: Sendable {
    /// Falling.
    package let values: [Double]
    /// U, column after column.
    fileprivate let left: [Double]
    /// Vᵀ, row after row.
    fileprivate let right: [Double]
    private let rows: Int
    private let columns: Int

    fileprivate init(
      values: [Double], left: [Double], right: [Double], rows: Int, columns: Int
    ) {
      self.values = values
      self.left = left
      self.right = right
      self.rows = rows
      self.columns = columns
    }

    fileprivate func leftColumn(_ k: Int) -> ArraySlice<Double> {
      left[k * rows..<(k + 1) * rows]
    }

    fileprivate func rightRow(_ k: Int) -> ArraySlice<Double> {
      right[k * columns..<(k + 1) * columns]
    }

    /// How many singular values are above a share of the largest.
    package func rank(tolerance: Double) -> Int {
      guard let largest = values.first, largest > 0 else { return 0 }
      return values.prefix { $0 > tolerance * largest }.count
    }

    /// Some components as two factors, rounded to float32: B `[rows, r]` and A `[r, columns]`.
    ///
    /// - Parameter share: from a singular value to what multiplies its row of A; B is multiplied with the rest.
    package func factors(_ places: Range<Int>, share: (Double) -> Double) -> LowRankFactors {
      let rank = places.count
      let first = Tensor(uninitialized: [rows, rank])
      let second = Tensor(uninitialized: [rank, columns])
      for (new, k) in places.enumerated() {
        let own = share(values[k])
        for (row, value) in leftColumn(k).enumerated() {
          first.pointer[row * rank + new] = Float(value * values[k] / own)
        }
        for (column, value) in rightRow(k).enumerated() {
          second.pointer[new * columns + column] = Float(value * own)
        }
      }
      return LowRankFactors(down: second, up: first)
    }
  }

  /// By QR of both factors and the singular values of what is between the two orthogonal ones, a matrix of `width × width` at most.
  ///
  /// - Throws: `badData` where a factor holds no numbers, or the iteration does not end.
  package func singularValues() throws -> SingularValues {
    guard width > 0 else {
      return SingularValues(values: [], left: [], right: [], rows: rows, columns: columns)
    }
    guard left.allSatisfy(\.isFinite), right.allSatisfy(\.isFinite) else {
      throw PeatError.badData("A product of low-rank factors holds NaN or infinity.")
    }
    _ = BLAS.singleThreaded
    let first = try Orthogonal(left, rows: rows, columns: width)
    let second = try Orthogonal(right, rows: columns, columns: width)
    let (m, n) = (first.size, second.size)
    var core = [Double](repeating: 0, count: m * n)
    cblas_dgemm(
      CblasColMajor, CblasNoTrans, CblasTrans, numericCast(m), numericCast(n),
      numericCast(width), 1, first.triangle, numericCast(m), second.triangle, numericCast(n), 0,
      &core, numericCast(m))
    let small = min(m, n)
    var values = [Double](repeating: 0, count: small)
    var u = [Double](repeating: 0, count: m * small)
    var vt = [Double](repeating: 0, count: small * n)
    var integers = [Int32](repeating: 0, count: 8 * small)
    var job = CChar(UInt8(ascii: "S"))
    var (m32, n32, small32, information) = (Int32(m), Int32(n), Int32(small), Int32(0))
    try Self.withWork { work, size in
      dgesdd_(
        &job, &m32, &n32, &core, &m32, &values, &u, &m32, &vt, &small32, work, size, &integers,
        &information)
      return information
    }
    var v = [Double](repeating: 0, count: n * small)
    for k in 0..<small {
      for row in 0..<n { v[k * n + row] = vt[row * small + k] }
    }
    return SingularValues(
      values: values, left: try first.times(u, columns: small),
      right: try second.times(v, columns: small), rows: rows, columns: columns)
  }

  /// Asks LAPACK how much work space a routine wants, then calls it.
  fileprivate static func withWork(
    _ call: (UnsafeMutablePointer<Double>, UnsafePointer<Int32>) -> Int32
  ) throws {
    var wanted = 0.0
    var size: Int32 = -1
    var information = call(&wanted, &size)
    if information == 0 {
      size = Int32(max(wanted, 1))
      var work = [Double](repeating: 0, count: Int(size))
      information = call(&work, &size)
    }
    guard information == 0 else {
      throw PeatError.badData(
        "The singular values of a sum of low-rank products could not be found (LAPACK says \(information))."
      )
    }
  }

  /// Q · R of a matrix, Q kept as LAPACK's reflections.
  private struct Orthogonal {
    let rows: Int
    /// Columns of Q and rows of R.
    let size: Int
    /// R, `size × columns`, column after column.
    let triangle: [Double]
    private let reflections: [Double]
    private let factors: [Double]

    init(_ matrix: [Double], rows: Int, columns: Int) throws {
      var copy = matrix
      let size = min(rows, columns)
      var factors = [Double](repeating: 0, count: size)
      var (m, n, information) = (Int32(rows), Int32(columns), Int32(0))
      try FactorSum.withWork { work, length in
        dgeqrf_(&m, &n, &copy, &m, &factors, work, length, &information)
        return information
      }
      var triangle = [Double](repeating: 0, count: size * columns)
      for column in 0..<columns {
        for row in 0...min(column, size - 1) {
          triangle[column * size + row] = copy[column * rows + row]
        }
      }
      self.rows = rows
      self.size = size
      self.triangle = triangle
      self.factors = factors
      reflections = Array(copy.prefix(rows * size))
    }

    /// Q · X, X `size × columns`.
    func times(_ matrix: [Double], columns: Int) throws -> [Double] {
      var result = [Double](repeating: 0, count: rows * columns)
      for column in 0..<columns {
        for row in 0..<size { result[column * rows + row] = matrix[column * size + row] }
      }
      var side = CChar(UInt8(ascii: "L"))
      var transpose = CChar(UInt8(ascii: "N"))
      var (m, n, k, information) = (Int32(rows), Int32(columns), Int32(size), Int32(0))
      try FactorSum.withWork { work, length in
        dormqr_(
          &side, &transpose, &m, &n, &k, reflections, &m, factors, &result, &m, work, length,
          &information)
        return information
      }
      return result
    }
  }
}
