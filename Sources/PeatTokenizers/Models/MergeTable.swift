/// Looks up what two neighbouring tokens merge into.
///
/// A hash table of its own with open addressing: it is asked a few times per byte of text, and Swift's `Dictionary` guards
/// against hostile keys at a cost that shows. Its keys come with the tokenizer, not with the text.
struct MergeTable: Sendable {
  private static let free = UInt64.max
  private var keys: [UInt64]
  private var ranks: [UInt32]
  private let shift: UInt64
  /// The token that the merge of each rank gives.
  let products: [Int32]

  /// - Parameter merges: in the order of their ranks. Where a pair comes twice, the later rank holds.
  init(_ merges: [(left: Int32, right: Int32, product: Int32)]) {
    var bits: UInt64 = 4
    while 1 << bits < 2 * merges.count + 2 { bits += 1 }
    keys = Array(repeating: Self.free, count: 1 << bits)
    ranks = Array(repeating: 0, count: 1 << bits)
    shift = 64 - bits
    products = merges.map(\.product)
    for (rank, merge) in merges.enumerated() {
      let key = Self.key(merge.left, merge.right)
      var slot = self.slot(key)
      while keys[slot] != Self.free, keys[slot] != key { slot = (slot + 1) & (keys.count - 1) }
      keys[slot] = key
      ranks[slot] = UInt32(rank)
    }
  }

  private static func key(_ left: Int32, _ right: Int32) -> UInt64 {
    UInt64(UInt32(bitPattern: left)) << 32 | UInt64(UInt32(bitPattern: right))
  }

  private func slot(_ key: UInt64) -> Int {
    let mixed = (key ^ (key >> 29)) &* 0x9E37_79B9_7F4A_7C15
    return Int(truncatingIfNeeded: mixed >> shift)
  }

  /// The rank of the merge of two tokens; `nil` where they do not merge.
  func rank(_ left: Int32, _ right: Int32) -> UInt32? {
    let key = Self.key(left, right)
    var slot = self.slot(key)
    while keys[slot] != key {
      if keys[slot] == Self.free { return nil }
      slot = (slot + 1) & (keys.count - 1)
    }
    return ranks[slot]
  }
}
