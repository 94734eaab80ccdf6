import PeatTensor

/// BERT's cleaning of a text: control characters out, white space to spaces, spaces around ideographs, accents off, lower case.
///
/// Source: Devlin et al. 2019, `BasicTokenizer` of the released code; mirrors tokenizers 0.23 `normalizers/bert.rs`.
struct BertNormalizer: Normalizer {
  let cleansText: Bool
  let partsIdeographs: Bool
  let stripsAccents: Bool
  let lowercases: Bool

  init(_ part: TokenizerPart) throws {
    cleansText = try part.bool("clean_text", default: true)
    partsIdeographs = try part.bool("handle_chinese_chars", default: true)
    lowercases = try part.bool("lowercase", default: true)
    // Without a word on accents they go with the capitals.
    stripsAccents = try part.optional("strip_accents")?.bool() ?? lowercases
  }

  func normalized(_ text: [UInt8], keepsStart: inout Bool) throws -> [UInt8] {
    try normalized(
      text, keepsStart: &keepsStart,
      leavingOut: { value in
        cleansText && value != 0x09 && value != 0x0A && value != 0x0D
          && (value == 0xFFFD || UTF8Text.isControl(value))
          || stripsAccents && UTF8Text.isNonspacingMark(value)
      })
  }

  func normalized(_ text: [UInt8]) -> [UInt8] {
    var result: [UInt8] = []
    result.reserveCapacity(text.count + text.count / 8)
    var index = 0
    while index < text.count {
      if text[index] < 0x80 {
        appendASCII(text[index], to: &result)
        index += 1
      } else {
        // No ASCII character decomposes or changes place: a run of the others can be taken on its own.
        let start = index
        while index < text.count, text[index] >= 0x80 { index += 1 }
        appendRun(text[start..<index], to: &result)
      }
    }
    return result
  }

  private func appendASCII(_ byte: UInt8, to result: inout [UInt8]) {
    switch byte {
    case UInt8(ascii: "A")...UInt8(ascii: "Z"): result.append(lowercases ? byte | 0x20 : byte)
    case 0x20...0x7E: result.append(byte)
    case 0x09, 0x0A, 0x0D: result.append(cleansText ? 0x20 : byte)
    default: if !cleansText { result.append(byte) }
    }
  }

  private func appendRun(_ run: ArraySlice<UInt8>, to result: inout [UInt8]) {
    var cleaned: [UInt8] = []
    cleaned.reserveCapacity(run.count)
    let text = Array(run)
    var index = 0
    while index < text.count {
      let scalar = UTF8Text.scalar(text, at: index)
      let bytes = text[index..<index + scalar.length]
      index += scalar.length
      if cleansText {
        if scalar.value == 0xFFFD || UTF8Text.isControl(scalar.value) { continue }
        if UTF8Text.isWhitespace(scalar.value) {
          cleaned.append(0x20)
          continue
        }
      }
      if partsIdeographs, Self.isIdeograph(scalar.value) {
        cleaned.append(0x20)
        cleaned += bytes
        cleaned.append(0x20)
      } else {
        cleaned += bytes
      }
    }
    if stripsAccents {
      cleaned = UTF8Text.leavingOut(
        UnicodeForm.nfd.normalized(cleaned), UTF8Text.isNonspacingMark)
    }
    result += lowercases ? LowercaseNormalizer().normalized(cleaned) : cleaned
  }

  /// The blocks of unified ideographs, as BERT's code names them.
  private static func isIdeograph(_ value: UInt32) -> Bool {
    switch value {
    case 0x4E00...0x9FFF, 0x3400...0x4DBF, 0x20000...0x2A6DF, 0x2A700...0x2B73F,
      0x2B740...0x2B81F, 0x2B920...0x2CEAF, 0xF900...0xFAFF, 0x2F800...0x2FA1F:
      return true
    default: return false
    }
  }
}
