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
  /// Loss: `−Σ ln softmax(x · Wᵀ)[target]` over rows whose target is not negative. The gradient of `scale · loss` is
  /// computed in the same pass, because the logits are at hand. Rows without target take no part in any product.
  ///
  /// `N` rows, `d` width, `V` vocabulary.
  ///
  /// - Parameters:
  ///   - x: `[N, d]`, contiguous.
  ///   - weight: W, `[V, d]`.
  ///   - targets: `N` token numbers below `V`; negative where the row has no target.
  ///   - scale: what the loss is multiplied with before gradients are taken, such as 1 / count for a mean.
  ///   - chunkRows: how many rows of logits are held at a time.
  public func linearCrossEntropy(
    _ x: Activation, weight: Weight, targets: UnsafeBufferPointer<Int32>, scale: Float,
    chunkRows: Int = 256
  ) -> TokenLoss {
    profile?.enter(.loss)
    defer { profile?.leave() }
    let width = x.columns
    let vocabulary = weight.shape[0]
    precondition(
      weight.shape[1] == width && targets.count == x.rows && x.stride == width,
      "linearCrossEntropy: input [\(x.rows), \(width)], weight \(weight.shape), \(targets.count) targets"
    )
    let wantsGradient = isRecording && (x.needsGradient || weight.trains)
    let dx = wantsGradient && x.needsGradient ? pool.take(x.rows * width) : nil
    let dW = wantsGradient ? gradientPointer(of: weight) : nil
    let counted = (0..<x.rows).filter { targets[$0] >= 0 }
    if let dx, counted.count < x.rows {
      dx.pointer.update(repeating: 0, count: x.rows * width)
    }
    var total = 0.0
    let chunk = min(chunkRows, max(counted.count, 1))
    let logits = pool.take(chunk * vocabulary)
    let gathered = pool.take(chunk * width)
    let gatheredGradient = pool.take(chunk * width)
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
        if let table = weight.densePointer {
          MatrixProduct.compute(
            m: rows, n: vocabulary, k: width, a: input, lda: width, b: table, ldb: width,
            transposeB: true, c: logits.pointer, ldc: vocabulary)
        } else {
          weight.accept(
            HeadProduct(
              direction: .logits, rows: rows, x: input, vocabulary: vocabulary,
              out: logits.pointer, pool: pool))
        }
      }
      for i in 0..<rows {
        let target = Int(targets[counted[start + i]])
        precondition(target < vocabulary, "linearCrossEntropy: target \(target) of \(vocabulary)")
        total += softmaxLoss(
          logits.pointer + i * vocabulary, vocabulary, target: target,
          gradientScale: wantsGradient ? scale : nil)
      }
      if let dx {
        measured(.products) {
          let place = isRun ? dx.pointer + first * width : gatheredGradient.pointer
          if let table = weight.densePointer {
            MatrixProduct.compute(
              m: rows, n: width, k: vocabulary, a: logits.pointer, lda: vocabulary,
              b: table, ldb: width, c: place, ldc: width)
          } else {
            weight.accept(
              HeadProduct(
                direction: .gradient, rows: rows, x: logits.pointer, vocabulary: vocabulary,
                out: place, pool: pool))
          }
        }
        if !isRun {
          for i in 0..<rows {
            (dx.pointer + counted[start + i] * width).update(
              from: gatheredGradient.pointer + i * width, count: width)
          }
        }
      }
      if let dW {
        measured(.products) {
          MatrixProduct.compute(
            m: vocabulary, n: width, k: rows, a: logits.pointer, lda: vocabulary, transposeA: true,
            b: input, ldb: width, beta: 1, c: dW, ldc: width)
        }
      }
      start += rows
    }
    if let dx { record(.crossEntropy(CrossEntropyRecord(x: x, gradient: dx))) }
    return TokenLoss(sum: total, count: counted.count)
  }
}

/// The products with an output layer that is packed.
private struct HeadProduct: MatrixVisitor {
  enum Direction { case logits, gradient }
  let direction: Direction
  let rows: Int
  let x: FloatPointer
  let vocabulary: Int
  let out: FloatPointer
  let pool: BufferPool

  func visit(_ matrix: some MatrixReader) {
    let width = matrix.columns
    switch direction {
    case .logits:
      PanelProduct.compute(
        rows: rows, columns: vocabulary, depth: width, x: x, stride: width,
        source: ColumnPanels(matrix: matrix, columns: vocabulary), out: out,
        outStride: vocabulary, adds: false, pool: pool)
    case .gradient:
      PanelProduct.compute(
        rows: rows, columns: width, depth: vocabulary, x: x, stride: vocabulary,
        source: RowPanels(matrix: matrix), out: out, outStride: width, adds: false, pool: pool)
    }
  }
}

struct CrossEntropyRecord {
  let x: Activation
  let gradient: Buffer

  func backward(_ tape: Tape) { tape.give(gradient, to: x) }
}

/// −ln softmax(logits)[target]. With a scale, the logits are overwritten by scale · (softmax − onehot(target)).
private func softmaxLoss(
  _ logits: FloatPointer, _ count: Int, target: Int, gradientScale: Float?
) -> Double {
  var top = -Float.infinity
  var topVector = broadcast(-.infinity)
  var i = 0
  while i &+ 8 <= count {
    let v = load(logits + i)
    topVector.replace(with: v, where: v .> topVector)
    i &+= 8
  }
  while i < count {
    top = max(top, logits[i])
    i &+= 1
  }
  top = max(top, topVector.max())
  let targetLogit = logits[target]
  let shift = broadcast(top)
  var sum0 = Vector.zero
  i = 0
  while i &+ 8 <= count {
    let e = exp(load(logits + i) - shift)
    store(e, logits + i)
    sum0 += e
    i &+= 8
  }
  var total = Float.zero
  if i < count {
    let n = count - i
    let e = exp(load(logits + i, first: n, fill: 0) - shift)
    store(e, logits + i, first: n)
    for lane in 0..<n { total += e[lane] }
  }
  total += sum0.sum()
  if let gradientScale {
    let factor = broadcast(gradientScale / total)
    mapVectors(count, logits, into: logits) { $0 * factor }
    logits[target] -= gradientScale
  }
  return Double(top) + Double(logarithm(total)) - Double(targetLogit)
}
