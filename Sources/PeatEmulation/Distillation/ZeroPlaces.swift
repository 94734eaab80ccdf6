import PeatTensor

/// Where a tensor has zeros, a bit for each place: a thirty-second of the memory that its values take.
struct ZeroPlaces: Sendable {
  /// The first place in the lowest bit; 1 where there is a zero.
  private let words: [UInt64]

  init(of tensor: Tensor) {
    words = tensor.withUnsafeBufferPointer { values in
      [UInt64](unsafeUninitializedCapacity: (values.count + 63) / 64) { words, count in
        count = words.count
        for number in words.indices {
          var word: UInt64 = 0
          for place in 64 * number..<min(64 * (number + 1), values.count) where values[place] == 0 {
            word |= 1 << UInt64(place % 64)
          }
          words.initializeElement(at: number, to: word)
        }
      }
    }
  }

  /// Sets the values in these places to zero.
  func clear(_ tensor: Tensor) {
    let values = tensor.pointer
    for (number, word) in words.enumerated() {
      var rest = word
      while rest != 0 {
        values[64 * number + rest.trailingZeroBitCount] = 0
        rest &= rest - 1
      }
    }
  }
}
