/// What a linear layer with cross-entropy gives: the loss, summed, and how many targets it was summed over.
public struct TokenLoss: Sendable {
  /// −Σ ln p(target), in nats.
  public let sum: Double
  public let count: Int

  public init(sum: Double, count: Int) {
    self.sum = sum
    self.count = count
  }

  /// Nats per target; 0 where there is no target.
  public var mean: Double { count == 0 ? 0 : sum / Double(count) }

  public static func + (left: TokenLoss, right: TokenLoss) -> TokenLoss {
    TokenLoss(sum: left.sum + right.sum, count: left.count + right.count)
  }
}

extension Tape {
  /// The output layer and its loss together, a few rows at a time: the logits never exist as a whole.
  ///
  /// Loss: `−Σ ln softmax(cap(x · Wᵀ + b))[target]` over rows whose target is not negative. The gradient of `scale · loss` is
  /// computed in the same pass, because the logits are at hand. Rows without target take no part in any product.
  ///
  /// `N` rows, `d` width, `V` vocabulary.
  ///
  /// - Parameters:
  ///   - x: `[N, d]`, contiguous.
  ///   - weight: W, `[V, d]`.
  ///   - bias: b, `[V]`.
  ///   - softCap: c, where logits become `c · tanh(logit / c)`.
  ///   - targets: `N` token numbers below `V`; negative where the row has no target.
  ///   - scale: what the loss is multiplied with before gradients are taken, such as 1 / count for a mean.
  ///   - chunkRows: how many rows of logits are held at a time.
  public func linearCrossEntropy(
    _ x: Activation, weight: Weight, bias: Weight? = nil, softCap: Float? = nil,
    targets: UnsafeBufferPointer<Int32>, scale: Float, chunkRows: Int = 256
  ) -> TokenLoss {
    profile?.enter(.loss)
    defer { profile?.leave() }
    let width = x.columns
    let vocabulary = weight.shape[0]
    precondition(
      weight.shape[1] == width && targets.count == x.rows && x.stride == width
        && bias?.shape ?? [vocabulary] == [vocabulary],
      "linearCrossEntropy: input [\(x.rows), \(width)], weight \(weight.shape), \(targets.count) targets"
    )
    precondition(
      turn == nil || !(weight.trains || bias?.trains == true),
      "linearCrossEntropy: workers that share gradients have different numbers of chunks here")
    let wantsGradient = isRecording && (x.needsGradient || weight.trains || bias?.trains == true)
    let dx = wantsGradient && x.needsGradient ? pool.take(x.rows * width) : nil
    let counted = (0..<x.rows).filter { targets[$0] >= 0 }
    if let dx, counted.count < x.rows {
      dx.pointer.update(repeating: 0, count: x.rows * width)
    }
    // Equal chunks, of whole tiles' rows.
    let chunks = max(1, (counted.count + chunkRows - 1) / chunkRows)
    let chunk = ProductTile.wholeRows(max(1, (counted.count + chunks - 1) / chunks))
    let logits = Logits(rows: chunk, vocabulary: vocabulary, pool)
    let slopes =
      softCap != nil && wantsGradient ? Logits(rows: chunk, vocabulary: vocabulary, pool) : nil
    let gathered = pool.take(chunk * width)
    let gatheredGradient = pool.take(chunk * width)
    var total = 0.0
    var start = 0
    while start < counted.count {
      let rows = min(chunk, counted.count - start)
      let first = counted[start]
      // Consecutive rows are used where they lie; others are gathered.
      let isRun = counted[start + rows - 1] - first == rows - 1
      var input = x.pointer + first * width
      if !isRun {
        for i in 0..<rows {
          (gathered.pointer + i * width).update(
            from: x.pointer + counted[start + i] * width, count: width)
        }
        input = gathered.pointer
      }
      measured(.products) {
        weight.accept(LogitsProduct(rows: rows, x: input, logits: logits, pool: pool))
      }
      logits.finish(rows: rows, bias: bias, softCap: softCap, slopes: slopes)
      for i in 0..<rows {
        let target = Int(targets[counted[start + i]])
        precondition(target < vocabulary, "linearCrossEntropy: target \(target) of \(vocabulary)")
        total += logits.softmaxLoss(
          row: i, of: rows, target: target, gradientScale: wantsGradient ? scale : nil)
      }
      if let slopes { logits.multiply(by: slopes, rows: rows) }
      if let dx {
        measured(.products) {
          weight.accept(
            LogitsGradientProduct(
              rows: rows, logits: logits,
              dx: isRun ? dx.pointer + first * width : gatheredGradient.pointer, pool: pool))
        }
        if !isRun {
          for i in 0..<rows {
            (dx.pointer + counted[start + i] * width).update(
              from: gatheredGradient.pointer + i * width, count: width)
          }
        }
      }
      if wantsGradient {
        addGradient(of: weight) { dW in
          measured(.products) {
            logits.addWeightGradient(rows: rows, x: input, width: width, to: dW, pool)
          }
        }
        if let bias { addGradient(of: bias) { logits.addRows(rows, to: $0) } }
      }
      start += rows
    }
    if let dx {
      record(.crossEntropy(CrossEntropyRecord(x: x, gradient: dx)))
    }
    return TokenLoss(sum: total, count: counted.count)
  }
}

struct CrossEntropyRecord {
  let x: Activation
  let gradient: Buffer

