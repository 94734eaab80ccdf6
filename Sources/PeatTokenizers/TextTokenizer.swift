/// Turns text into token numbers and back.
public protocol TextTokenizer: Sendable {
  /// How many token numbers there are: the embedding table has at least as many rows.
  var vocabularySize: Int { get }

  /// The token that begins a text, and the one that ends it, where the tokenizer has one.
  var beginToken: Int32? { get }
  var endToken: Int32? { get }

  /// The token numbers of a text. With `addSpecialTokens`, also what the tokenizer's post-processor adds (BOS, EOS).
  ///
  /// - Throws: `badData` where the tokenizer can't handle so long a text.
  func encode(_ text: String, addSpecialTokens: Bool) throws -> [Int32]

  /// The text of token numbers; special tokens are left out if asked.
  func decode(_ tokens: [Int32], skipSpecialTokens: Bool) -> String
}
