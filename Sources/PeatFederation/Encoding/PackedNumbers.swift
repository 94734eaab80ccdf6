import Foundation
import PeatTensor

/// Numbers in 32, 16, 8 or 4 bits each: the scales of integers first, then the numbers.
enum PackedNumbers {
  /// Integers that share a scale.
  static let groupSize = 64

  /// The length of each group of so many numbers: the last may be short.
  static func groups(of count: Int) -> [Int] {
    stride(from: 0, to: count, by: groupSize).map { min(groupSize, count - $0) }
  }

  static func byteCount(of count: Int, as number: WeightStorage, groups: Int) -> Int {
    switch number {
    case .float32: 4 * count
    case .float16, .bfloat16: 2 * count
    case .int8: 2 * groups + count
    case .int4: 2 * groups + (count + 1) / 2
    }
  }

  /// The largest integer; of the other sign it is the smallest.
  private static func limit(_ number: WeightStorage) -> Float { number == .int4 ? 7 : 127 }

  // MARK: Writing

  /// - Parameters:
  ///   - values: finite.
  ///   - groups: the length of each group that shares a scale; together as many as there are values.
  static func encode(
    _ values: [Float], as number: WeightStorage, groups: [Int], random: inout SeededRandom
  ) -> Data {
    switch number {
    case .float32:
      return littleEndian(values.map(\.bitPattern.littleEndian))
    case .float16:
      // The largest number there is, where the value is larger: the rest is not lost, as clients keep what rounding leaves.
      return littleEndian(
        values.map { max(-65504, min(65504, $0)).float16Bits.littleEndian })
    case .bfloat16:
      let largest = Float(bfloat16: 0x7f7f)
      return littleEndian(
        values.map { max(-largest, min(largest, $0)).bfloat16Bits.littleEndian })
    case .int8, .int4:
      var scales: [UInt16] = []
      var integers: [Int8] = []
      integers.reserveCapacity(values.count)
      let limit = limit(number)
      var start = 0
      for length in groups {
        let group = values[start..<start + length]
        start += length
        let bits = scaleBits(of: group, limit)
        scales.append(bits.littleEndian)
        let scale = Float(bfloat16: bits)
        for value in group {
          let exact = scale > 0 ? value / scale : 0
          let below = exact.rounded(.down)
          let rounded = random.uniform() < exact - below ? below + 1 : below
          integers.append(Int8(max(-limit, min(limit, rounded))))
        }
      }
      return littleEndian(scales) + (number == .int8 ? bytes(integers) : nibbles(integers))
    }
  }

  /// The largest magnitude over the largest integer, rounded up to bfloat16: it has float32's range, and no value is cut off.
  private static func scaleBits(of group: ArraySlice<Float>, _ limit: Float) -> UInt16 {
    let exact = (group.lazy.map(\.magnitude).max() ?? 0) / limit
    let bits = UInt16(exact.bitPattern >> 16)
    return Float(bfloat16: bits) < exact ? bits + 1 : bits
  }

  private static func littleEndian<Value: FixedWidthInteger>(_ values: [Value]) -> Data {
    values.withUnsafeBytes { Data($0) }
  }

  private static func bytes(_ values: [Int8]) -> Data { values.withUnsafeBytes { Data($0) } }

  private static func nibbles(_ values: [Int8]) -> Data {
    var data = Data(count: (values.count + 1) / 2)
    for (place, value) in values.enumerated() {
      data[place / 2] |= (UInt8(bitPattern: value) & 0xf) << (place % 2 * 4)
    }
    return data
  }

  // MARK: Reading

  /// - Parameter bytes: as many as `byteCount` says.
  /// - Throws: `UpdateRefusal` where a scale is no finite number that is at least 0, or a byte is none that is written.
  static func decode(
    _ bytes: UnsafeRawBufferPointer, count: Int, as number: WeightStorage, groups: [Int]
  ) throws -> [Float] {
    func short(_ place: Int) -> UInt16 {
      UInt16(littleEndian: bytes.loadUnaligned(fromByteOffset: 2 * place, as: UInt16.self))
    }
    switch number {
    case .float32:
      return (0..<count).map {
        Float(
          bitPattern: UInt32(
            littleEndian: bytes.loadUnaligned(fromByteOffset: 4 * $0, as: UInt32.self)))
      }
    case .float16: return (0..<count).map { Float(float16: short($0)) }
    case .bfloat16: return (0..<count).map { Float(bfloat16: short($0)) }
    case .int8, .int4:
      let integers = UnsafeRawBufferPointer(rebasing: bytes[(2 * groups.count)...])
      if number == .int4, count % 2 == 1, integers[count / 2] >> 4 != 0 {
        throw UpdateRefusal(
          .malformed, "The half byte behind the last of \(count) int4 numbers is not 0.")
      }
      var values: [Float] = []
      values.reserveCapacity(count)
      for (group, length) in groups.enumerated() {
        let scale = Float(bfloat16: short(group))
        guard scale.isFinite, scale.sign == .plus else {
          throw UpdateRefusal(
            .notFinite,
            "The scale of group \(group) is \(scale); it must be a finite number, at least 0.")
        }
        for place in values.count..<values.count + length {
          let integer = read(integers, place, number)
          guard Float(integer) >= -limit(number) else {
            throw UpdateRefusal(
              .malformed,
              "Number \(place) is \(integer); \(number.rawValue) go down to \(-Int(limit(number)))."
            )
          }
          values.append(Float(integer) * scale)
        }
      }
      return values
    }
  }

  private static func read(
    _ bytes: UnsafeRawBufferPointer, _ place: Int, _ number: WeightStorage
  ) -> Int {
    if number == .int8 { return Int(Int8(bitPattern: bytes[place])) }
    let half = Int(bytes[place / 2] >> (place % 2 * 4)) & 0xf
    return half < 8 ? half : half - 16
  }
}
