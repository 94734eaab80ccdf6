/// Turns tokens into text while they are being generated.
///
///     var stream = StreamingDecoder(tokenizer)
///     for token in tokens { print(stream.append(token), terminator: "") }
///     print(stream.finish())
///
/// Never gives half a character's bytes; all it gives, put together, is what `Tokenizer.decode` gives. What a later token could
/// still change (a scalar that is not complete, a run of byte tokens) comes with that token or with `finish()`.
public struct StreamingDecoder: Sendable {
  private let tokenizer: Tokenizer
  private let skipsSpecialTokens: Bool
  private var stages: [any DecoderStage]
  /// What is on its way between two stages; kept for their memory.
  private var chunks: [TokenChunk] = []
  private var next: [TokenChunk] = []

  public init(_ tokenizer: Tokenizer, skipSpecialTokens: Bool = true) {
    self.tokenizer = tokenizer
    skipsSpecialTokens = skipSpecialTokens
    stages = tokenizer.decoder
  }

  /// The text that this token completes; empty for a number that no token has.
  public mutating func append(_ token: Int32) -> String {
    var bytes: [UInt8] = []
    append(token, into: &bytes)
    return String(decoding: bytes, as: UTF8.self)
  }

  /// The text that was kept back; call it once, after the last token.
  public mutating func finish() -> String {
    var bytes: [UInt8] = []
    finish(into: &bytes)
    return String(decoding: bytes, as: UTF8.self)
  }

  mutating func append(_ token: Int32, into bytes: inout [UInt8]) {
    guard let content = tokenizer.content(token),
      !(skipsSpecialTokens && tokenizer.isSkipped(token))
    else {
      return
    }
    chunks.append(TokenChunk(bytes: content.bytes))
    pass(from: 0, into: &bytes)
  }

  mutating func finish(into bytes: inout [UInt8]) {
    for index in stages.indices {
      stages[index].finish(into: &chunks)
      pass(from: index + 1, into: &bytes)
    }
  }

  /// Sends the chunks through the stages from one on; none are left.
  private mutating func pass(from first: Int, into bytes: inout [UInt8]) {
    for index in first..<stages.count {
      for chunk in chunks { stages[index].append(chunk, into: &next) }
      swap(&chunks, &next)
      next.removeAll(keepingCapacity: true)
    }
    for chunk in chunks { bytes += chunk.bytes }
    chunks.removeAll(keepingCapacity: true)
  }
}
