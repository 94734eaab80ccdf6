/// A matrix on its way through the model: one row per token.
///
/// Rows are `stride` floats apart, so a range of columns of a wider matrix is an activation too. If nothing
/// upstream of it trains it has no gradient slot, and no operation records or computes anything for its sake.
public struct Activation {
  package let buffer: Buffer
  package let offset: Int
  public let rows: Int
  public let columns: Int
  package let stride: Int
  package let slot: GradientSlot?
  /// How to get the values again, where nobody needs to keep them.
  let recomputation: Recomputation?

  package var pointer: UnsafeMutablePointer<Float> { buffer.pointer + offset }

  init(
    buffer: Buffer, offset: Int = 0, rows: Int, columns: Int, stride: Int, slot: GradientSlot?,
    recomputation: Recomputation? = nil
  ) {
    self.recomputation = recomputation
    self.buffer = buffer
    self.offset = offset
    self.rows = rows
    self.columns = columns
    self.stride = stride
    self.slot = slot
  }

  /// The same, with a way to get the values again.
  func recomputed(by recomputation: Recomputation) -> Activation {
    Activation(
      buffer: buffer, offset: offset, rows: rows, columns: columns, stride: stride, slot: slot,
      recomputation: recomputation)
  }

  /// The same shape and gradient slot without holding on to the values.
  var shapeOnly: Activation {
    Activation(
      buffer: Self.empty, offset: offset, rows: rows, columns: columns, stride: stride, slot: slot)
  }

  // Never read or written: it stands where a record keeps only a shape.
  nonisolated(unsafe) private static let empty = BufferPool().take(1)

  /// Whether something upstream trains, so that a gradient with respect to this matrix is wanted.
  public var needsGradient: Bool { slot != nil }

  /// Columns `range`, sharing memory and gradient.
  public func columns(_ range: Range<Int>) -> Activation {
    precondition(
      range.lowerBound >= 0 && range.upperBound <= columns, "columns \(range) of \(columns)")
    return Activation(
      buffer: buffer, offset: offset + range.lowerBound, rows: rows, columns: range.count,
      stride: stride, slot: slot)
  }

  /// The same values, so many in a row, sharing memory and gradient. Rows must lie one behind the other.
  package func reshaped(columns count: Int) -> Activation {
    precondition(
      columns == stride && rows * columns % count == 0,
      "reshaped: [\(rows), \(columns)] in rows of \(stride) to rows of \(count)")
    return Activation(
      buffer: buffer, offset: offset, rows: rows * columns / count, columns: count, stride: count,
      slot: slot)
  }

  /// The same values, treated as a constant: no gradient flows through it.
  package var detached: Activation {
    Activation(
      buffer: buffer, offset: offset, rows: rows, columns: columns, stride: stride, slot: nil)
  }

  /// Whether all values are numbers, neither NaN nor infinite.
  package var isFinite: Bool {
    (0..<rows).allSatisfy { areFinite(columns, pointer + $0 * stride) }
  }

  /// The first column with a row's largest value; nothing may be NaN.
  package func columnOfMaximum(row: Int) -> Int {
    let place = pointer + row * stride
    let top = maximum(columns, place)
    return (0..<columns).first { place[$0] == top } ?? 0
  }

  /// The values as a tensor of their own, `[rows, columns]`.
  public func tensor() -> Tensor {
    let result = Tensor(uninitialized: [rows, columns])
    for row in 0..<rows {
      (result.pointer + row * columns).update(from: pointer + row * stride, count: columns)
    }
    return result
  }
}

/// Where the gradient with respect to an activation collects on its tape.
package struct GradientSlot: Equatable {
  let index: Int
}

/// A weight as an operation sees it: its values, and where its gradient goes if it trains.
public struct Weight {
  private enum Values {
    case dense(Tensor)
    case packed(PackedMatrix)
  }

  private let values: Values
  package let shape: [Int]
  /// Index of its first value in the worker's gradient vector; `nil` if it is frozen.
  package let gradientOffset: Int?

  package init(_ tensor: Tensor, gradientOffset: Int? = nil) {
    values = .dense(tensor)
    shape = tensor.shape
    self.gradientOffset = gradientOffset
  }

  /// A frozen matrix in another storage than float32.
  package init(_ matrix: PackedMatrix) {
    values = .packed(matrix)
    shape = [matrix.rows, matrix.columns]
    gradientOffset = nil
  }

  package var trains: Bool { gradientOffset != nil }

  /// The same values as a matrix with as many rows as the first dimension says.
  package var matrix: Weight {
    guard case .dense(let tensor) = values, shape.count > 1 else { return self }
    return Weight(
      tensor.reshaped([shape[0], tensor.count / shape[0]]), gradientOffset: gradientOffset)
  }

  /// Its floats; `nil` where it is packed.
  var densePointer: FloatPointer? {
    if case .dense(let tensor) = values { tensor.pointer } else { nil }
  }

  /// Its floats. Only linear layers, heads and embeddings take packed weights.
  var pointer: FloatPointer {
    guard let densePointer else { preconditionFailure("a packed weight has no floats") }
    return densePointer
  }

  /// How it lies in memory for a layer that sees it in this layout: the other way round if it is kept as its transpose.
  func storedLayout(_ layout: WeightLayout) -> WeightLayout {
    guard case .packed(let matrix) = values, matrix.isTransposed else { return layout }
    return layout == .outputsByInputs ? .inputsByOutputs : .outputsByInputs
  }

  /// Does a visitor's work on the matrix as it lies in memory, in whatever storage it is.
  func accept<Visitor: MatrixVisitor>(_ visitor: Visitor) -> Visitor.Result {
    switch values {
    case .dense(let tensor):
      visitor.visit(DenseReader(pointer: tensor.pointer, stride: shape[1], columns: shape[1]))
    case .packed(let matrix): matrix.accept(visitor)
    }
  }
}

extension Activation {
  /// Some of the rows, sharing memory, as a constant.
  package func rows(_ range: Range<Int>) -> Activation {
    precondition(range.lowerBound >= 0 && range.upperBound <= rows, "rows \(range) of \(rows)")
    return Activation(
      buffer: buffer, offset: offset + range.lowerBound * stride, rows: range.count,
      columns: columns, stride: stride, slot: nil)
  }

  /// Writes all values into a tensor of the same shape.
  package func copy(to tensor: Tensor) {
    precondition(tensor.shape == [rows, columns], "copy: [\(rows), \(columns)] to \(tensor.shape)")
    for row in 0..<rows {
      (tensor.pointer + row * columns).update(from: pointer + row * stride, count: columns)
    }
  }

  /// Writes all rows into another matrix, from row `row` on.
  package func copyRows(to target: Activation, at row: Int) {
    precondition(
      target.columns == columns && row + rows <= target.rows,
      "copyRows: [\(rows), \(columns)] at \(row) of [\(target.rows), \(target.columns)]")
    for i in 0..<rows {
      (target.pointer + (row + i) * target.stride).update(
        from: pointer + i * stride, count: columns)
    }
  }
}
