import PeatTensor

/// Replaces every match of a pattern within a token. A token so long that the pattern can't be matched against it stays as
/// it is.
struct ReplaceDecoder: DecoderStage {
  let pattern: Pattern
  let content: [UInt8]
  private var token = WholeToken()

  init(_ part: TokenizerPart) throws {
    pattern = try Pattern(part.required("pattern"))
    content = try Pattern.content(part.required("content"))
  }

  mutating func append(_ chunk: TokenChunk, into chunks: inout [TokenChunk]) {
    guard let bytes = token.append(chunk) else { return }
    chunks.append(TokenChunk(bytes: text(of: bytes)))
  }

  func text(of token: [UInt8]) -> [UInt8] {
    (try? pattern.replacing(in: token, with: content)) ?? token
  }
}
