import PeatTensor

/// The numbers of words already met in a text.
typealias WordCache = [ByteString: [Int32]]

/// Turns a piece of text, as the pre-tokenizer left it, into token numbers.
protocol TokenModel: Sendable {
  var vocabulary: Vocabulary { get }

  /// Appends the numbers of a piece that is not empty.
  func encode(_ piece: ByteString, cache: inout WordCache, into numbers: inout [Int32])
}

/// The models that this reader knows; a new one is a file beside this one and a line here.
enum TokenModels {
  private static let known:
    [(name: String, value: @Sendable (TokenizerPart) throws -> any TokenModel)] = [
      ("BPE", { try BytePairEncoding($0) })
    ]

  static func read(_ part: TokenizerPart) throws -> any TokenModel {
    // Early files have no "type"; what has merges is byte-pair encoding.
    if try part.optional("type") == nil, try part.optional("merges") != nil {
      return try BytePairEncoding(part)
    }
    return try part.type(in: known, of: "model")(part)
  }
}
