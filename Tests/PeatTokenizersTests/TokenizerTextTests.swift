import Foundation
import PeatTensor
import PeatTokenizers
import Testing

@Suite("Tokenizer, any text") struct TokenizerTextTests {
  @Test(arguments: ["gpt2-style", "llama3-style"])
  func `byte-level round trips give the text back`(_ name: String) throws {
    // The tokens that swallow white space around them, or stand for other text, do not come in random text.
    let tokenizer = try Golden.tokenizer(name)
    var random = SeededRandom(seed: 3, name)
    for _ in 0..<2_000 {
      let text = String.random(length: random.integer(below: 60), using: &random)
      let numbers = try tokenizer.encode(text, addSpecialTokens: false)
      #expect(
        tokenizer.decode(numbers, skipSpecialTokens: false).bytes == text.bytes,
        "\(text.debugDescription)")
    }
  }

  @Test func `sentencepiece round trips give the text back`() throws {
    let tokenizer = try Golden.tokenizer("sentencepiece-style")
    var random = SeededRandom(seed: 4)
    for _ in 0..<1_000 {
      // "▁" itself comes back as a space.
      var text = String.random(length: random.integer(below: 60), using: &random)
      text.unicodeScalars.removeAll { $0 == "\u{2581}" }
      let numbers = try tokenizer.encode(text, addSpecialTokens: true)
      #expect(
        tokenizer.decode(numbers, skipSpecialTokens: true).bytes == text.bytes,
        "\(text.debugDescription)")
    }
  }

  @Test(arguments: Golden.names) func `leaves out numbers that no token has`(_ name: String) throws
  {
    let tokenizer = try Golden.tokenizer(name)
    let numbers = try tokenizer.encode("Mara", addSpecialTokens: false)
    let size = Int32(tokenizer.vocabularySize)
    let others: [Int32] = [-1, .min, .max, size, size + 1]
    #expect(
      tokenizer.decode(others + numbers + others, skipSpecialTokens: false)
        == tokenizer.decode(numbers, skipSpecialTokens: false))
    #expect(tokenizer.decode(numbers, skipSpecialTokens: false).lowercased().contains("mara"))
    #expect(tokenizer.decode(others, skipSpecialTokens: true) == "")
    #expect(tokenizer.decode([], skipSpecialTokens: true) == "")
    #expect(try tokenizer.encode("", addSpecialTokens: false) == [])
  }

  @Test(arguments: Golden.names) func `takes very long lines`(_ name: String) throws {
    let tokenizer = try Golden.tokenizer(name)
    for text in [
      String(repeating: "a", count: 300_000), String(repeating: " ", count: 300_000),
      String(repeating: "\n", count: 300_000), String(repeating: "\u{301}", count: 100_000),
      String(repeating: "<", count: 100_000), String(repeating: "ab", count: 150_000),
    ] {
      let numbers = try tokenizer.encode(text, addSpecialTokens: false)
      // Some leave white space out, or lone accents.
      #expect(
        !numbers.isEmpty || text.first == " " || text.first == "\n" || text.utf8.first == 0xCC)
    }
  }

  @Test(arguments: Golden.names) func `encodes a megabyte in a second or two`(_ name: String) throws
  {
    let tokenizer = try Golden.tokenizer(name)
    let corpus = String(decoding: try Golden.data("trainer-corpus.txt"), as: UTF8.self)
    let text = String(repeating: corpus, count: 1 + 1_000_000 / corpus.utf8.count)
    let start = ContinuousClock.now
    let numbers = try tokenizer.encode(text, addSpecialTokens: false)
    let time = ContinuousClock.now - start
    print("\(name): \(text.utf8.count) bytes, \(numbers.count) tokens, encoded in \(time)")
    // Measured times are several times lower; a quadratic merge would take minutes.
    #expect(time < .seconds(6))
    let decodingStart = ContinuousClock.now
    let decoded = tokenizer.decode(numbers, skipSpecialTokens: false)
    print("\(name): decoded in \(ContinuousClock.now - decodingStart)")
    #expect(decoded.utf8.count > 900_000)
  }

  /// A tokenizer of two tokens, with a normalizer or pre-tokenizer.
  private func tokenizer(_ key: String, _ part: String) throws -> Tokenizer {
    let model = #"{"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": []}"#
    return try Tokenizer(json: Data(#"{"\#(key)": \#(part), "model": \#(model)}"#.utf8))
  }

  @Test(arguments: [
    (
      "pre_tokenizer",
      #"{"type": "Split", "pattern": {"Regex": "(?:\\p{L}|\\s)+"}, "behavior": "Isolated"}"#
    ),
    (
      "normalizer", #"{"type": "Replace", "pattern": {"Regex": "(?:\\p{L}|\\s)+"}, "content": "a"}"#
    ),
  ])
  func `a text on which a regular expression runs out of memory is an error, not another text`(
    _ key: String, _ part: String
  ) throws {
    let tokenizer = try tokenizer(key, part)
    #expect(try tokenizer.pieces(of: "ab ba").isEmpty == false)
    let error = #expect(throws: PeatError.self) {
      try tokenizer.encode(String(repeating: "ab", count: 300_000), addSpecialTokens: false)
    }
    #expect(error?.code == .badData)
    for words in ["'\(key).pattern'", #"(?:\p{L}|\s)+"#, "600000 characters", "shorter documents"] {
      #expect(error?.message.contains(words) == true, "\(error?.message ?? "no error")")
    }
  }

  @Test func `a text that a replacement makes absurdly long is an error`() throws {
    let content = String(repeating: "b", count: 4096)
    let tokenizer = try tokenizer(
      "normalizer", #"{"type": "Replace", "pattern": {"String": "a"}, "content": "\#(content)"}"#)
    #expect(try tokenizer.encode("aba", addSpecialTokens: false).count == 8193)
    let error = #expect(throws: PeatError.self) {
      try tokenizer.encode(String(repeating: "a", count: 300_000), addSpecialTokens: false)
    }
    #expect(error?.code == .badData)
    #expect(error?.message.contains("1228800000 bytes of a text of 300000") == true)
  }
}
