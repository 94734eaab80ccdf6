import Foundation
import PeatTensor

/// sentencepiece's table of replacements ("precompiled_charsmap": nmt_nfkc and the like).
///
/// A grapheme cluster of fewer than six bytes is looked up as a whole, else scalar by scalar. What is found is the shortest entry
/// that the looked-up text begins with, and it stands for all of that text: the rule of tokenizers, not of sentencepiece.
///
/// Mirrors tokenizers 0.23 `normalizers/precompiled.rs` and the crate spm_precompiled 0.1.
struct PrecompiledNormalizer: Normalizer {
  private let map: CharacterMap

  init(_ part: TokenizerPart) throws {
    map = try CharacterMap(part.required("precompiled_charsmap"))
  }

  func normalized(_ text: [UInt8]) -> [UInt8] {
    var result: [UInt8] = []
    result.reserveCapacity(text.count)
    var index = 0
    while index < text.count {
      // Two ASCII characters are two clusters, but for a line break of two.
      let isPlain =
        text[index] < 0x80 && text[index] != 0x0D
        && (index + 1 == text.count || text[index + 1] < 0x80)
      if isPlain {
        append(text[index..<index + 1], to: &result)
        index += 1
        continue
      }
      // Up to where two ASCII characters follow each other again.
      var end = index + 1
      while end < text.count, text[end] >= 0x80 || text[end - 1] >= 0x80 || text[end - 1] == 0x0D {
        end += 1
      }
      appendClusters(text[index..<end], to: &result)
      index = end
    }
    return result
  }

  private func appendClusters(_ run: ArraySlice<UInt8>, to result: inout [UInt8]) {
    var start = run.startIndex
    for cluster in String(decoding: run, as: UTF8.self) {
      let length = cluster.utf8.count
      let bytes = run[start..<start + length]
      start += length
      if length < 6, let replacement = map.replacement(for: bytes) {
        result += replacement
      } else {
        for scalar in cluster.unicodeScalars { append(Array(scalar.utf8)[...], to: &result) }
      }
    }
  }

  private func append(_ scalar: ArraySlice<UInt8>, to result: inout [UInt8]) {
    result += map.replacement(for: scalar) ?? scalar
  }
}
