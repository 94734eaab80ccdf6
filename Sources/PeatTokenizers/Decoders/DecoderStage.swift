import PeatTensor

/// A token on its way to text, or a part of one.
struct TokenChunk: Sendable {
  var bytes: [UInt8]
  var beginsToken = true
  var endsToken = true
}

/// One step from tokens to text. It takes tokens one at a time, so that text can be shown while it is generated, and
/// keeps back what later tokens could still change.
///
/// `StreamingDecoder` runs these stages, and so does `Tokenizer.decode` where it has no `DecodingRule` for them; their texts are the same.
/// Every chunk is valid UTF-8.
protocol DecoderStage: Sendable {
  mutating func append(_ chunk: TokenChunk, into chunks: inout [TokenChunk])
  /// Gives what was kept back; no more tokens come.
  mutating func finish(into chunks: inout [TokenChunk])
}

extension DecoderStage {
  mutating func finish(into chunks: inout [TokenChunk]) {}
}

/// Gathers chunks until their token is whole.
struct WholeToken: Sendable {
  private var bytes: [UInt8] = []

  mutating func append(_ chunk: TokenChunk) -> [UInt8]? {
    if chunk.beginsToken, chunk.endsToken { return chunk.bytes }
    bytes += chunk.bytes
    guard chunk.endsToken else { return nil }
    defer { bytes = [] }
    return bytes
  }
}

/// The decoders that this reader knows; a new one is a file beside this one and a line here.
enum Decoders {
  private static let known:
    [(name: String, value: @Sendable (TokenizerPart) throws -> [any DecoderStage])] = [
      ("Sequence", { try $0.required("decoders").elements().flatMap(read) }),
      ("Replace", { [try ReplaceDecoder($0)] }),
      ("ByteFallback", { _ in [ByteFallbackDecoder()] }),
      ("Fuse", { _ in [FuseDecoder()] }),
      ("Strip", { [try StripDecoder($0)] }),
      ("ByteLevel", { _ in [ByteLevelDecoder()] }),
      ("Metaspace", { [try MetaspaceDecoder($0)] }),
      ("WordPiece", { [try WordPieceDecoder($0)] }),
      ("BPEDecoder", { [try WordEndDecoder($0)] }),
    ]

  /// The stages of a decoder, in order; a sequence in a sequence is the same as one long sequence.
  static func read(_ part: TokenizerPart) throws -> [any DecoderStage] {
    try part.type(in: known, of: "decoder")(part)
  }
}
