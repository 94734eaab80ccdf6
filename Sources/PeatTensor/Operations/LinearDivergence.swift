extension Tape {
  /// How far the tokens that one model predicts are from those that another predicts, and the start of the gradient of `scale` times that: the output layer and its loss together, a few rows at a time.
  ///
  ///     Σ p · ln(p / q),   p = softmax(cap(t · Wᵀ + b)), q = softmax(cap(x · Wᵀ + b)), in nats
  ///
  /// The sum goes over all rows and all of the vocabulary; the gradient with respect to the logits of q is q − p.
  ///
  /// `N` rows, `d` width, `V` vocabulary. Kullback and Leibler 1951, <https://doi.org/10.1214/aoms/1177729694>.
  ///
  /// - Parameters:
  ///   - x: `[N, d]`, contiguous.
  ///   - target: t, a constant of the same shape.
  ///   - weight: W, `[V, d]`, the output layer of both; it must be frozen.
  ///   - bias: b, `[V]`; it must be frozen.
  ///   - softCap: c, where logits become `c · tanh(logit / c)`.
  ///   - scale: what the sum is multiplied with before the gradient is taken, such as 1 / N for a mean.
  ///   - chunkRows: how many rows of logits, of each, are held at a time.
  public func linearDivergence(
    _ x: Activation, from target: Activation, weight: Weight, bias: Weight? = nil,
    softCap: Float? = nil, scale: Float, chunkRows: Int = 256
  ) -> Double {
    profile?.enter(.loss)
    defer { profile?.leave() }
    let width = x.columns
    let vocabulary = weight.shape[0]
    precondition(
      weight.shape[1] == width && x.stride == width && target.stride == width
        && target.rows == x.rows && target.columns == width,
      "linearDivergence: inputs [\(x.rows), \(width)] and [\(target.rows), \(target.columns)], weight \(weight.shape)"
    )
    precondition(
      !weight.trains && bias?.trains != true, "linearDivergence: the output layer trains")
    let wantsGradient = isRecording && x.needsGradient
    let dx = wantsGradient ? pool.take(max(x.rows * width, 1)) : nil
    let chunks = max(1, (x.rows + chunkRows - 1) / chunkRows)
    let chunk = ProductTile.wholeRows(max(1, (x.rows + chunks - 1) / chunks))
    let logits = Logits(rows: chunk, vocabulary: vocabulary, pool)
    let targets = Logits(rows: chunk, vocabulary: vocabulary, pool)
    let slopes =
      softCap != nil && wantsGradient ? Logits(rows: chunk, vocabulary: vocabulary, pool) : nil
    let scratch = pool.take(logits.block)
    var total = 0.0
    for start in stride(from: 0, to: x.rows, by: chunk) {
      let rows = min(chunk, x.rows - start)
      for (states, logits) in [(x, logits), (target, targets)] {
        measured(.products) {
          weight.accept(
            LogitsProduct(
              rows: rows, x: states.pointer + start * width, logits: logits, pool: pool))
        }
      }
      logits.finish(rows: rows, bias: bias, softCap: softCap, slopes: slopes)
      targets.finish(rows: rows, bias: bias, softCap: softCap)
      for row in 0..<rows {
        total += logits.divergence(
          from: targets, row: row, of: rows, scratch: scratch.pointer,
          gradientScale: wantsGradient ? scale : nil)
      }
      if let slopes { logits.multiply(by: slopes, rows: rows) }
      if let dx {
        measured(.products) {
          weight.accept(
            LogitsGradientProduct(
              rows: rows, logits: logits, dx: dx.pointer + start * width, pool: pool))
        }
      }
    }
    if let dx { record(.crossEntropy(CrossEntropyRecord(x: x, gradient: dx))) }
    return total
  }
}

extension Logits {
  /// Σ p ln(p / q) of a row, p from other logits and q from these. Both are overwritten; with a scale, these by scale · (q − p).
  ///
  /// With a = t − max t and b = s − max s it is Σ eᵃ (a − b) / Σ eᵃ − ln Σ eᵃ + ln Σ eᵇ.
  fileprivate func divergence(
    from others: Logits, row: Int, of rows: Int, scratch: FloatPointer, gradientScale: Float?
  ) -> Double {
    let (top, otherTop) = (largest(row: row, of: rows), others.largest(row: row, of: rows))
    let (shift, otherShift) = (broadcast(top), broadcast(otherTop))
    var (sumOfOwn, sumOfOthers, weighted) = (Float.zero, Float.zero, Float.zero)
    forEachPiece(row: row, of: rows) { piece, count in
      let other = others.pointer + (piece - pointer)
      mapVectors(count, piece, into: piece) { $0 - shift }
      mapVectors(count, other, into: other) { $0 - otherShift }
      mapVectors(count, other, into: scratch) { exp($0) }
      mapVectors(count, other, piece, into: other) { $0 - $1 }
      weighted += dot(count, scratch, other)
      sumOfOthers += sum(count, scratch)
      other.update(from: scratch, count: count)
      mapVectors(count, piece, into: piece) { exp($0) }
      sumOfOwn += sum(count, piece)
    }
    if let gradientScale {
      let own = broadcast(gradientScale / sumOfOwn)
      let theirs = broadcast(gradientScale / sumOfOthers)
      forEachPiece(row: row, of: rows) { piece, count in
        let other = others.pointer + (piece - pointer)
        mapVectors(count, piece, other, into: piece) { $0 * own - $1 * theirs }
      }
    }
    let result =
      Double(weighted / sumOfOthers) - Double(logarithm(sumOfOthers))
      + Double(logarithm(sumOfOwn))
    // Rounding alone takes it below 0; what is no number stays none.
    return result < 0 ? 0 : result
  }

  private func largest(row: Int, of rows: Int) -> Float {
    var top = -Float.infinity
    forEachPiece(row: row, of: rows) { piece, count in top = max(top, maximum(count, piece)) }
    return top
  }
}
