/// Writes as many rows as a register has floats as columns: value j of row i goes to `place[j · stride + i]`.
///
/// Each stage riffles row i with row i + lanes/2; after log₂ lanes stages the rows are columns.
///
/// - Parameter row: the rows, asked for in order.
@inline(__always) func storeTransposed(
  to place: FloatPointer, stride: Int, _ row: (Int) -> Vector
) {
  #if PEAT_WIDE
    var r0 = row(0)
    var r1 = row(1)
    var r2 = row(2)
    var r3 = row(3)
    var r4 = row(4)
    var r5 = row(5)
    var r6 = row(6)
    var r7 = row(7)
    var r8 = row(8)
    var r9 = row(9)
    var r10 = row(10)
    var r11 = row(11)
    var r12 = row(12)
    var r13 = row(13)
    var r14 = row(14)
    var r15 = row(15)
    for _ in 0..<4 {
      let (s0, s1) = riffled(r0, r8)
      let (s2, s3) = riffled(r1, r9)
      let (s4, s5) = riffled(r2, r10)
      let (s6, s7) = riffled(r3, r11)
      let (s8, s9) = riffled(r4, r12)
      let (s10, s11) = riffled(r5, r13)
      let (s12, s13) = riffled(r6, r14)
      let (s14, s15) = riffled(r7, r15)
      (r0, r1, r2, r3, r4, r5, r6, r7) = (s0, s1, s2, s3, s4, s5, s6, s7)
      (r8, r9, r10, r11, r12, r13, r14, r15) = (s8, s9, s10, s11, s12, s13, s14, s15)
    }
    store(r0, place)
    store(r1, place + stride)
    store(r2, place + 2 &* stride)
    store(r3, place + 3 &* stride)
    store(r4, place + 4 &* stride)
    store(r5, place + 5 &* stride)
    store(r6, place + 6 &* stride)
    store(r7, place + 7 &* stride)
    store(r8, place + 8 &* stride)
    store(r9, place + 9 &* stride)
    store(r10, place + 10 &* stride)
    store(r11, place + 11 &* stride)
    store(r12, place + 12 &* stride)
    store(r13, place + 13 &* stride)
    store(r14, place + 14 &* stride)
    store(r15, place + 15 &* stride)
  #else
    var r0 = row(0)
    var r1 = row(1)
    var r2 = row(2)
    var r3 = row(3)
    var r4 = row(4)
    var r5 = row(5)
    var r6 = row(6)
    var r7 = row(7)
    for _ in 0..<3 {
      let (s0, s1) = riffled(r0, r4)
      let (s2, s3) = riffled(r1, r5)
      let (s4, s5) = riffled(r2, r6)
      let (s6, s7) = riffled(r3, r7)
      (r0, r1, r2, r3, r4, r5, r6, r7) = (s0, s1, s2, s3, s4, s5, s6, s7)
    }
    store(r0, place)
    store(r1, place + stride)
    store(r2, place + 2 &* stride)
    store(r3, place + 3 &* stride)
    store(r4, place + 4 &* stride)
    store(r5, place + 5 &* stride)
    store(r6, place + 6 &* stride)
    store(r7, place + 7 &* stride)
  #endif
}

/// The values of two vectors in turn, a₀ b₀ a₁ b₁ …, as two vectors.
@inline(__always) private func riffled(_ a: Vector, _ b: Vector) -> (Vector, Vector) {
  var low = Vector.zero
  low.evenHalf = a.lowHalf
  low.oddHalf = b.lowHalf
  var high = Vector.zero
  high.evenHalf = a.highHalf
  high.oddHalf = b.highHalf
  return (low, high)
}
