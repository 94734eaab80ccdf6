/// Makes one token of all tokens.
struct FuseDecoder: DecoderStage {
  private var hasBegun = false

  mutating func append(_ chunk: TokenChunk, into chunks: inout [TokenChunk]) {
    chunks.append(TokenChunk(bytes: chunk.bytes, beginsToken: !hasBegun, endsToken: false))
    hasBegun = true
  }

  mutating func finish(into chunks: inout [TokenChunk]) {
    chunks.append(TokenChunk(bytes: [], beginsToken: !hasBegun, endsToken: true))
    hasBegun = true
  }
}
