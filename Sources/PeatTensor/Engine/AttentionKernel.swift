/// The attention of one sequence's queries with one head of keys and values, forward and backward.
///
/// Scores lie key by key, the queries of a block side by side: so a register holds one key's scores for many queries,
/// the softmax needs no sum across a register, and the block of probabilities is at once the left factor of the
/// products that follow. Keys and values are packed once for all queries and query heads.
struct AttentionKernel {
  /// Queries of a block: as many as fill whole strips and whole panels.
  static var blockColumns: Int { (ProductTile.registers == 3 ? 2 : 3) * ProductTile.columns }

  /// Where a matrix's rows of one head begin, and how far apart they are.
  struct Rows {
    let pointer: FloatPointer
    let stride: Int
  }

  /// How many queries there are.
  let queryCount: Int
  /// How many keys stand before the first query.
  let firstPosition: Int
  /// D.
  let width: Int
  let pool: BufferPool

  private var keyCount: Int { firstPosition + queryCount }
  private var paddedKeys: Int { ProductTile.wholeRows(keyCount) }
  private var scale: Float { 1 / Float(width).squareRoot() }

  /// Panels across a head, of as many registers each as can be.
  private var panels: Int {
    let registers = (width + lanes - 1) / lanes
    return (registers + ProductTile.registers - 1) / ProductTile.registers
  }
  private var panelColumns: Int {
    let registers = (width + lanes - 1) / lanes
    return (registers + panels - 1) / panels * lanes
  }

  /// What is packed of a head of keys or values.
  struct Packed {
    /// Rows as the left factor, where they lie.
    let rows: Rows
    /// The last of them, where they are fewer than a tile's.
    let edge: Buffer
    /// Rows as the right factor: for each panel of D's columns all keys.
    let panels: Buffer?
  }

  func pack(_ rows: Rows, panels wantsPanels: Bool) -> Packed {
    let edge = pool.take(ProductTile.rows * width)
    let whole = keyCount / ProductTile.rows * ProductTile.rows
    var last = strip(of: rows)
    last.pointer += whole * rows.stride
    if whole < keyCount {
      _ = ProductTile.pack(rows: keyCount - whole, depth: width, last, into: edge.pointer)
    }
    return Packed(
      rows: rows, edge: edge, panels: wantsPanels ? packPanels(rows, count: keyCount) : nil)
  }

  private func strip(of rows: Rows) -> ProductTile.Strip {
    ProductTile.Strip(pointer: rows.pointer, rowStride: rows.stride, depthStride: 1)
  }

  /// Rows as the right factor, panel after panel.
  private func packPanels(_ rows: Rows, count: Int) -> Buffer {
    let (panels, panelColumns) = (panels, panelColumns)
    let buffer = pool.take(panels * count * panelColumns)
    let source = DenseReader(pointer: rows.pointer, stride: rows.stride, columns: width)
    var place = buffer.pointer
    for panel in 0..<panels {
      for row in 0..<count {
        for offset in stride(from: 0, to: panelColumns, by: lanes) {
          let column = panel &* panelColumns &+ offset
          store(column < width ? source.vector(row, column) : .zero, place + offset)
        }
        place += panelColumns
      }
    }
    return buffer
  }

  /// The memory that blocks use one after the other.
  private struct Workspace {
    /// Queries or output gradients as the right factor: `[D, columns]`.
    let panel: Buffer
    /// `[keys, blockColumns]`.
    let scores: Buffer
    let tile: Buffer
  }

  private func makeWorkspace() -> Workspace {
    Workspace(
      panel: pool.take(width * ProductTile.columns),
      scores: pool.take(paddedKeys * Self.blockColumns),
      tile: pool.take(ProductTile.rows * ProductTile.columns))
  }

  /// Queries `first ..< first + count` of the head, in panels and strips.
  private struct Block {
    let first: Int
    let count: Int
    var panels: Int { (count + ProductTile.columns - 1) / ProductTile.columns }
  }

  private func forEachBlock(_ body: (Block) -> Void) {
    var first = 0
    while first < queryCount {
      let count = min(Self.blockColumns, queryCount - first)
      body(Block(first: first, count: count))
      first += count
    }
  }

  /// How many keys the last of these queries sees.
  private func visible(to query: Int) -> Int {
    firstPosition + min(query, queryCount - 1) + 1
  }

  // MARK: Forward

