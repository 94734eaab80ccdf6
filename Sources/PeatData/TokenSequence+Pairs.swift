import PeatTensor
import PeatTokenizers

/// What a model with an encoder learns from: a source, which the encoder reads, and behind it what the decoder is to say.
///
///     source …, end, start, target …, end
///
/// Of these the target and its end are learned. `start` is the token that the decoder begins with.
extension TokenSequence {
  /// The pairs of a document: for each piece of it that is learned, what stands before it and the piece. Of a text that is learned throughout words are left out,
  /// which the decoder is to say.
  ///
  /// - Parameters:
  ///   - start: the token that a decoder begins with.
  ///   - corruption: how words are left out; `nil`: the tokenizer has no tokens for that.
  ///   - context: how many tokens a source and its target may have together.
  /// - Throws: `usage` where words would have to be left out and can't be, `badData` where a source is empty.
  public static func pairs(
    of document: Document, tokenizer: some TextTokenizer, start: Int32,
    corruption: SpanCorruption?, context: Int
  ) throws -> [TokenSequence] {
    func ended(_ text: String) throws -> [Int32] {
      let tokens = try tokenizer.encode(text, addSpecialTokens: true)
      guard let end = tokenizer.endToken, tokens.last != end else { return tokens }
      return tokens + [end]
    }
    guard document.hasGivenPart else {
      guard let corruption else {
        throw PeatError.usage(
          "A model with an encoder learns from pairs, and this text is none: '\(document.text.prefix(40))…'. Give records of {instruction, input, output}, {prompt, completion} or messages; or a tokenizer with tokens that stand for words left out (<extra_id_0>, …), with which it learns from plain text."
        )
      }
      return corruption.pairs(
        of: try tokenizer.encode(document.text, addSpecialTokens: false), start: start,
        end: tokenizer.endToken, context: context)
    }
    var before = ""
    var result: [TokenSequence] = []
    for segment in document.segments {
      if segment.isLearned, !segment.text.isEmpty {
        let source = try ended(before)
        guard !source.isEmpty else {
          throw PeatError.badData(
            "A model with an encoder needs something to read before it says '\(segment.text.prefix(40))…': what is given is empty."
          )
        }
        result.append(TokenSequence(source: source, start: start, target: try ended(segment.text)))
      }
      before += segment.text
    }
    return result
  }

  /// - Parameter target: what is learned.
  public init(source: [Int32], start: Int32, target: [Int32]) {
    self.init(
      tokens: source + [start] + target,
      isTarget: Array(repeating: false, count: source.count + 1)
        + Array(repeating: true, count: target.count))
  }
}
