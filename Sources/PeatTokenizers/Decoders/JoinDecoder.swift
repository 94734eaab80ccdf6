/// Writes a space between tokens: what happens where a tokenizer has no decoder.
struct JoinDecoder: DecoderStage {
  private var isFirst = true

  mutating func append(_ chunk: TokenChunk, into chunks: inout [TokenChunk]) {
    var chunk = chunk
    if chunk.beginsToken, !isFirst { chunk.bytes.insert(0x20, at: 0) }
    isFirst = false
    chunks.append(chunk)
  }
}
