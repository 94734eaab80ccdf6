/// The products of a linear layer with its weight, in whatever storage that is, and of a low-rank update in the same pass.
///
/// With many rows the weight goes through `PanelProduct`, where the low-rank update costs a few more rows of the right
/// factor. With few, packing would cost more than it saves: `RowProduct` reads the weight once, from one end to the
/// other. What is between goes to BLAS if the weight lies there as floats.
struct WeightProduct {
  let weight: Weight
  let layout: WeightLayout
  let lowRank: LowRankWeights?

  /// From so many rows on panels pay, and from such a width on: packing the left factor costs as much however few
  /// columns it is used for.
  private static let panelRows = 24
  private static let panelWidth = 48

  private func usesPanels(rows: Int) -> Bool {
    rows >= Self.panelRows && min(inputs, outputs) >= Self.panelWidth
  }

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
    let isPacked = weight.densePointer == nil
    let fewRows = team == nil ? RowProduct.mostRows : RowProduct.mostTeamRows
    if usesPanels(rows: x.rows) || isPacked && x.rows > fewRows {
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
    if x.rows <= fewRows {
      RowProduct.compute(x, weight, layout, out: out, adds: adds, team: team)
    } else {
      MatrixProduct.compute(
        m: x.rows, n: outputs, k: inputs, a: x.pointer, lda: x.stride,
        b: weight.pointer, ldb: weight.shape[1], transposeB: layout == .outputsByInputs,
        beta: adds ? 1 : 0, c: out, ldc: outputs)
    }
    guard let lowRank, let projected else { return }
    let rank = lowRank.down.shape[0]
    MatrixProduct.compute(
      m: x.rows, n: rank, k: inputs, a: x.pointer, lda: x.stride,
      b: lowRank.down.pointer, ldb: inputs, transposeB: true, c: projected.pointer, ldc: rank)
    MatrixProduct.compute(
      m: x.rows, n: outputs, k: rank, alpha: lowRank.scale, a: projected.pointer, lda: rank,
      b: lowRank.up.pointer, ldb: rank, transposeB: true, beta: 1, c: out, ldc: outputs)
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
    if usesPanels(rows: rows) || weight.densePointer == nil {
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
      return
    }
    if let out {
      MatrixProduct.compute(
        m: rows, n: inputs, k: outputs, a: dy, lda: outputs, b: weight.pointer,
        ldb: weight.shape[1], transposeB: layout == .inputsByOutputs, beta: adds ? 1 : 0, c: out,
        ldc: outStride)
    }
    guard let lowRank, let slope else { return }
    let rank = lowRank.down.shape[0]
    MatrixProduct.compute(
      m: rows, n: rank, k: outputs, a: dy, lda: outputs, b: lowRank.up.pointer, ldb: rank,
      c: slope.pointer, ldc: rank)
    if let out {
      MatrixProduct.compute(
        m: rows, n: inputs, k: rank, alpha: lowRank.scale, a: slope.pointer, lda: rank,
        b: lowRank.down.pointer, ldb: inputs, beta: 1, c: out, ldc: outStride)
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
