import PeatTensor
import Testing

@Suite("float16 and bfloat16") struct StorageTypeTests {
  /// IEEE half precision by its definition: sign · 2^(e − 15) · (1 + f/1024).
  private func half(_ bits: UInt16) -> Double {
    let sign: Double = bits & 0x8000 == 0 ? 1 : -1
    let exponent = Int(bits >> 10 & 31)
    let fraction = Double(bits & 1023)
    switch exponent {
    case 0: return sign * fraction * 0x1p-24
    case 31: return fraction == 0 ? sign * .infinity : .nan
    default:
      return sign * (1 + fraction / 1024)
        * Double(sign: .plus, exponent: exponent - 15, significand: 1)
    }
  }

  private let allBits = UInt16.min ... .max

  @Test func `all 65536 half-precision numbers become the floats they stand for`() {
    let wrong = allBits.filter { bits in
      let value = Float(float16: bits)
      let expected = half(bits)
      if expected.isNaN { return !value.isNaN }
      return Double(value) != expected || (value.sign == .minus) != (bits & 0x8000 != 0)
    }
    #expect(wrong.isEmpty)
  }

  @Test func `all 65536 half-precision numbers survive the way to float and back`() {
    let wrong = allBits.filter { bits in
      let back = Float(float16: bits).float16Bits
      if !half(bits).isNaN { return back != bits }
      return back & 0x7c00 != 0x7c00 || back & 0x3ff == 0 || back & 0x8000 != bits & 0x8000
    }
    #expect(wrong.isEmpty)
  }

  @Test func `all 65536 bfloat16 numbers survive the way to float and back`() {
    let wrong = allBits.filter { bits in
      let value = Float(bfloat16: bits)
      return value.bitPattern != UInt32(bits) << 16
        || value.bfloat16Bits != (value.isNaN ? bits | 0x40 : bits)
    }
    #expect(wrong.isEmpty)
  }

  /// Whether `round` picks the nearer of two neighbours, and the even one half-way between them.
  private func isNearest(
    _ lower: UInt16, _ value: (UInt16) -> Double, _ round: (Float) -> UInt16
  ) -> Bool {
    let upper = lower + 1
    let even = lower % 2 == 0 ? lower : upper
    let middle = Float((value(lower) + value(upper)) / 2)  // exact: both have few digits
    return round(middle) == even && round(-middle) == even | 0x8000
      && round(middle.nextDown) == lower && round(middle.nextUp) == upper
  }

  @Test func `between any two half-precision neighbours the nearer is chosen, half-way the even`() {
    let wrong = (UInt16(0)..<0x7bff).filter { !isNearest($0, half, \.float16Bits) }
    #expect(wrong.isEmpty)
  }

  @Test func `between any two bfloat16 neighbours the nearer is chosen, half-way the even`() {
    let wrong = (UInt16(0)..<0x7f7f).filter {
      !isNearest($0, { Double(Float(bfloat16: $0)) }, \.bfloat16Bits)
    }
    #expect(wrong.isEmpty)
  }

  @Test func `what is too large becomes infinite, what is too small zero`() {
    #expect(Float(65504).float16Bits == 0x7bff)
    #expect(Float(65519.996).float16Bits == 0x7bff)
    #expect(Float(65520).float16Bits == 0x7c00)
    #expect(Float(-1e30).float16Bits == 0xfc00)
    #expect(Float.infinity.float16Bits == 0x7c00)
    #expect(Float(0x1p-25).float16Bits == 0)
    #expect(Float(0x1p-25).nextUp.float16Bits == 1)
    #expect(Float(-1e-30).float16Bits == 0x8000)
    #expect(Float.leastNonzeroMagnitude.float16Bits == 0)
    #expect(Float.greatestFiniteMagnitude.bfloat16Bits == 0x7f80)
    #expect((-Float.infinity).bfloat16Bits == 0xff80)
    #expect(Float(bitPattern: 0x7f80_0001).bfloat16Bits & 0x7fff > 0x7f80)
    #expect(Float.nan.float16Bits & 0x7fff > 0x7c00)
  }

  #if !(os(macOS) && arch(x86_64))
    @Test func `half precision agrees with the language's own type`() {
      let wrong = allBits.filter { bits in
        let own = Float(Float16(bitPattern: bits))
        let value = Float(float16: bits)
        return own.isNaN ? !value.isNaN : value.bitPattern != own.bitPattern
      }
      #expect(wrong.isEmpty)
      var random = SeededRandom(seed: 3)
      let values = (0..<300_000).map { _ in
        Float(bitPattern: UInt32(truncatingIfNeeded: random.next()))
      }
      let wrongBack = values.filter { !$0.isNaN && $0.float16Bits != Float16($0).bitPattern }
      #expect(wrongBack.isEmpty)
    }
  #endif

  @Test func `names and widths are those of the formats`() {
    #expect(StorageType.allCases.map(\.rawValue) == ["F32", "F16", "BF16"])
    #expect(StorageType.allCases.map(\.width) == [4, 2, 2])
  }
}
