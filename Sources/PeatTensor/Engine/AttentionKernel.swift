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

    func dropping(_ count: Int) -> Rows {
      Rows(pointer: pointer + count * stride, stride: stride)
    }
  }

  /// How many queries there are.
  let queryCount: Int
  /// How many keys stand before the first query.
  let firstPosition: Int
  let pattern: AttentionPattern
  /// D.
  let width: Int
  let pool: BufferPool
  /// How many keys there are.
  let keyCount: Int

  /// - Parameter keyCount: where keys are another sequence's; those before the queries and the queries' own if not given.
  init(
    queryCount: Int, firstPosition: Int, pattern: AttentionPattern, width: Int, pool: BufferPool,
    keyCount: Int? = nil
  ) {
    self.queryCount = queryCount
    self.firstPosition = firstPosition
    self.pattern = pattern
    self.width = width
    self.pool = pool
    self.keyCount = keyCount ?? firstPosition + queryCount
  }

  private var paddedKeys: Int { ProductTile.wholeRows(keyCount) }
  var scale: Float { pattern.scale ?? 1 / Float(width).squareRoot() }

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
    /// Slopes of the soft cap at the scores, `[keys, blockColumns]`, in the backward pass of who has one.
    let capSlopes: Buffer?
    let tile: Buffer
  }

  private func makeWorkspace(backward: Bool = false) -> Workspace {
    Workspace(
      panel: pool.take(width * ProductTile.columns),
      scores: pool.take(paddedKeys * Self.blockColumns),
      capSlopes: backward && pattern.softCap != nil
        ? pool.take(paddedKeys * Self.blockColumns) : nil,
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

  /// Behind which key a query sees none.
  func visible(to query: Int) -> Int {
    pattern.isCausal ? firstPosition + min(query, queryCount - 1) + 1 : keyCount
  }

  /// The first key that a query sees.
  func firstVisible(to query: Int) -> Int {
    guard let window = pattern.window else { return 0 }
    return max(0, firstPosition + query - (window - 1))
  }

  /// The first key that a block computes with: a whole tile's.
  private func firstKey(of block: Block) -> Int {
    firstVisible(to: block.first) / ProductTile.rows * ProductTile.rows
  }

  /// The keys that a register of queries sees: some of its queries see all of `keys`, all of them see `common`.
  private struct Sight {
    let keys: Range<Int>
    let common: Range<Int>
  }

  /// - Parameters:
  ///   - query: the first of the register.
  ///   - end: behind which key the panel has none.
  private func sight(from query: Int, end: Int) -> Sight {
    let position = firstPosition + query
    let high = pattern.isCausal ? min(position + lanes, end) : keyCount
    let low = min(firstVisible(to: query), high)
    let commonLow = min(firstVisible(to: query + lanes - 1), high)
    let commonHigh = pattern.isCausal ? min(position + 1, high) : high
    return Sight(keys: low..<high, common: commonLow..<max(commonLow, commonHigh))
  }

  // MARK: Forward

  /// Writes softmax(q · kᵀ / √D) · v and each query's statistics.
  ///
  /// - Parameters:
  ///   - tops: each query's largest score, before scaling; room for a panel behind the last.
  ///   - inverses: 1 / Σ exp(…), likewise.
  ///   - relative: what is added to scores; see `RelativeLine`.
  func forward(
    queries: Rows, keys: Packed, values: Packed, output: Rows, tops: FloatPointer,
    inverses: FloatPointer, relative: FloatPointer? = nil
  ) {
    guard let valuePanels = values.panels else { return }
    let workspace = makeWorkspace()
    defer { withExtendedLifetime((workspace.panel, workspace.scores, workspace.tile)) {} }
    forEachBlock { block in
      for panel in 0..<block.panels {
        let first = block.first + panel * ProductTile.columns
        let right = rows(queries, block, panel)
        score(keys, right, first, workspace, panel, from: firstKey(of: block))
        addRelative(
          relative, first, workspace, panel, right.count, from: firstKey(of: block))
        softmax(
          workspace, panel, first, right.count, tops + first, inverses + first,
          from: firstKey(of: block))
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

  /// One panel's columns of left · rightᵀ, for the keys up to those that its last query sees; zeros for the block's keys behind.
  private func score(
    _ left: Packed, _ right: (rows: Rows, count: Int), _ first: Int,
    _ workspace: Workspace, _ panel: Int, from start: Int, into target: FloatPointer? = nil
  ) {
    let place = (target ?? workspace.scores.pointer) + panel * ProductTile.columns
    let stride = Self.blockColumns
    ColumnPanels(
      right.rows.pointer, stride: right.rows.stride, depth: width, columns: right.count
    ).fill(workspace.panel.pointer, firstRow: 0, count: width, firstColumn: 0)
    let seen = visible(to: first + ProductTile.columns - 1)
    var factors = ProductTile.Factors(
      depth: width, strip: strip(of: left.rows), panel: workspace.panel.pointer)
    factors.strip.pointer += start &* factors.strip.rowStride
    var walk = LineWalk.none
    var key = start
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

  /// Turns a panel's scores into exp(score − top), both scaled and capped, and finds tops, before that, and inverse sums.
  private func softmax(
    _ workspace: Workspace, _ panel: Int, _ first: Int, _ count: Int, _ tops: FloatPointer,
    _ inverses: FloatPointer, from start: Int
  ) {
    let stride = Self.blockColumns
    let end = visible(to: first + ProductTile.columns - 1)
    for part in 0..<registers(count) {
      let place = workspace.scores.pointer + panel * ProductTile.columns + part * lanes
      let position = firstPosition + first + part * lanes
      let sight = sight(from: first + part * lanes, end: end)
      let (keys, common) = (sight.keys, sight.common)
      var top = broadcast(-.infinity)
      @inline(__always) func raise(_ keys: Range<Int>) {
        for key in keys {
          let value = load(place + key &* stride)
          top.replace(with: value, where: value .> top .& sees(key, from: position))
        }
      }
      raise(keys.lowerBound..<common.lowerBound)
      for key in common {
        let value = load(place + key &* stride)
        top.replace(with: value, where: value .> top)
      }
      raise(common.upperBound..<keys.upperBound)
      let weight = Weighing(self, top: top)
      var sum = Vector.zero
      @inline(__always) func addMasked(_ keys: Range<Int>) {
        for key in keys {
          let masked = Vector.zero.replacing(
            with: weight(load(place + key &* stride)), where: sees(key, from: position))
          store(masked, place + key &* stride)
          sum += masked
        }
      }
      addMasked(keys.lowerBound..<common.lowerBound)
      for key in common {
        let value = weight(load(place + key &* stride))
        store(value, place + key &* stride)
        sum += value
      }
      addMasked(common.upperBound..<keys.upperBound)
      clear(place, from: start, to: keys.lowerBound)
      clear(place, from: keys.upperBound, to: end)
      store(top, tops + part * lanes)
      store(broadcast(1) / sum, inverses + part * lanes)
    }
  }

  /// exp(score − top), both scaled and, where the pattern says so, capped.
  private struct Weighing {
    private let scale: Vector
    private let cap: Float?
    /// Before scaling; where there is a cap, as it is capped.
    private let top: Vector

    init(_ kernel: AttentionKernel, top: Vector) {
      scale = broadcast(kernel.scale)
      cap = kernel.pattern.softCap
      self.top = cap.map { Self.capped(top * broadcast(kernel.scale), $0) } ?? top
    }

    @inline(__always) func callAsFunction(_ score: Vector) -> Vector {
      guard let cap else { return exp((score - top) * scale) }
      return exp(Self.capped(score * scale, cap) - top)
    }

    /// How the capped score grows with the score.
    func slope(_ score: Vector, cap: Float) -> Vector {
      let t = tanh(score * scale * broadcast(1 / cap))
      return fma(-t, t, broadcast(1))
    }

    @inline(__always) private static func capped(_ score: Vector, _ cap: Float) -> Vector {
      tanh(score * broadcast(1 / cap)) * broadcast(cap)
    }
  }

  /// Which lanes, queries from a position on, see a key.
  @inline(__always) private func sees(_ key: Int, from position: Int) -> SIMDMask<MaskStorage> {
    let ahead = Float(key &- position)
    let behind = Self.laneNumbers .>= broadcast(pattern.isCausal ? ahead : -.infinity)
    guard let window = pattern.window else { return behind }
    return behind .& (Self.laneNumbers .< broadcast(ahead + Float(window)))
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
      let start = firstVisible(to: block.first + row)
      let depth = visible(to: block.first + min(row + ProductTile.rows, block.count) - 1) - start
      let line = out.pointer + (block.first + row) * out.stride
      for panel in 0..<panels {
        let column = panel * panelColumns
        let factors = ProductTile.Factors(
          depth: depth,
          strip: ProductTile.Strip(
            pointer: weights + start * Self.blockColumns + row, rowStride: 1,
            depthStride: Self.blockColumns),
          panel: right + (panel * rightRows + start) * panelColumns, panelStride: panelColumns)
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
    tops: FloatPointer, inverses: FloatPointer, dQ: Rows?, dK: Rows?, dV: Rows?,
    relative: FloatPointer? = nil, dRelative: FloatPointer? = nil
  ) {
    let workspace = makeWorkspace(backward: true)
    let slopes = pool.take(paddedKeys * Self.blockColumns)
    let deltas = pool.take(Self.blockColumns)
    defer {
      withExtendedLifetime((workspace.panel, workspace.scores, workspace.tile)) {}
      withExtendedLifetime((slopes, deltas, workspace.capSlopes)) {}
    }
    forEachBlock { block in
      for panel in 0..<block.panels {
        let first = block.first + panel * ProductTile.columns
        let right = rows(queries, block, panel)
        score(keys, right, first, workspace, panel, from: firstKey(of: block))
        addRelative(
          relative, first, workspace, panel, right.count, from: firstKey(of: block))
        probabilities(
          workspace, panel, first, right.count, tops + first, inverses + first,
          from: firstKey(of: block))
      }
      let gradient = Rows(
        pointer: outputGradient.pointer + block.first * outputGradient.stride,
        stride: outputGradient.stride)
      if let dV {
        sum(block, workspace, workspace.scores.pointer, gradient, into: dV)
      }
      guard dQ != nil || dK != nil || dRelative != nil else { return }
      deltas.pointer.update(repeating: 0, count: Self.blockColumns)
      for query in 0..<block.count {
        deltas.pointer[query] = dot(
          width, gradient.pointer + query * gradient.stride,
          output.pointer + (block.first + query) * output.stride)
      }
      for panel in 0..<block.panels {
        let first = block.first + panel * ProductTile.columns
        let right = rows(outputGradient, block, panel)
        let start = firstKey(of: block)
        score(values, right, first, workspace, panel, from: start, into: slopes.pointer)
        slope(
          slopes.pointer, workspace, deltas.pointer, panel,
          start..<visible(to: first + ProductTile.columns - 1), right.count)
        if let dRelative {
          sumByPosition(
            slopes.pointer, first, panel, start..<visible(to: first + ProductTile.columns - 1),
            right.count, into: dRelative)
        }
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
    _ inverses: FloatPointer, from start: Int
  ) {
    let stride = Self.blockColumns
    let end = visible(to: first + ProductTile.columns - 1)
    for part in 0..<registers(count) {
      let column = panel * ProductTile.columns + part * lanes
      let place = workspace.scores.pointer + column
      let position = firstPosition + first + part * lanes
      let sight = sight(from: first + part * lanes, end: end)
      let (keys, common) = (sight.keys, sight.common)
      let weight = Weighing(self, top: load(tops + part * lanes))
      let inverse = load(inverses + part * lanes)
      if let cap = pattern.softCap, let slopes = workspace.capSlopes {
        for key in keys {
          store(
            weight.slope(load(place + key &* stride), cap: cap),
            slopes.pointer + column + key &* stride)
        }
      }
      @inline(__always) func setMasked(_ keys: Range<Int>) {
        for key in keys {
          let value = weight(load(place + key &* stride)) * inverse
          store(
            Vector.zero.replacing(with: value, where: sees(key, from: position)),
            place + key &* stride)
        }
      }
      setMasked(keys.lowerBound..<common.lowerBound)
      for key in common {
        store(weight(load(place + key &* stride)) * inverse, place + key &* stride)
      }
      setMasked(common.upperBound..<keys.upperBound)
      clear(place, from: start, to: keys.lowerBound)
      clear(place, from: keys.upperBound, to: end)
    }
  }

  /// dS = P ∘ (dP − δ) · scale, times the cap's slope, for a panel's columns, in the place of dP.
  private func slope(
    _ slopes: FloatPointer, _ workspace: Workspace, _ deltas: FloatPointer, _ panel: Int,
    _ keys: Range<Int>, _ count: Int
  ) {
    let scaleVector = broadcast(scale)
    let stride = Self.blockColumns
    let probabilities = workspace.scores.pointer
    for part in 0..<registers(count) {
      let column = panel * ProductTile.columns + part * lanes
      let delta = load(deltas + column)
      for key in keys {
        let place = column &+ key &* stride
        store(
          (load(slopes + place) - delta) * load(probabilities + place) * scaleVector, slopes + place
        )
      }
      guard let caps = workspace.capSlopes else { continue }
      for key in keys {
        let place = column &+ key &* stride
        // What no query of the register sees has no slope: there it is not a number, perhaps.
        let value = load(slopes + place) * load(caps.pointer + place)
        store(
          Vector.zero.replacing(with: value, where: load(probabilities + place) .> .zero),
          slopes + place)
      }
    }
  }

  // MARK: Positions

  /// Where in a line of relative positions a query's score with key 0 is: with key k it is k places before.
  func place(inLine query: Int) -> Int { firstPosition &+ query &+ keyCount &- 1 }

  /// How long such a line is, with room for a panel behind the last query.
  var lineLength: Int { firstPosition + queryCount + keyCount - 1 + ProductTile.columns }

  /// Adds to a panel's scores what relative positions say of them.
  private func addRelative(
    _ relative: FloatPointer?, _ first: Int, _ workspace: Workspace, _ panel: Int, _ count: Int,
    from start: Int
  ) {
    guard let relative else { return }
    let end = visible(to: first + ProductTile.columns - 1)
    for part in 0..<registers(count) {
      let column = workspace.scores.pointer + panel * ProductTile.columns + part * lanes
      let line = relative + place(inLine: first + part * lanes)
      for key in start..<end {
        let place = column + key &* Self.blockColumns
        store(load(place) + load(line - key), place)
      }
    }
  }

  /// Sums a panel's slopes up by relative position.
  private func sumByPosition(
    _ slopes: FloatPointer, _ first: Int, _ panel: Int, _ keys: Range<Int>, _ count: Int,
    into line: FloatPointer
  ) {
    for part in 0..<registers(count) {
      let column = slopes + panel * ProductTile.columns + part * lanes
      let target = line + place(inLine: first + part * lanes)
      // Lanes behind the last query hold anything.
      let isThere = Self.laneNumbers .< broadcast(Float(count - part * lanes))
      for key in keys {
        let value = Vector.zero.replacing(
          with: load(column + key &* Self.blockColumns), where: isThere)
        store(load(target - key) + value, target - key)
      }
    }
  }

  /// Which of a block's queries, counted from its first, may see a tile's keys.
  private func queries(seeing key: Int, of block: Block) -> Range<Int> {
    let skipped =
      pattern.isCausal ? max(0, key - firstPosition - block.first) / lanes * lanes : 0
    guard let window = pattern.window else { return skipped..<block.count }
    let end = key + ProductTile.rows - 1 + window - firstPosition - block.first
    return skipped..<max(skipped, min(block.count, end))
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
    var key = firstKey(of: block)
    while key < seen {
      let queries = self.queries(seeing: key, of: block)
      let (skipped, depth) = (queries.lowerBound, queries.count)
      let line = out.pointer + key * out.stride
      for panel in 0..<panels {
        let column = panel * panelColumns
        let factors = ProductTile.Factors(
          depth: depth,
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
