import PeatTensor

/// A stretch of text between added tokens, or what a pre-tokenizer has cut out of one.
struct Piece: Sendable {
  var bytes: [UInt8]
  /// Whether the text as a whole begins here.
  var beginsText: Bool
}

/// Cuts a piece into smaller ones ("words"), across whose borders the model never merges.
protocol PreTokenizer: Sendable {
  /// Appends the parts of a piece that is not empty; empty parts are left out.
  ///
  /// - Throws: `badData` where a regular expression can't be matched against so long a piece.
  func split(_ piece: Piece, into pieces: inout [Piece]) throws
}

/// The pre-tokenizers that this reader knows; a new one is a file beside this one and a line here.
enum PreTokenizers {
  private static let known:
    [(name: String, value: @Sendable (TokenizerPart) throws -> any PreTokenizer)] = [
      ("Sequence", { try PreTokenizerSequence($0) }),
      ("ByteLevel", { try ByteLevelPreTokenizer($0) }),
      ("Metaspace", { try MetaspacePreTokenizer($0) }),
      ("Split", { try SplitPreTokenizer($0) }),
      ("Digits", { try DigitsPreTokenizer($0) }),
      ("Punctuation", { try PunctuationPreTokenizer($0) }),
      ("Whitespace", { _ in WhitespacePreTokenizer() }),
      ("WhitespaceSplit", { _ in WhitespaceSplitPreTokenizer() }),
      ("BertPreTokenizer", { _ in BertPreTokenizer() }),
      ("CharDelimiterSplit", { try DelimiterPreTokenizer($0) }),
    ]

  static func read(_ part: TokenizerPart) throws -> any PreTokenizer {
    try part.type(in: known, of: "pre-tokenizer")(part)
  }
}

/// Several pre-tokenizers, each cutting what the one before it left.
struct PreTokenizerSequence: PreTokenizer {
  let preTokenizers: [any PreTokenizer]

  init(_ part: TokenizerPart) throws {
    preTokenizers = try part.required("pretokenizers").elements().map(PreTokenizers.read)
  }

  func split(_ piece: Piece, into pieces: inout [Piece]) throws {
    var current = [piece]
    for preTokenizer in preTokenizers {
      var next: [Piece] = []
      next.reserveCapacity(current.count)
      for piece in current { try preTokenizer.split(piece, into: &next) }
      current = next
    }
    pieces.append(contentsOf: current)
  }
}
