import PeatTensor

/// Writes "▁" as a space, and leaves it out in the first token unless none is put before a text.
struct MetaspaceDecoder: DecoderStage {
  private let mark: [UInt8]
  private let dropsFirst: Bool
  private var isFirst = true
  private var token = WholeToken()

  init(_ part: TokenizerPart) throws {
    mark = Array(String(try part.scalar("replacement", default: "▁")).utf8)
    dropsFirst = try PrependScheme(part) != .never
  }

  mutating func append(_ chunk: TokenChunk, into chunks: inout [TokenChunk]) {
    guard let bytes = token.append(chunk) else { return }
    chunks.append(TokenChunk(bytes: text(of: bytes, isFirst: isFirst)))
    isFirst = false
  }

  func text(of token: [UInt8], isFirst: Bool) -> [UInt8] {
    token.replacing(
      Pattern.occurrences(of: mark, in: token), with: isFirst && dropsFirst ? [] : [0x20])
  }
}
