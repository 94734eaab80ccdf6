import Foundation
import PeatTokenizers
import Testing

@Suite("Tokenizer, on 2,400 strings beside Hugging Face's") struct FingerprintTests {
  private static let strings = Result {
    try JSONDecoder().decode([String].self, from: Golden.data("strings.json"))
  }
  private static let fingerprints = Result {
    try JSONDecoder().decode([String: String].self, from: Golden.data("fingerprints.json"))
  }

  @Test(arguments: Golden.names) func `encodes and decodes as tokenizers does`(_ name: String)
    throws
  {
    try compare(Golden.tokenizer(name), name)
  }

  @Test(
    .enabled(
      if: Golden.hasModels,
      "the assets (../shared/assets or FEDPEAT_ASSETS) have not all of: \(Golden.modelNames)"),
    arguments: Golden.modelNames)
  func `encodes and decodes as tokenizers does, with a real tokenizer`(_ name: String) throws {
    let folder = try #require(Golden.asset("models/\(name)"))
    try compare(Tokenizer(folder: folder), name)
  }

  /// Each text has eight digits: the fingerprint of its numbers without and with special tokens, and that of its decodings.
  private func compare(_ tokenizer: Tokenizer, _ name: String) throws {
    let strings = try Self.strings.get()
    let digits = Array(try #require(Self.fingerprints.get()[name]).utf8)
    #expect(strings.count >= 2_000)
    try #require(digits.count == 8 * strings.count)
    var differences: [String] = []
    for (index, text) in strings.enumerated() {
      let expected = String(decoding: digits[8 * index..<8 * index + 8], as: UTF8.self)
      let plain = try tokenizer.encode(text, addSpecialTokens: false)
      let full = try tokenizer.encode(text, addSpecialTokens: true)
      let decoded = [false, true].map { tokenizer.decode(full, skipSpecialTokens: $0) }
      let numbers = [plain, full].map { $0.map(String.init).joined(separator: ",") }
      let found =
        Golden.fingerprint(numbers.joined(separator: "|"))
        + Golden.fingerprint(decoded.joined(separator: "\0"))
      if found != expected {
        let escaped = text.unicodeScalars.map { $0.escaped(asASCII: true) }.joined()
        differences.append(
          "\(index) \(found.prefix(4) == expected.prefix(4) ? "decoded" : "numbers"): \"\(escaped)\" \(plain)"
        )
      }
    }
    #expect(
      differences.isEmpty,
      "\(name): \(differences.count) of \(strings.count):\n\(differences.prefix(5).joined(separator: "\n"))"
    )
  }
}
