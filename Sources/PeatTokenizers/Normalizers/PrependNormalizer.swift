/// Puts a prefix before a text that is not empty (sentencepiece's dummy prefix "▁").
struct PrependNormalizer: Normalizer {
  let prefix: [UInt8]

  func normalized(_ text: [UInt8]) -> [UInt8] { text.isEmpty ? text : prefix + text }
}
