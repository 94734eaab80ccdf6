import PeatTensor

/// Joins the tokens of words ("##ing") and parts words by spaces; with "cleanup", no space before English punctuation and in
/// contractions.
///
/// Mirrors tokenizers 0.23 `decoders/wordpiece.rs`: the cleaning looks at each token alone.
struct WordPieceDecoder: DecoderStage {
  private static let cleanings: [(wanted: [UInt8], content: [UInt8])] = [
    (" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"), (" n't", "n't"),
    (" 'm", "'m"), (" do not", " don't"), (" 's", "'s"), (" 've", "'ve"), (" 're", "'re"),
  ].map { (Array($0.0.utf8), Array($0.1.utf8)) }

  private let prefix: [UInt8]
  private let cleansUp: Bool
  private var isFirst = true
  private var token = WholeToken()

  init(_ part: TokenizerPart) throws {
    prefix = try part.optional("prefix")?.string().bytes ?? Array("##".utf8)
    cleansUp = try part.bool("cleanup", default: true)
  }

  mutating func append(_ chunk: TokenChunk, into chunks: inout [TokenChunk]) {
    guard let bytes = token.append(chunk) else { return }
    chunks.append(TokenChunk(bytes: text(of: bytes, isFirst: isFirst)))
    isFirst = false
  }

  func text(of token: [UInt8], isFirst: Bool) -> [UInt8] {
    var bytes = token
    if !isFirst {
      bytes = bytes.starts(with: prefix) ? Array(bytes[prefix.count...]) : [0x20] + bytes
    }
    if cleansUp, bytes.contains(0x20) {
      for (wanted, content) in Self.cleanings {
        bytes = bytes.replacing(Pattern.occurrences(of: wanted, in: bytes), with: content)
      }
    }
    return bytes
  }
}
