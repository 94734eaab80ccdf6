import PeatTensor

/// Replaces every match of a pattern within a token.
struct ReplaceDecoder: DecoderStage {
  let pattern: Pattern
  let content: [UInt8]
  private var token = WholeToken()

  init(_ part: TokenizerPart) throws {
    pattern = try Pattern(part.required("pattern"))
    content = try part.string("content").bytes
  }

  mutating func append(_ chunk: TokenChunk, into chunks: inout [TokenChunk]) {
    guard let bytes = token.append(chunk) else { return }
    chunks.append(TokenChunk(bytes: pattern.replacing(in: bytes, with: content)))
  }
}
