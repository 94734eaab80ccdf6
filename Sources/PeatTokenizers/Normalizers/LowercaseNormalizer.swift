/// Writes every scalar in lower case, each on its own (no rule looks at its neighbours).
struct LowercaseNormalizer: Normalizer {
  func normalized(_ text: [UInt8]) -> [UInt8] {
    var result: [UInt8] = []
    result.reserveCapacity(text.count)
    for scalar in String(decoding: text, as: UTF8.self).unicodeScalars {
      result.append(contentsOf: scalar.properties.lowercaseMapping.utf8)
    }
    return result
  }
}
