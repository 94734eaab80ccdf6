/// Turns a run of byte tokens `<0xE4>` `<0xB8>` `<0xAD>` into the text that its bytes are.
///
/// A run that is not valid UTF-8 as a whole becomes one U+FFFD per byte. So a run is kept back until it ends.
struct ByteFallbackDecoder: DecoderStage {
  private var run: [UInt8] = []
  private var token = WholeToken()

  mutating func append(_ chunk: TokenChunk, into chunks: inout [TokenChunk]) {
    guard let bytes = token.append(chunk) else { return }
    if let byte = Self.byte(bytes) {
      run.append(byte)
    } else {
      flush(into: &chunks)
      chunks.append(TokenChunk(bytes: bytes))
    }
  }

  mutating func finish(into chunks: inout [TokenChunk]) { flush(into: &chunks) }

  private mutating func flush(into chunks: inout [TokenChunk]) {
    if run.isEmpty { return }
    if String(validating: run, as: UTF8.self) != nil {
      chunks.append(TokenChunk(bytes: run))
    } else {
      for _ in run { chunks.append(TokenChunk(bytes: Array("\u{FFFD}".utf8))) }
    }
    run = []
  }

  /// The same where all becomes one token.
  static func flush(_ run: inout [UInt8], into text: inout [UInt8]) {
    if String(validating: run, as: UTF8.self) != nil {
      text += run
    } else {
      for _ in run { text += "\u{FFFD}".utf8 }
    }
    run.removeAll(keepingCapacity: true)
  }

  /// The byte of `<0x0A>`.
  static func byte(_ token: [UInt8]) -> UInt8? {
    guard token.count == 6, token.starts(with: "<0x".utf8), token[5] == UInt8(ascii: ">"),
      let high = Character(Unicode.Scalar(token[3])).hexDigitValue,
      let low = Character(Unicode.Scalar(token[4])).hexDigitValue
    else { return nil }
    return UInt8(high << 4 | low)
  }
}