  func backward(_ tape: Tape) { tape.give(gradient, to: x) }
}

/// A chunk of logits, and then of their gradients: blocks of columns, one after the other, each row by row.
///
/// Rows of a whole vocabulary would lie hundreds of kilobytes apart, a page of memory for every tile of a product.
struct Logits {
  let vocabulary: Int
  /// Columns of a block.
  let block: Int
  let buffer: Buffer

  var pointer: FloatPointer { buffer.pointer }
  var layout: PanelProduct.Layout { .blocks(block) }

  init(rows: Int, vocabulary: Int, _ pool: BufferPool) {
    self.vocabulary = vocabulary
    let panel = PanelProduct.panelColumns
    block = min(768 / panel, (vocabulary + panel - 1) / panel) * panel
    buffer = pool.take((vocabulary + block - 1) / block * block * rows)
  }

  /// The pieces of a row, in order.
  @inline(__always) func forEachPiece(
    row: Int, of rows: Int, _ body: (FloatPointer, Int) -> Void
  ) {
    var first = 0
    while first < vocabulary {
      body(pointer + first * rows + row * block, min(block, vocabulary - first))
      first += block
    }
  }

  /// −ln softmax(logits)[target]. With a scale, the logits are overwritten by scale · (softmax − onehot(target)).
  func softmaxLoss(row: Int, of rows: Int, target: Int, gradientScale: Float?) -> Double {
    var top = -Float.infinity
    forEachPiece(row: row, of: rows) { piece, count in top = max(top, maximum(count, piece)) }
    let place = pointer + layout.offset(ofColumn: target, rows: rows) + row * block
    let targetLogit = place.pointee
    let shift = broadcast(top)
    var total = Float.zero
    forEachPiece(row: row, of: rows) { piece, count in
      mapVectors(count, piece, into: piece) { exp($0 - shift) }
      total += sum(count, piece)
    }
    if let gradientScale {
      let factor = broadcast(gradientScale / total)
      forEachPiece(row: row, of: rows) { piece, count in
        mapVectors(count, piece, into: piece) { $0 * factor }
      }
      place.pointee -= gradientScale
    }
    // In this order: beside a huge logit the logarithm would be lost.
    return Double(top) - Double(targetLogit) + Double(logarithm(total))
  }

  /// Adds a bias and caps what comes of it.
  ///
  /// - Parameter slopes: takes how each capped logit grows with the uncapped.
  func finish(rows: Int, bias: Weight?, softCap: Float?, slopes: Logits? = nil) {
    if bias == nil, softCap == nil { return }
    for row in 0..<rows {
      var column = 0
      forEachPiece(row: row, of: rows) { piece, count in
        if let bias { add(count, bias.pointer + column, to: piece) }
        column += count
        guard let softCap else { return }
        let (cap, inverse) = (broadcast(softCap), broadcast(1 / softCap))
        mapVectors(count, piece, into: piece) { tanh($0 * inverse) }
        if let slopes {
          mapVectors(count, piece, into: slopes.pointer + (piece - pointer)) {
            fma(-$0, $0, broadcast(1))
          }
        }
        mapVectors(count, piece, into: piece) { $0 * cap }
      }
    }
  }

  func multiply(by others: Logits, rows: Int) {
    for row in 0..<rows {
      forEachPiece(row: row, of: rows) { piece, count in
        mapVectors(count, piece, others.pointer + (piece - pointer), into: piece) { $0 * $1 }
      }
    }
  }

  /// Adds all rows to one.
  func addRows(_ rows: Int, to sum: FloatPointer) {
    for row in 0..<rows {
      var column = 0
      forEachPiece(row: row, of: rows) { piece, count in
        add(count, piece, to: sum + column)
        column += count
      }
    }
  }

  /// dW += gradientᵀ · x.
  func addWeightGradient(
    rows: Int, x: FloatPointer, width: Int, to dW: FloatPointer, _ pool: BufferPool
  ) {
    var first = 0
    while first < vocabulary {
      let place = dW + first * width
      PanelProduct.computeTransposed(
        rows: min(block, vocabulary - first), columns: width, depth: rows,
        x: pointer + first * rows, stride: block,
        source: RowPanels(x, stride: width, columns: width), out: place, outStride: width,
        start: .values(place, stride: width), pool: pool)
      first += block
    }
  }
}

/// logits = x · Wᵀ.
struct LogitsProduct: MatrixVisitor {
  let rows: Int
  let x: FloatPointer
  let logits: Logits
  let pool: BufferPool

  func visit(_ matrix: some MatrixReader) {
    PanelProduct.compute(
      rows: rows, columns: logits.vocabulary, depth: matrix.columns, x: x,
      layout: .rows(matrix.columns),
      source: ColumnPanels(matrix: matrix, columns: logits.vocabulary), out: logits.pointer,
      outLayout: logits.layout, pool: pool)
  }
}

/// dx = gradient of the logits · W.
struct LogitsGradientProduct: MatrixVisitor {
  let rows: Int
  let logits: Logits
  let dx: FloatPointer
  let pool: BufferPool

  func visit(_ matrix: some MatrixReader) {
    PanelProduct.compute(
      rows: rows, columns: matrix.columns, depth: logits.vocabulary, x: logits.pointer,
      layout: logits.layout, source: RowPanels(matrix: matrix), out: dx,
      outLayout: .rows(matrix.columns), pool: pool)
  }
}