  /// Writes softmax(q · kᵀ / √D) · v and each query's statistics.
  ///
  /// - Parameters:
  ///   - tops: each query's largest score, before scaling; room for a panel behind the last.
  ///   - inverses: 1 / Σ exp(…), likewise.
  func forward(
    queries: Rows, keys: Packed, values: Packed, output: Rows, tops: FloatPointer,
    inverses: FloatPointer
  ) {
    guard let valuePanels = values.panels else { return }
    let workspace = makeWorkspace()
    defer { withExtendedLifetime((workspace.panel, workspace.scores, workspace.tile)) {} }
    forEachBlock { block in
      for panel in 0..<block.panels {
        let first = block.first + panel * ProductTile.columns
        let right = rows(queries, block, panel)
        score(keys, right, first, workspace, panel)
        softmax(workspace, panel, first, right.count, tops + first, inverses + first)
      }
      weigh(
        block, workspace, by: workspace.scores.pointer, valuePanels.pointer, keyCount, into: output,
        adds: false)
      for query in block.first..<block.first + block.count {
        let factor = broadcast(inverses[query])
        let place = output.pointer + query * output.stride
        mapVectors(width, place, into: place) { $0 * factor }
      }
    }
  }

  /// The part of the rows that a panel takes, and how many there are.
  private func rows(_ rows: Rows, _ block: Block, _ panel: Int) -> (rows: Rows, count: Int) {
    let skipped = panel * ProductTile.columns
    return (
      Rows(
        pointer: rows.pointer + (block.first + skipped) * rows.stride, stride: rows.stride),
      min(ProductTile.columns, block.count - skipped)
    )
  }

  /// One panel's columns of left · rightᵀ, for the keys that its last query sees; zeros for the block's other keys.
  private func score(
    _ left: Packed, _ right: (rows: Rows, count: Int), _ first: Int,
    _ workspace: Workspace, _ panel: Int, into target: FloatPointer? = nil
  ) {
    let place = (target ?? workspace.scores.pointer) + panel * ProductTile.columns
    let stride = Self.blockColumns
    ColumnPanels(
      right.rows.pointer, stride: right.rows.stride, depth: width, columns: right.count
    ).fill(workspace.panel.pointer, firstRow: 0, count: width, firstColumn: 0)
    let seen = visible(to: first + ProductTile.columns - 1)
    var factors = ProductTile.Factors(
      depth: width, strip: strip(of: left.rows), panel: workspace.panel.pointer)
    var walk = LineWalk.none
    var key = 0
    while key < seen {
      if key &+ ProductTile.rows > keyCount {
        factors.strip = ProductTile.Strip(
          pointer: left.edge.pointer, rowStride: 1, depthStride: ProductTile.rows)
      }
      // There is room for whole tiles of keys, and for whole registers of queries.
      ProductTile.compute(
        rows: ProductTile.rows, columns: registers(right.count) &* lanes, factors,
        place + key &* stride, stride, .zero, &walk, beside: workspace.tile.pointer)
      factors.strip.pointer += ProductTile.rows &* factors.strip.rowStride
      key &+= ProductTile.rows
    }
    // Strips of queries may reach into a panel that sees fewer keys.
    for key in seen..<max(seen, visible(to: first + 2 * ProductTile.columns - 1)) {
      (place + key * stride).update(repeating: 0, count: ProductTile.columns)
    }
  }

  /// Registers that so many queries take.
  @inline(__always) private func registers(_ count: Int) -> Int { (count &+ lanes &- 1) / lanes }

  /// Turns a panel's scores into exp((score − top) / √D), and finds tops and inverse sums.
  private func softmax(
    _ workspace: Workspace, _ panel: Int, _ first: Int, _ count: Int, _ tops: FloatPointer,
    _ inverses: FloatPointer
  ) {
    let scaleVector = broadcast(scale)
    let stride = Self.blockColumns
    for part in 0..<registers(count) {
      let column = panel * ProductTile.columns + part * lanes
      let place = workspace.scores.pointer + column
      let position = firstPosition + first + part * lanes
      let all = min(position + 1, keyCount)
      let seen = min(position + lanes, visible(to: first + ProductTile.columns - 1))
      var top = broadcast(-.infinity)
      for key in 0..<all {
        let value = load(place + key &* stride)
        top.replace(with: value, where: value .> top)
      }
      for key in all..<max(all, seen) {
        let value = load(place + key &* stride)
        top.replace(with: value, where: value .> top .& sees(key, from: position))
      }
      var sum = Vector.zero
      for key in 0..<all {
        let value = exp((load(place + key &* stride) - top) * scaleVector)
        store(value, place + key &* stride)
        sum += value
      }
      for key in all..<max(all, seen) {
        let value = exp((load(place + key &* stride) - top) * scaleVector)
        let masked = Vector.zero.replacing(with: value, where: sees(key, from: position))
        store(masked, place + key &* stride)
        sum += masked
      }
      clear(place, from: max(all, seen), to: visible(to: first + ProductTile.columns - 1))
      store(top, tops + part * lanes)
      store(broadcast(1) / sum, inverses + part * lanes)
    }
  }

