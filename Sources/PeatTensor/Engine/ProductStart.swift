/// What a product is added to.
struct ProductStart {
  /// A matrix, from the place of the product's first value on.
  var rows: FloatPointer?
  /// Its rows are so many floats apart.
  var stride = 0
  /// A vector that is added to every row.
  var bias: FloatPointer?

  /// Nothing: the product overwrites what is there.
  static var zero: ProductStart { ProductStart() }

  /// A matrix's values.
  static func values(_ rows: FloatPointer, stride: Int) -> ProductStart {
    ProductStart(rows: rows, stride: stride)
  }

  /// The same start for a part of the product further on.
  @inline(__always) func from(row: Int, column: Int) -> ProductStart {
    ProductStart(
      rows: rows.map { $0 + (row &* stride &+ column) }, stride: stride,
      bias: bias.map { $0 + column })
  }
}
