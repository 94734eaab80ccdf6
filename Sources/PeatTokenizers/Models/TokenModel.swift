import PeatTensor

/// Turns a piece of text, as the pre-tokenizer left it, into token numbers.
protocol TokenModel: Sendable {
  var vocabulary: Vocabulary { get }

  /// Appends the numbers of a piece that is not empty. They depend on the piece alone.
  func encode(_ piece: [UInt8], into numbers: inout [Int32])
}

/// The models that this reader knows; a new one is a file beside this one and a line here.
enum TokenModels {
  private static let known:
    [(name: String, value: @Sendable (TokenizerPart) throws -> any TokenModel)] = [
      ("BPE", { try BytePairEncoding($0) }),
      ("WordPiece", { try WordPiece($0) }),
      ("Unigram", { try Unigram($0) }),
      ("WordLevel", { try WordLevel($0) }),
    ]

  static func read(_ part: TokenizerPart) throws -> any TokenModel {
    if try part.optional("type") != nil { return try part.type(in: known, of: "model")(part) }
    // Early files have no "type": what has merges is byte-pair encoding, and so on.
    if try part.optional("merges") != nil { return try BytePairEncoding(part) }
    if try part.optional("max_input_chars_per_word") != nil { return try WordPiece(part) }
    if try part.optional("unk_id") != nil { return try Unigram(part) }
    return try part.type(in: known, of: "model")(part)
  }
}
