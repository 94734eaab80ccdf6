import PeatTensor

/// Cuts a character off each token, up to so many times at its beginning and its end.
struct StripDecoder: DecoderStage {
  let content: [UInt8]
  let startCount: Int
  let stopCount: Int
  /// How many more may go at the beginning of the token that is passing.
  private var remaining = 0
  private var token = WholeToken()

  init(_ part: TokenizerPart) throws {
    content = Array(String(try part.scalar("content", default: " ")).utf8)
    startCount = try part.optional("start")?.integer(in: 0...Int(Int32.max)) ?? 0
    stopCount = try part.optional("stop")?.integer(in: 0...Int(Int32.max)) ?? 0
  }

  mutating func append(_ chunk: TokenChunk, into chunks: inout [TokenChunk]) {
    var chunk = chunk
    if stopCount > 0 {
      // The end is known only when the token is whole.
      guard let bytes = token.append(chunk) else { return }
      chunk = TokenChunk(bytes: bytes)
    }
    if chunk.beginsToken { remaining = startCount }
    var start = 0
    var end = chunk.bytes.count
    while remaining > 0, start < end {
      guard chunk.bytes[start...].starts(with: content) else {
        remaining = 0
        break
      }
      start += content.count
      remaining -= 1
    }
    for _ in 0..<stopCount {
      guard end - start >= content.count,
        chunk.bytes[..<end].suffix(content.count).elementsEqual(content)
      else {
        break
      }
      end -= content.count
    }
    if start > 0 || end < chunk.bytes.count { chunk.bytes = Array(chunk.bytes[start..<end]) }
    chunks.append(chunk)
  }

  /// How many bytes go at the beginning of a whole token.
  func strippedCount(of token: [UInt8]) -> Int {
    var start = 0
    for _ in 0..<startCount {
      guard !content.isEmpty, token[start...].starts(with: content) else { break }
      start += content.count
    }
    return start
  }
}
