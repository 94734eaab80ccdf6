import PeatTensor

/// Writes the mark that ends a word ("</w>") as a space, and leaves it out in the last token.
///
/// Mirrors tokenizers 0.23 `decoders/bpe.rs`. A token is kept back until another one follows.
struct WordEndDecoder: DecoderStage {
  private let suffix: [UInt8]
  private var waiting: [UInt8]?
  private var token = WholeToken()

  init(_ part: TokenizerPart) throws {
    let suffix = try part.optional("suffix")
    self.suffix = try suffix?.string().bytes ?? Array("</w>".utf8)
    if self.suffix.isEmpty { throw part.failure("has an empty 'suffix'.") }
  }

  mutating func append(_ chunk: TokenChunk, into chunks: inout [TokenChunk]) {
    guard let bytes = token.append(chunk) else { return }
    flush(isLast: false, into: &chunks)
    waiting = bytes
  }

  mutating func finish(into chunks: inout [TokenChunk]) { flush(isLast: true, into: &chunks) }

  private mutating func flush(isLast: Bool, into chunks: inout [TokenChunk]) {
    guard let bytes = waiting else { return }
    waiting = nil
    chunks.append(TokenChunk(bytes: text(of: bytes, isLast: isLast)))
  }

  func text(of token: [UInt8], isLast: Bool) -> [UInt8] {
    token.replacing(Pattern.occurrences(of: suffix, in: token), with: isLast ? [] : [0x20])
  }
}