  /// Which lanes, queries from a position on, see a key.
  @inline(__always) private func sees(_ key: Int, from position: Int) -> SIMDMask<MaskStorage> {
    Self.laneNumbers .>= broadcast(Float(key &- position))
  }

  private func clear(_ place: FloatPointer, from first: Int, to end: Int) {
    for key in first..<max(first, end) { store(.zero, place + key * Self.blockColumns) }
  }

  #if PEAT_WIDE
    private typealias MaskStorage = SIMD16<Int32>
    private static var laneNumbers: Vector {
      @inline(__always) get {
        Vector(
          lowHalf: SIMD8(0, 1, 2, 3, 4, 5, 6, 7), highHalf: SIMD8(8, 9, 10, 11, 12, 13, 14, 15))
      }
    }
  #else
    private typealias MaskStorage = SIMD8<Int32>
    private static var laneNumbers: Vector {
      @inline(__always) get { Vector(0, 1, 2, 3, 4, 5, 6, 7) }
    }
  #endif

  /// out (+)= weightsᵀ · right, for the queries of a block.
  ///
  /// - Parameters:
  ///   - weights: `[keys, blockColumns]`.
  ///   - right: `[panels][rightRows, columns]`.
  private func weigh(
    _ block: Block, _ workspace: Workspace, by weights: FloatPointer, _ right: FloatPointer,
    _ rightRows: Int, into out: Rows, adds: Bool
  ) {
    let (panels, panelColumns) = (panels, panelColumns)
    var walk = LineWalk.none
    var row = 0
    while row < block.count {
      let depth = visible(to: block.first + min(row + ProductTile.rows, block.count) - 1)
      let line = out.pointer + (block.first + row) * out.stride
      for panel in 0..<panels {
        let column = panel * panelColumns
        let factors = ProductTile.Factors(
          depth: depth,
          strip: ProductTile.Strip(
            pointer: weights + row, rowStride: 1, depthStride: Self.blockColumns),
          panel: right + panel * rightRows * panelColumns, panelStride: panelColumns)
        ProductTile.compute(
          rows: block.count - row, columns: min(panelColumns, width - column), factors,
          line + column, out.stride,
          adds ? .values(line + column, stride: out.stride) : .zero, &walk,
          beside: workspace.tile.pointer)
      }
      row += ProductTile.rows
    }
  }

  // MARK: Backward

  /// Adds the gradients with respect to queries, keys and values, where they are wanted.
  ///
  /// With P the probabilities: dV = Pᵀ·dO, dP = dO·Vᵀ, dS = P ∘ (dP − rowsum(dO ∘ O)) / √D, dQ = dS·K, dK = dSᵀ·Q.
  func backward(
    queries: Rows, keys: Packed, values: Packed, output: Rows, outputGradient: Rows,
    tops: FloatPointer, inverses: FloatPointer, dQ: Rows?, dK: Rows?, dV: Rows?
  ) {
    let workspace = makeWorkspace()
    let slopes = pool.take(paddedKeys * Self.blockColumns)
    let deltas = pool.take(Self.blockColumns)
    defer {
      withExtendedLifetime((workspace.panel, workspace.scores, workspace.tile)) {}
      withExtendedLifetime((slopes, deltas)) {}
    }
    forEachBlock { block in
      for panel in 0..<block.panels {
        let first = block.first + panel * ProductTile.columns
        let right = rows(queries, block, panel)
        score(keys, right, first, workspace, panel)
        probabilities(workspace, panel, first, right.count, tops + first, inverses + first)
      }
      let gradient = Rows(
        pointer: outputGradient.pointer + block.first * outputGradient.stride,
        stride: outputGradient.stride)
      if let dV {
        sum(block, workspace, workspace.scores.pointer, gradient, into: dV)
      }
      guard dQ != nil || dK != nil else { return }
      deltas.pointer.update(repeating: 0, count: Self.blockColumns)
      for query in 0..<block.count {
        deltas.pointer[query] = dot(
          width, gradient.pointer + query * gradient.stride,
          output.pointer + (block.first + query) * output.stride)
      }
      for panel in 0..<block.panels {
        let first = block.first + panel * ProductTile.columns
        let right = rows(outputGradient, block, panel)
        score(values, right, first, workspace, panel, into: slopes.pointer)
        slope(
          slopes.pointer, workspace.scores.pointer, deltas.pointer, panel, first, right.count)
      }
      if let dQ, let keyPanels = keys.panels {
        weigh(
          block, workspace, by: slopes.pointer, keyPanels.pointer, keyCount, into: dQ, adds: true)
      }
      if let dK {
        let source = Rows(
          pointer: queries.pointer + block.first * queries.stride, stride: queries.stride)
        sum(block, workspace, slopes.pointer, source, into: dK)
      }
    }
  }

