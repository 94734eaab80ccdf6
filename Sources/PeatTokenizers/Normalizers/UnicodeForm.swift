/// Unicode's normalisation forms (Unicode Standard Annex 15), with the tables of Unicode 9.
///
/// tokenizers' crate unicode-normalization-alignments knows that version: a scalar assigned later stays as it is and counts as a
/// starter.
enum UnicodeForm: Normalizer {
  case nfc, nfd, nfkc, nfkd

  func normalized(_ text: [UInt8]) -> [UInt8] {
    if text.allSatisfy({ $0 < 0x80 }) { return text }
    // No scalar below U+0300 composes with one before it, nor is written otherwise in NFC.
    if self == .nfc, text.allSatisfy({ $0 < 0xCC }) { return text }
    var scalars = decomposed(text)
    if self == .nfc || self == .nfkc { Self.compose(&scalars) }
    var result: [UInt8] = []
    result.reserveCapacity(text.count + text.count / 4)
    for scalar in scalars { UTF8Text.append(scalar, to: &result) }
    return result
  }

  private func decomposed(_ text: [UInt8]) -> [UInt32] {
    let tables = UnicodeDecomposition.shared
    let isCompatible = self == .nfkc || self == .nfkd
    var scalars: [UInt32] = []
    scalars.reserveCapacity(text.count)
    var index = 0
    while index < text.count {
      let scalar = UTF8Text.scalar(text, at: index)
      index += scalar.length
      tables.append(scalar.value, isCompatible: isCompatible, to: &scalars)
    }
    Self.order(&scalars)
    return scalars
  }

  /// Puts marks between two starters in the order of their classes; equal classes keep theirs.
  private static func order(_ scalars: inout [UInt32]) {
    var marks: [(value: UInt32, rank: UInt8)] = []
    for index in 0...scalars.count {
      let rank = index < scalars.count ? UnicodeDecomposition.rank(scalars[index]) : 0
      if rank > 0 {
        marks.append((scalars[index], rank))
        continue
      }
      if marks.count > 1 {
        let sorted = marks.enumerated().sorted {
          ($0.element.rank, $0.offset) < ($1.element.rank, $1.offset)
        }
        for (place, mark) in sorted.enumerated() {
          scalars[index - marks.count + place] = mark.element.value
        }
      }
      marks.removeAll(keepingCapacity: true)
    }
  }

  /// Joins each starter with the marks and starters after it that it composes with.
  private static func compose(_ scalars: inout [UInt32]) {
    let tables = UnicodeDecomposition.shared
    var count = 0
    var starter = -1
    var lastRank: UInt8 = 0
    for scalar in scalars {
      let rank = UnicodeDecomposition.rank(scalar)
      // Blocked where something of the same or a higher class lies between the two.
      let isAdjacent = starter == count - 1
      if starter >= 0, isAdjacent || lastRank < rank,
        let product = tables.composite(scalars[starter], scalar)
      {
        scalars[starter] = product
        continue
      }
      if rank == 0 { starter = count }
      lastRank = rank
      scalars[count] = scalar
      count += 1
    }
    scalars.removeSubrange(count...)
  }
}
