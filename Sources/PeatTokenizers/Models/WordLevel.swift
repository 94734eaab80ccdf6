import PeatTensor

/// A token for each whole word. Mirrors tokenizers 0.23 `models/wordlevel/mod.rs`.
struct WordLevel: TokenModel {
  let vocabulary: Vocabulary
  private let unknown: Int32

  init(_ part: TokenizerPart) throws {
    vocabulary = try Vocabulary(part.required("vocab"))
    unknown = try vocabulary.unknown(part, default: "<unk>")
  }

  func encode(_ word: [UInt8], into numbers: inout [Int32]) {
    numbers.append(vocabulary.numbers[ByteString(word)] ?? unknown)
  }
}
