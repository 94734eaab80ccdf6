extension Int {
  /// The nearest that there is: the largest or the smallest where a number is beyond all of them, 0 where it is none.
  init(rounding value: Double) {
    let whole = value.rounded(.towardZero)
    self = Int(exactly: whole) ?? (whole > 0 ? .max : whole < 0 ? .min : 0)
  }
}
