import PeatTensor
import PeatTokenizers

/// The tokens of one document, and which of them are to be learned.
public struct TokenSequence: Sendable, Equatable {
  public let tokens: [Int32]
  /// For each token, whether its prediction counts in the loss: false for a prompt and for the begin token.
  public let isTarget: [Bool]
  /// The type of each token, such as 1 in the second text of a pair; empty where all are of type 0.
  public let types: [Int32]

  /// - Precondition: the arrays have the same length, types may be left out.
  public init(tokens: [Int32], isTarget: [Bool], types: [Int32] = []) {
    precondition(
      tokens.count == isTarget.count && (types.isEmpty || types.count == tokens.count),
      "TokenSequence: \(tokens.count) tokens, \(isTarget.count) marks, \(types.count) types")
    self.types = types
    self.tokens = tokens
    self.isTarget = isTarget
  }

  /// Some of the tokens.
  ///
  /// - Precondition: the range is within the sequence.
  func part(_ range: Range<Int>) -> TokenSequence {
    TokenSequence(
      tokens: Array(tokens[range]), isTarget: Array(isTarget[range]),
      types: types.isEmpty ? [] : Array(types[range]))
  }

  /// A sequence of which every token is learned.
  public init(_ tokens: [Int32]) {
    self.init(tokens: tokens, isTarget: Array(repeating: true, count: tokens.count))
  }

  /// The tokens of a document.
  ///
  /// The document is encoded in one piece. A border between what is given and what is learned lies behind the tokens that the whole
  /// shares with the encoding of what stands before the border; a token that reaches over it belongs to what follows. The begin
  /// token is not learned, the end token is. A text that carries its special tokens gets neither.
  ///
  /// - Throws: `PeatError.usage` where a begin or end token is asked for that the tokenizer does not have;
  ///   `badData` where it can't handle so long a document.
  public init(
    _ document: Document, tokenizer: some TextTokenizer, addBegin: Bool = false,
    addEnd: Bool = false
  ) throws {
    let body = try tokenizer.encode(document.text, addSpecialTokens: false)
    let learned = try Self.learned(body, of: document, tokenizer)
    var tokens: [Int32] = []
    var isTarget: [Bool] = []
    tokens.reserveCapacity(body.count + 2)
    isTarget.reserveCapacity(body.count + 2)
    if addBegin, !document.carriesSpecialTokens {
      guard let begin = tokenizer.beginToken else {
        throw PeatError.usage(
          "This tokenizer has no begin token (BOS). Leave it out with --no-bos.")
      }
      tokens.append(begin)
      isTarget.append(false)
    }
    tokens += body
    isTarget += learned
    if addEnd, !document.carriesSpecialTokens {
      guard let end = tokenizer.endToken else {
        throw PeatError.usage(
          "This tokenizer has no end token (EOS), so documents can't end with one.")
      }
      tokens.append(end)
      isTarget.append(true)
    }
    self.init(tokens: tokens, isTarget: isTarget)
  }

  /// Which of a document's tokens are learned.
  private static func learned(
    _ body: [Int32], of document: Document, _ tokenizer: some TextTokenizer
  ) throws -> [Bool] {
    var result: [Bool] = []
    var before = ""
    for (number, segment) in document.segments.enumerated() {
      before += segment.text
      var end = body.count
      if number < document.segments.count - 1 {
        let tokens = try tokenizer.encode(before, addSpecialTokens: false)
        end = zip(body, tokens).prefix { $0 == $1 }.count
      }
      result += Array(repeating: segment.isLearned, count: max(0, end - result.count))
    }
    return result
  }
}
