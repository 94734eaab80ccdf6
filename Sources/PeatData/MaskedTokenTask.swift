import PeatTensor
import PeatTokenizers

/// Saying what stands at the masked places of texts.
public struct MaskedTokenTask: Sendable {
  private let tokenizer: Tokenizer
  private let maskToken: Int32
  /// What the tokenizer puts around a text.
  private let before: [Int32]
  private let after: [Int32]

  /// - Parameter addsSpecialTokens: whether what the tokenizer puts around a text stands around each window.
  /// - Throws: `badData` where the tokenizer has no mask token.
  public init(_ tokenizer: Tokenizer, addsSpecialTokens: Bool = true) throws {
    guard let mask = try tokenizer.maskToken else {
      throw PeatError.badData(
        "The tokenizer has no mask token: neither tokenizer_config.json nor special_tokens_map.json names a 'mask_token', and tokenizer.json has none of [MASK] and <mask>."
      )
    }
    self.tokenizer = tokenizer
    maskToken = mask
    let sample =
      addsSpecialTokens
      ? try tokenizer.encodeBatch(
        ["a"], addSpecialTokens: true, truncation: nil, padding: nil
      ).first : nil
    let marks = Array(zip(sample?.numbers ?? [], sample?.specialTokensMask ?? []))
    before = marks.prefix { $0.1 == 1 }.map(\.0)
    after = marks.reversed().prefix { $0.1 == 1 }.reversed().map(\.0)
  }

  /// The masking of windows.
  ///
  /// - Parameters:
  ///   - vocabularySize: of the model.
  ///   - framesWindows: whether windows are cut out of a stream, so that what stands around a text has to be put around each.
  func masking(vocabularySize: Int, framesWindows: Bool, seed: UInt64) -> TokenMasking {
    TokenMasking(
      maskToken: maskToken, vocabularySize: vocabularySize, before: framesWindows ? before : [],
      after: framesWindows ? after : [], seed: seed)
  }

  /// Documents in windows, of which tokens are hidden as they are drawn.
  ///
  /// What the tokenizer puts around a text stands around each window of a stream, and around each document elsewhere; of documents in windows of their own only the
  /// beginning that fits is read, packed ones are cut into pieces.
  ///
  /// - Parameters:
  ///   - arrangement: a stream, packed or separate documents.
  ///   - seed: of the masks that an evaluation has.
  /// - Throws: `usage` where the context has no room for more than special tokens.
  public func dataset(
    _ documents: [Document], _ arrangement: TokenDataset.Arrangement, vocabularySize: Int,
    seed: UInt64
  ) throws -> TokenDataset {
    let room = try room(arrangement.context)
    var sequences: [TokenSequence] = []
    for document in documents {
      let body = try sequence(document)
      switch arrangement {
      case .packed:
        for start in stride(from: 0, to: body.tokens.count, by: room) {
          sequences.append(framed(body.part(start..<min(start + room, body.tokens.count))))
        }
      case .documents where !body.tokens.isEmpty:
        sequences.append(framed(body.part(0..<min(room, body.tokens.count))))
      default: sequences.append(body)
      }
    }
    return try TokenDataset(
      sequences, arrangement,
      masking: masking(
        vocabularySize: vocabularySize, framesWindows: !arrangement.isByDocument, seed: seed))
  }

  /// A stream of tokens that lie on disk.
  public func dataset(
    _ file: TokenFile, context: Int, vocabularySize: Int, seed: UInt64
  ) throws -> TokenDataset {
    _ = try room(context)
    return try TokenDataset(
      file, context: context,
      masking: masking(vocabularySize: vocabularySize, framesWindows: true, seed: seed))
  }

  /// Tokens of a text that fit into a window.
  private func room(_ context: Int) throws -> Int {
    let room = context - before.count - after.count
    guard room > 0 else {
      throw PeatError.usage(
        "A context of \(context) has no room beside the \(before.count + after.count) tokens that the tokenizer puts around a text."
      )
    }
    return room
  }

  /// A document's tokens; special ones that stand in the text are never hidden.
  private func sequence(_ document: Document) throws -> TokenSequence {
    let body = try TokenSequence(document, tokenizer: tokenizer)
    return TokenSequence(
      tokens: body.tokens,
      isTarget: zip(body.tokens, body.isTarget).map { $1 && !tokenizer.isSpecial($0) })
  }

  private func framed(_ body: TokenSequence) -> TokenSequence {
    func nothing(_ tokens: [Int32]) -> [Bool] { Array(repeating: false, count: tokens.count) }
    return TokenSequence(
      tokens: before + body.tokens + after,
      isTarget: nothing(before) + body.isTarget + nothing(after))
  }
}
