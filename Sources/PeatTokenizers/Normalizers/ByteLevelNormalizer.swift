/// Writes a text's bytes in GPT-2's alphabet.
struct ByteLevelNormalizer: Normalizer {
  func normalized(_ text: [UInt8]) -> [UInt8] { ByteLevelAlphabet.written(text[...]) }
}
