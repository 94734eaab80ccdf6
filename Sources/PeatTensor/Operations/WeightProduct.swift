/// The products of a linear layer with its weight, in whatever storage that is, and of a low-rank update in the same pass.
///
/// With many rows the weight goes through `PanelProduct`, where the low-rank update costs a few more rows of the right
/// factor. With few, packing would cost more than it saves: `RowProduct` reads the weight once, from one end to the
/// other.
struct WeightProduct {
  let weight: Weight
  let layout: WeightLayout
  let lowRank: LowRankWeights?

  /// Rows for which bringing a weight into panels pays.
  private static let panelRows = 24

  private var inputs: Int { weight.shape[layout == .outputsByInputs ? 1 : 0] }
  private var outputs: Int { weight.shape[layout == .outputsByInputs ? 0 : 1] }

  // MARK: Forward

  /// out = x · Wᵀ + s · (x · Aᵀ) · Bᵀ + start; `projected` takes x · Aᵀ.
  ///
  /// A team shares the outputs of a few rows, or the rows where they are many.
  func forward(
    _ x: Activation, projected: Buffer?, out: FloatPointer, start: ProductStart, _ pool: BufferPool,
    team: ThreadTeam? = nil
  ) {
    let fewRows = team == nil ? RowProduct.mostRows : RowProduct.mostTeamRows
    if x.rows > fewRows {
      divide(x.rows, among: team, pool) { rows, pool in
        let first = rows.lowerBound
        weight.accept(
          Forward(
            product: self, x: x.rows(rows),
            projected: projected.map { $0.pointer + first * (lowRank?.down.shape[0] ?? 0) },
            out: out + first * outputs, start: start.from(row: first, column: 0), pool: pool))
      }
      return
    }
    let adds = layOut(start, rows: x.rows, to: out)
    RowProduct.compute(x, weight, layout, out: out, adds: adds, team: team)
    guard let lowRank, let projected else { return }
    let rank = lowRank.down.shape[0]
    PanelProduct.compute(
      rows: x.rows, columns: rank, depth: inputs, x: x.pointer, layout: .rows(x.stride),
      source: ColumnPanels(lowRank.down.pointer, stride: inputs, depth: inputs, columns: rank),
      out: projected.pointer, outLayout: .rows(rank), pool: pool)
    let scaled = pool.take(x.rows * rank)
    defer { withExtendedLifetime(scaled) {} }
    let factor = broadcast(lowRank.scale)
    mapVectors(x.rows * rank, projected.pointer, into: scaled.pointer) { $0 * factor }
    PanelProduct.compute(
      rows: x.rows, columns: outputs, depth: rank, x: scaled.pointer, layout: .rows(rank),
      source: ColumnPanels(lowRank.up.pointer, stride: rank, depth: rank, columns: outputs),
      out: out, outLayout: .rows(outputs), start: .values(out, stride: outputs), pool: pool)
  }

  /// Does `body` for ranges of rows, so long that each is worth bringing the weight into panels.
  private func divide(
    _ rows: Int, among team: ThreadTeam?, _ pool: BufferPool,
    _ body: (Range<Int>, BufferPool) -> Void
  ) {
    let parts = min(team?.count ?? 1, rows / Self.panelRows)
    guard let team, parts > 1 else { return body(0..<rows, pool) }
    team.run(parts) { body(rows * $0 / parts..<rows * ($0 + 1) / parts, team.pools[$0]) }
  }

  /// Writes the start where a product that adds will find it; `false` where there is none.
  private func layOut(_ start: ProductStart, rows: Int, to out: FloatPointer) -> Bool {
    if start.rows == nil, start.bias == nil { return false }
    for row in 0..<rows {
      let place = out + row * outputs
      if let source = start.rows {
        place.update(from: source + row * start.stride, count: outputs)
        if let bias = start.bias { add(outputs, bias, to: place) }
      } else if let bias = start.bias {
        place.update(from: bias, count: outputs)
      }
    }
    return true
  }

  private struct Forward: MatrixVisitor {
    let product: WeightProduct
    let x: Activation
    let projected: FloatPointer?
    let out: FloatPointer
    let start: ProductStart
    let pool: BufferPool

    func visit(_ matrix: some MatrixReader) {
      switch product.weight.storedLayout(product.layout) {
      case .outputsByInputs: compute(ColumnPanels(matrix: matrix, columns: product.outputs))
      case .inputsByOutputs: compute(RowPanels(matrix: matrix))
      }
    }

    private func compute(_ source: some PanelSource) {
      var update: PanelProduct.LowRank<ColumnPanels<DenseReader>, ColumnPanels<DenseReader>>?
      if let lowRank = product.lowRank, let projected {
        let rank = lowRank.down.shape[0]
        update = .init(
          down: ColumnPanels(
            lowRank.down.pointer, stride: product.inputs, depth: product.inputs, columns: rank),
          up: ColumnPanels(
            lowRank.up.pointer, stride: rank, depth: rank, columns: product.outputs),
          rank: rank, scale: lowRank.scale, projected: projected)
      }
      PanelProduct.compute(
        rows: x.rows, columns: product.outputs, depth: product.inputs, x: x.pointer,
        layout: .rows(x.stride), source: source, lowRank: update, out: out,
        outLayout: .rows(product.outputs), start: start, pool: pool)
    }
  }

  // MARK: Backward

  /// out (+)= dy · W + s · (dy · B) · A; `slope` takes dy · B. Without `out` only `slope` is computed.
  func backward(
    _ dy: FloatPointer, rows: Int, slope: Buffer?, out: FloatPointer?, outStride: Int, adds: Bool,
    _ pool: BufferPool
  ) {
    if let out {
      weight.accept(
        Backward(
          product: self, dy: dy, rows: rows, slope: slope?.pointer, out: out,
          outStride: outStride, adds: adds, pool: pool))
    } else if let slope, let lowRank {
      let rank = lowRank.down.shape[0]
      PanelProduct.compute(
        rows: rows, columns: rank, depth: outputs, x: dy, layout: .rows(outputs),
        source: RowPanels(lowRank.up.pointer, stride: rank, columns: rank),
        out: slope.pointer, outLayout: .rows(rank), pool: pool)
    }
  }

  private struct Backward: MatrixVisitor {
    let product: WeightProduct
    let dy: FloatPointer
    let rows: Int
    let slope: FloatPointer?
    let out: FloatPointer
    let outStride: Int
    let adds: Bool
    let pool: BufferPool

    func visit(_ matrix: some MatrixReader) {
      switch product.weight.storedLayout(product.layout) {
      case .outputsByInputs: compute(RowPanels(matrix: matrix))
      case .inputsByOutputs: compute(ColumnPanels(matrix: matrix, columns: product.inputs))
      }
    }

    private func compute(_ source: some PanelSource) {
      var update: PanelProduct.LowRank<RowPanels<DenseReader>, RowPanels<DenseReader>>?
      if let lowRank = product.lowRank, let slope {
        let rank = lowRank.down.shape[0]
        update = .init(
          down: RowPanels(lowRank.up.pointer, stride: rank, columns: rank),
          up: RowPanels(lowRank.down.pointer, stride: product.inputs, columns: product.inputs),
          rank: rank, scale: lowRank.scale, projected: slope)
      }
      PanelProduct.compute(
        rows: rows, columns: product.inputs, depth: product.outputs, x: dy,
        layout: .rows(product.outputs), source: source, lowRank: update, out: out,
        outLayout: .rows(outStride),
        start: adds ? .values(out, stride: outStride) : .zero, pool: pool)
    }
  }
}
