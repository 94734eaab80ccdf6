/// The tokens that are one scalar each, by that scalar: a flat table for those below U+0800.
struct ScalarTokens: Sendable {
  private let low: [Int32]
  private let high: [UInt32: Int32]

  init(_ vocabulary: Vocabulary) {
    var low = [Int32](repeating: -1, count: 0x800)
    var high: [UInt32: Int32] = [:]
    for (token, number) in vocabulary.numbers where !token.bytes.isEmpty {
      let scalar = UTF8Text.scalar(token.bytes, at: 0)
      guard scalar.length == token.bytes.count else { continue }
      if scalar.value < 0x800 {
        low[Int(scalar.value)] = number
      } else {
        high[scalar.value] = number
      }
    }
    self.low = low
    self.high = high
  }

  /// The number of a scalar's token; -1 where there is none.
  func number(_ scalar: UInt32) -> Int32 {
    scalar < 0x800 ? low[Int(scalar)] : high[scalar] ?? -1
  }
}
