/// How a tensor's values are stored in a file; computation is always float32.
public enum StorageType: String, Sendable, Codable, CaseIterable {
  case float32 = "F32"
  case float16 = "F16"
  case bfloat16 = "BF16"

  /// Bytes per value.
  public var width: Int { self == .float32 ? 4 : 2 }
}

extension Float {
  /// The float whose upper half is `bits`.
  package init(bfloat16 bits: UInt16) { self.init(bitPattern: UInt32(bits) << 16) }

  /// Rounded to bfloat16, to nearest, ties to even; NaN stays NaN.
  package var bfloat16Bits: UInt16 {
    if isNaN { return UInt16(bitPattern >> 16) | 0x40 }
    let rounding = 0x7fff + ((bitPattern >> 16) & 1)
    return UInt16(truncatingIfNeeded: (bitPattern &+ rounding) >> 16)
  }

  /// The float equal to the IEEE half-precision number with these bits.
  package init(float16 bits: UInt16) {
    let sign = UInt32(bits & 0x8000) << 16
    let exponent = Int(bits >> 10) & 0x1f
    let fraction = UInt32(bits & 0x3ff)
    switch exponent {
    case 0:
      let magnitude = Float(fraction) * 0x1p-24
      self = sign == 0 ? magnitude : -magnitude
    case 31: self.init(bitPattern: sign | 0x7f80_0000 | (fraction << 13))
    default: self.init(bitPattern: sign | UInt32(exponent + 112) << 23 | (fraction << 13))
    }
  }

  /// Rounded to IEEE half precision, to nearest, ties to even; too large becomes infinity.
  package var float16Bits: UInt16 {
    let sign = UInt16((bitPattern >> 16) & 0x8000)
    let size = magnitude
    if size.isNaN { return sign | 0x7e00 }
    if size >= 65520 { return sign | 0x7c00 }
    if size < 0x1p-14 {
      return sign | UInt16((size * 0x1p24).rounded(.toNearestOrEven))
    }
    let bits = size.bitPattern &- (112 << 23)
    return sign | UInt16(truncatingIfNeeded: (bits &+ 0xfff &+ ((bits >> 13) & 1)) >> 13)
  }
}
