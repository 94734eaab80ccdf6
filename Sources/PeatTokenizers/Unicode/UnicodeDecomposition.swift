import Foundation

/// What scalars of Unicode 9 decompose into, and which two compose.
///
/// The mappings of single scalars are Foundation's; sequences are not left to it: on Linux it can order and compose them otherwise
/// than the standard does.
struct UnicodeDecomposition: Sendable {
  static let shared = UnicodeDecomposition()

  /// The version that the crate of tokenizers knows.
  private static let version = 9
  /// Where scalars that decompose lie; Hangul is computed.
  private static let places: [ClosedRange<UInt32>] = [
    0xA0...0x33FF, 0xA640...0xABFF, 0xF900...0xFFEF, 0x11080...0x119FF, 0x1D100...0x1D7FF,
    0x1EE00...0x1EEFF, 0x1F100...0x1F2FF, 0x2F800...0x2FA1F,
  ]

  private var canonical: [UInt32: [UInt32]] = [:]
  private var compatible: [UInt32: [UInt32]] = [:]
  private var composites: [UInt64: UInt32] = [:]

  private init() {
    let scalars = Self.places.joined().compactMap { Unicode.Scalar($0) }.filter {
      UTF8Text.isAssigned($0.value, by: Self.version)
    }
    // One call for all: a zero between two scalars keeps them apart.
    let text = String(String.UnicodeScalarView(scalars.flatMap { [$0, "\0"] }))
    func mapped(_ form: String) -> [UInt32: [UInt32]] {
      let parts = form.unicodeScalars.split(separator: "\0", omittingEmptySubsequences: false)
      var result: [UInt32: [UInt32]] = [:]
      for (scalar, part) in zip(scalars, parts) where part.first != scalar || part.count > 1 {
        result[scalar.value] = part.map(\.value)
      }
      return result
    }
    canonical = mapped(text.decomposedStringWithCanonicalMapping)
    compatible = mapped(text.decomposedStringWithCompatibilityMapping)

    var byParts: [[UInt32]: UInt32] = [:]
    for (scalar, parts) in canonical where parts.count > 1 {
      guard Unicode.Scalar(scalar)?.properties.isFullCompositionExclusion == false else { continue }
      byParts[parts] = scalar
    }
    for (parts, scalar) in byParts {
      // "ǖ" is "ü" and a macron: all but the last part are one scalar, or compose into one.
      let first = parts.count == 2 ? parts[0] : byParts[Array(parts.dropLast())]
      guard let first, let last = parts.last else { continue }
      composites[Self.key(first, last)] = scalar
    }
  }

  private static func key(_ first: UInt32, _ second: UInt32) -> UInt64 {
    UInt64(first) << 32 | UInt64(second)
  }

  /// The canonical combining class: 0 for a starter.
  static func rank(_ scalar: UInt32) -> UInt8 {
    if scalar < 0x300 { return 0 }
    if (0x3400...0xA66E).contains(scalar) || (0xAC00...0xFB1D).contains(scalar) { return 0 }
    guard let properties = Unicode.Scalar(scalar)?.properties else { return 0 }
    let rank = properties.canonicalCombiningClass.rawValue
    return rank > 0 && UTF8Text.isAssigned(scalar, by: version) ? rank : 0
  }

  // Hangul syllables are computed (The Unicode Standard, section 3.12).
  private static let syllables: UInt32 = 0xAC00
  private static let (leads, vowels, trails): (UInt32, UInt32, UInt32) = (0x1100, 0x1161, 0x11A7)
  private static let (leadCount, vowelCount, trailCount): (UInt32, UInt32, UInt32) = (19, 21, 28)

  func append(_ scalar: UInt32, isCompatible: Bool, to scalars: inout [UInt32]) {
    if scalar < 0xA0 || (0x3400..<0xA640).contains(scalar) {
      scalars.append(scalar)
    } else if (Self.syllables..<Self.syllables + 11_172).contains(scalar) {
      let index = scalar - Self.syllables
      scalars.append(Self.leads + index / (Self.vowelCount * Self.trailCount))
      scalars.append(Self.vowels + index / Self.trailCount % Self.vowelCount)
      if index % Self.trailCount > 0 { scalars.append(Self.trails + index % Self.trailCount) }
    } else if let parts = (isCompatible ? compatible : canonical)[scalar] {
      scalars += parts
    } else {
      scalars.append(scalar)
    }
  }

  /// What two scalars compose into; `nil` where they do not.
  func composite(_ first: UInt32, _ second: UInt32) -> UInt32? {
    if second < 0x300 { return nil }
    if (Self.leads..<Self.leads + Self.leadCount).contains(first),
      (Self.vowels..<Self.vowels + Self.vowelCount).contains(second)
    {
      let index = (first - Self.leads) * Self.vowelCount + (second - Self.vowels)
      return Self.syllables + index * Self.trailCount
    }
    if (Self.syllables..<Self.syllables + 11_172).contains(first),
      (first - Self.syllables) % Self.trailCount == 0,
      (Self.trails + 1..<Self.trails + Self.trailCount).contains(second)
    {
      return first + (second - Self.trails)
    }
    return composites[Self.key(first, second)]
  }
}
