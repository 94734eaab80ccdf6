import Foundation

/// Rising whole numbers in little more than the fewest bits there can be: for k of n about 2 + log₂(n/k) each, as many whatever they are.
///
/// Of each number the lowest l = ⌊log₂(n/k)⌋ bits stand in a row; then, for what is above them, a row of bits in which the i-th 1 stands at
/// `above + i`. Both rows begin in a byte of their own, with its lowest bit; bits behind them are 0.
///
/// Sources: Elias 1974, <https://doi.org/10.1145/321812.321820>; Fano 1971.
package enum SortedPlaces {
  private static func lowBits(of count: Int, below bound: Int) -> Int {
    guard count > 0, bound > count else { return 0 }
    return (Int.bitWidth - 1) - (bound / count).leadingZeroBitCount
  }

  /// Lengths of the two rows in bits.
  private static func lengths(of count: Int, below bound: Int) -> (low: Int, high: Int) {
    guard count > 0 else { return (0, 0) }
    let low = lowBits(of: count, below: bound)
    return (count * low, ((bound - 1) >> low) + count)
  }

  private static func bytes(_ bits: Int) -> Int { (bits + 7) / 8 }

  package static func byteCount(of count: Int, below bound: Int) -> Int {
    let lengths = lengths(of: count, below: bound)
    return bytes(lengths.low) + bytes(lengths.high)
  }

  /// - Parameter places: rising, each once, at least 0 and below `bound`.
  package static func encode(_ places: [Int], below bound: Int) -> Data {
    let low = lowBits(of: places.count, below: bound)
    let start = 8 * bytes(lengths(of: places.count, below: bound).low)
    var data = Data(count: byteCount(of: places.count, below: bound))
    func set(_ bit: Int) { data[bit / 8] |= 1 << UInt8(bit % 8) }
    for (number, place) in places.enumerated() {
      for bit in 0..<low where place >> bit & 1 == 1 { set(number * low + bit) }
      set(start + (place >> low) + number)
    }
    return data
  }

  /// - Parameter data: as many bytes as `byteCount` says.
  /// - Throws: `UpdateRefusal` where they are not what `encode` makes of rising numbers below `bound`.
  package static func decode(
    _ data: UnsafeRawBufferPointer, count: Int, below bound: Int
  ) throws -> [Int] {
    func refusal(_ reason: String) -> UpdateRefusal {
      UpdateRefusal(.malformed, "The places of the \(count) differences that are sent \(reason).")
    }
    func isSet(_ bit: Int) -> Bool { data[bit / 8] >> UInt8(bit % 8) & 1 == 1 }
    let low = lowBits(of: count, below: bound)
    let lengths = lengths(of: count, below: bound)
    let start = 8 * bytes(lengths.low)
    guard !(lengths.low..<start).contains(where: isSet),
      !(start + lengths.high..<8 * data.count).contains(where: isSet)
    else { throw refusal("have bits behind their end") }
    var places: [Int] = []
    places.reserveCapacity(count)
    for bit in 0..<lengths.high where isSet(start + bit) {
      let number = places.count
      guard number < count else { throw refusal("are more") }
      var place = (bit - number) << low
      for bit in 0..<low where isSet(number * low + bit) { place |= 1 << bit }
      guard place < bound else { throw refusal("go up to \(place) of \(bound)") }
      guard places.last.map({ $0 < place }) ?? true else {
        throw refusal("do not rise: \(place) follows \(places.last ?? 0)")
      }
      places.append(place)
    }
    guard places.count == count else { throw refusal("are only \(places.count)") }
    return places
  }
}
