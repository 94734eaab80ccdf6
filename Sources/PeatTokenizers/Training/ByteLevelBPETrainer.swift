import Foundation
import PeatTensor

/// Learns a byte-level vocabulary from text.
///
///     let tokenizer = try ByteLevelBPETrainer(vocabularySize: 1024).train(on: [text])
///
/// The result is a `Tokenizer` whose `sourceFiles` hold `tokenizer.json` and `tokenizer_config.json` as Hugging Face lays
/// them out. Numbers go first to the special tokens, then to the 256 bytes, then to the merges in the order in which
/// they are learnt. Same text, same vocabulary.
///
/// Mirrors tokenizers 0.23 `models/bpe/trainer.rs`: of pairs equally frequent the one with the smaller numbers goes first.
public struct ByteLevelBPETrainer: Sendable {
  /// How many tokens there shall be, special tokens and bytes included. Short text may give fewer.
  public var vocabularySize: Int
  /// A pair less frequent than this is not merged.
  public var minimumFrequency: Int
  /// Tokens with a meaning of their own, in the order of their numbers.
  public var specialTokens: [String]
  /// The tokens that begin and end a text; each one of `specialTokens`.
  public var beginToken: String?
  public var endToken: String?
  /// Whether `encode` with special tokens puts the begin token before a text.
  public var addsBeginToken: Bool

  public init(
    vocabularySize: Int, minimumFrequency: Int = 2, specialTokens: [String] = ["<|endoftext|>"],
    beginToken: String? = "<|endoftext|>", endToken: String? = "<|endoftext|>",
    addsBeginToken: Bool = true
  ) {
    self.vocabularySize = vocabularySize
    self.minimumFrequency = minimumFrequency
    self.specialTokens = specialTokens
    self.beginToken = beginToken
    self.endToken = endToken
    self.addsBeginToken = addsBeginToken
  }

  /// Learns from texts; no token crosses from one into the next.
  ///
  /// - Throws: `PeatError.usage` for a vocabulary too small for the special tokens and the 256 bytes, for special tokens that
  ///   are empty, repeated or a sign of the alphabet, and for a begin or end token that is not among them.
  public func train(on texts: some Sequence<String>) throws -> Tokenizer {
    try check()
    var learner = MergeLearner(alphabet: alphabet(), reserved: specialTokens.map { ByteString($0) })
    var counts: [ByteString: Int] = [:]
    for text in texts {
      let bytes = Array(text.utf8)
      GPT2Words.forEach(in: bytes) { counts[ByteString(bytes[$0]), default: 0] += 1 }
    }
    learner.add(words: counts)
    counts = [:]
    learner.learn(until: vocabularySize, minimumFrequency: minimumFrequency)
    return try Tokenizer(
      json: Data(tokenizerJSON(learner).utf8), configuration: Data(configurationJSON().utf8))
  }

  private func check() throws {
    let least = specialTokens.count + 256
    guard (least...Vocabulary.numberLimit).contains(vocabularySize) else {
      throw PeatError.usage(
        "A byte-level vocabulary of \(vocabularySize) tokens can't be made: it needs \(least) at least "
          + "(\(specialTokens.count) special, 256 bytes) and \(Vocabulary.numberLimit) at most.")
    }
    let distinct = Set(specialTokens.map { ByteString($0) })
    let alphabet = Set(alphabet())
    guard distinct.count == specialTokens.count, !distinct.contains(""),
      distinct.isDisjoint(with: alphabet)
    else {
      throw PeatError.usage(
        "The special tokens \(specialTokens) can't be used: each has to be there once and be longer than one sign."
      )
    }
    for token in [beginToken, endToken].compactMap(\.self)
    where !distinct.contains(ByteString(token)) {
      throw PeatError.usage(
        "The token '\(token)' begins or ends a text, but is not among the special tokens \(specialTokens)."
      )
    }
  }

  /// The 256 signs in the order of their scalars.
  private func alphabet() -> [ByteString] {
    ByteLevelAlphabet.scalars.sorted().map { scalar in
      var bytes: [UInt8] = []
      UTF8Text.append(scalar, to: &bytes)
      return ByteString(bytes)
    }
  }

  private func tokenizerJSON(_ learner: MergeLearner) -> String {
    let added = specialTokens.enumerated().map { number, token in
      """
          {"id": \(number), "content": \(ByteJSON.quoted(token)), "single_word": false, "lstrip": false, \
      "rstrip": false, "normalized": false, "special": true}
      """
    }
    let vocabulary = learner.tokens.enumerated().map { "      \(ByteJSON.quoted($1)): \($0)" }
    let merges = learner.merges.map { merge in
      "      [\(ByteJSON.quoted(learner.tokens[merge.left])), \(ByteJSON.quoted(learner.tokens[merge.right]))]"
    }
    let byteLevel =
      #"{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true}"#
    return """
      {
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": [
      \(added.joined(separator: ",\n"))
        ],
        "normalizer": null,
        "pre_tokenizer": \(byteLevel),
        "post_processor": \(postProcessorJSON(byteLevel)),
        "decoder": \(byteLevel),
        "model": {
          "type": "BPE",
          "dropout": null,
          "unk_token": null,
          "continuing_subword_prefix": null,
          "end_of_word_suffix": null,
          "fuse_unk": false,
          "byte_fallback": false,
          "ignore_merges": false,
          "vocab": {
      \(vocabulary.joined(separator: ",\n"))
          },
          "merges": [
      \(merges.joined(separator: ",\n"))
          ]
        }
      }

      """
  }

  private func postProcessorJSON(_ byteLevel: String) -> String {
    guard addsBeginToken, let beginToken, let number = specialTokens.firstIndex(of: beginToken)
    else {
      return byteLevel
    }
    let token = ByteJSON.quoted(beginToken)
    func special(_ type: Int) -> String {
      #"{"SpecialToken": {"id": \#(token), "type_id": \#(type)}}"#
    }
    func sequence(_ name: String, _ type: Int) -> String {
      #"{"Sequence": {"id": "\#(name)", "type_id": \#(type)}}"#
    }
    return """
      {
          "type": "TemplateProcessing",
          "single": [\(special(0)), \(sequence("A", 0))],
          "pair": [\(special(0)), \(sequence("A", 0)), \(special(1)), \(sequence("B", 1))],
          "special_tokens": {\(token): {"id": \(token), "ids": [\(number)], "tokens": [\(token)]}}
        }
      """
  }

  private func configurationJSON() -> String {
    var lines = [#"  "tokenizer_class": "PreTrainedTokenizerFast""#]
    if let beginToken { lines.append("  \"bos_token\": \(ByteJSON.quoted(beginToken))") }
    if let endToken { lines.append("  \"eos_token\": \(ByteJSON.quoted(endToken))") }
    lines.append(#"  "clean_up_tokenization_spaces": false"#)
    return "{\n\(lines.joined(separator: ",\n"))\n}\n"
  }
}