  /// Turns a panel's scores into probabilities, from the statistics of the forward pass.
  private func probabilities(
    _ workspace: Workspace, _ panel: Int, _ first: Int, _ count: Int, _ tops: FloatPointer,
    _ inverses: FloatPointer
  ) {
    let scaleVector = broadcast(scale)
    let stride = Self.blockColumns
    for part in 0..<registers(count) {
      let place = workspace.scores.pointer + panel * ProductTile.columns + part * lanes
      let position = firstPosition + first + part * lanes
      let all = min(position + 1, keyCount)
      let seen = max(all, min(position + lanes, visible(to: first + ProductTile.columns - 1)))
      let top = load(tops + part * lanes)
      let inverse = load(inverses + part * lanes)
      for key in 0..<all {
        let value = exp((load(place + key &* stride) - top) * scaleVector) * inverse
        store(value, place + key &* stride)
      }
      for key in all..<seen {
        let value = exp((load(place + key &* stride) - top) * scaleVector) * inverse
        store(
          Vector.zero.replacing(with: value, where: sees(key, from: position)),
          place + key &* stride)
      }
      clear(place, from: seen, to: visible(to: first + ProductTile.columns - 1))
    }
  }

  /// dS = P ∘ (dP − δ) / √D for a panel's columns, in the place of dP.
  private func slope(
    _ slopes: FloatPointer, _ probabilities: FloatPointer, _ deltas: FloatPointer, _ panel: Int,
    _ first: Int, _ count: Int
  ) {
    let scaleVector = broadcast(scale)
    let stride = Self.blockColumns
    for part in 0..<registers(count) {
      let column = panel * ProductTile.columns + part * lanes
      let delta = load(deltas + column)
      for key in 0..<visible(to: first + ProductTile.columns - 1) {
        let place = column &+ key &* stride
        store(
          (load(slopes + place) - delta) * load(probabilities + place) * scaleVector, slopes + place
        )
      }
    }
  }

  /// out += weights · right, for the keys that a block sees: its queries are summed over.
  ///
  /// - Parameters:
  ///   - weights: `[keys, blockColumns]`.
  ///   - right: the block's rows, D wide.
  private func sum(
    _ block: Block, _ workspace: Workspace, _ weights: FloatPointer, _ right: Rows,
    into out: Rows
  ) {
    let (panels, panelColumns) = (panels, panelColumns)
    let packed = packPanels(right, count: block.count)
    defer { withExtendedLifetime(packed) {} }
    let seen = visible(to: block.first + block.count - 1)
    var walk = LineWalk.none
    var key = 0
    while key < seen {
      // Earlier queries do not see these keys.
      let skipped = max(0, key - firstPosition - block.first) / lanes * lanes
      let line = out.pointer + key * out.stride
      for panel in 0..<panels {
        let column = panel * panelColumns
        let factors = ProductTile.Factors(
          depth: block.count - skipped,
          strip: ProductTile.Strip(
            pointer: weights + key * Self.blockColumns + skipped, rowStride: Self.blockColumns,
            depthStride: 1),
          panel: packed.pointer + (panel * block.count + skipped) * panelColumns,
          panelStride: panelColumns)
        ProductTile.compute(
          rows: seen - key, columns: min(panelColumns, width - column), factors, line + column,
          out.stride, .values(line + column, stride: out.stride), &walk,
          beside: workspace.tile.pointer)
      }
      key += ProductTile.rows
    }
  }
}
