/// Turns tokens in GPT-2's alphabet into bytes, and the bytes into text.
///
/// Bytes that are not UTF-8 become U+FFFD, one for each maximal part of a scalar. The bytes of a scalar that is not
/// complete yet are kept back.
struct ByteLevelDecoder: DecoderStage {
  private var pending: [UInt8] = []
  private var hasBegun = false
  private var token = WholeToken()

  mutating func append(_ chunk: TokenChunk, into chunks: inout [TokenChunk]) {
    guard let bytes = token.append(chunk) else { return }
    pending += ByteLevelAlphabet.read(bytes) ?? bytes
    let kept = UTF8Text.incompleteTail(pending)
    emit(pending.count - kept, endsToken: false, into: &chunks)
  }

  mutating func finish(into chunks: inout [TokenChunk]) {
    emit(pending.count, endsToken: true, into: &chunks)
  }

  private mutating func emit(_ count: Int, endsToken: Bool, into chunks: inout [TokenChunk]) {
    let text = String(decoding: pending[..<count], as: UTF8.self)
    pending.removeFirst(count)
    chunks.append(TokenChunk(bytes: Array(text.utf8), beginsToken: !hasBegun, endsToken: endsToken))
    hasBegun = true
  }
}
