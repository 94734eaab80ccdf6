/// Looks at what goes through linear layers while a tape computes, for statistics that compressions rest on.
///
/// Each tape has one of its own and calls it on its own thread.
package protocol LinearObserver: AnyObject, Sendable {
  /// - Parameters:
  ///   - name: of the layer's matrix.
  ///   - input: `[N, inputs]`.
  func matrix(_ name: String, took input: Activation)

  /// - Parameters:
  ///   - name: of the layer's matrix.
  ///   - input: `[N, inputs]`.
  ///   - gradient: with respect to what came out, `[N, outputs]`.
  func matrix(_ name: String, took input: Activation, got gradient: Activation)

  /// Called when its worker has done its last piece of work.
  func finish()
}

extension Tape {
  /// Tells the observer what a matrix was multiplied with and, in the backward pass, the gradient of what came out.
  package func observe(_ name: String, input: Activation, output: Activation) {
    guard let observer else { return }
    observer.matrix(name, took: input)
    if output.needsGradient {
      record(
        .observation(
          ObservationRecord(observer: observer, name: name, input: input, output: output.shapeOnly))
      )
    }
  }
}

/// Runs before its layer's own record, when the gradient of what came out is complete.
struct ObservationRecord {
  let observer: any LinearObserver
  let name: String
  let input: Activation
  let output: Activation

  func backward(_ tape: Tape) {
    guard let gradient = tape.peekGradient(of: output) else { return }
    observer.matrix(
      name, took: input,
      got: Activation(
        buffer: gradient, offset: output.offset, rows: output.rows, columns: output.columns,
        stride: output.stride, slot: nil))
  }
}

/// The lower triangle of S += Xᵀ · X, `[columns, columns]`; what is above the diagonal is left as it is until `mirror`.
package func addSquare(_ x: Activation, to sum: Tensor) {
  precondition(sum.shape == [x.columns, x.columns], "addSquare: \(sum.shape)")
  MatrixProduct.addSquare(
    n: x.columns, k: x.rows, x: x.pointer, ldx: x.stride, c: sum.pointer)
}

/// Copies what is below a square matrix's diagonal above it.
package func mirror(_ matrix: Tensor) {
  let count = matrix.shape[0]
  for row in 0..<count {
    for column in 0..<row {
      matrix.pointer[column * count + row] = matrix.pointer[row * count + column]
    }
  }
}

/// C += Xᵀ · Y of two matrices with as many rows; C is `[columns of X, columns of Y]`.
package func addProduct(_ x: Activation, _ y: Activation, to sum: Tensor) {
  precondition(
    x.rows == y.rows && sum.shape == [x.columns, y.columns], "addProduct: \(sum.shape)")
  MatrixProduct.compute(
    m: x.columns, n: y.columns, k: x.rows, a: x.pointer, lda: x.stride, transposeA: true,
    b: y.pointer, ldb: y.stride, beta: 1, c: sum.pointer, ldc: y.columns)
}
