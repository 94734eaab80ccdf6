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
      let numbers = tokenizer.encode(text, addSpecialTokens: false)
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
      let numbers = tokenizer.encode(text, addSpecialTokens: true)
      #expect(
        tokenizer.decode(numbers, skipSpecialTokens: true).bytes == text.bytes,
        "\(text.debugDescription)")
    }
  }

  @Test(arguments: Golden.names) func `leaves out numbers that no token has`(_ name: String) throws
  {
    let tokenizer = try Golden.tokenizer(name)
    let numbers = tokenizer.encode("Mara", addSpecialTokens: false)
    let size = Int32(tokenizer.vocabularySize)
    let others: [Int32] = [-1, .min, .max, size, size + 1]
    #expect(tokenizer.decode(others + numbers + others, skipSpecialTokens: false) == "Mara")
    #expect(tokenizer.decode(others, skipSpecialTokens: true) == "")
    #expect(tokenizer.decode([], skipSpecialTokens: true) == "")
    #expect(tokenizer.encode("", addSpecialTokens: false) == [])
  }

  @Test(arguments: Golden.names) func `takes very long lines`(_ name: String) throws {
    let tokenizer = try Golden.tokenizer(name)
    for text in [
      String(repeating: "a", count: 300_000), String(repeating: " ", count: 300_000),
      String(repeating: "\n", count: 300_000), String(repeating: "\u{301}", count: 100_000),
      String(repeating: "<", count: 100_000), String(repeating: "ab", count: 150_000),
    ] {
      #expect(!tokenizer.encode(text, addSpecialTokens: false).isEmpty)
    }
  }

  @Test(arguments: Golden.names) func `encodes a megabyte in a second or two`(_ name: String) throws
  {
    let tokenizer = try Golden.tokenizer(name)
    let corpus = String(decoding: try Golden.data("trainer-corpus.txt"), as: UTF8.self)
    let text = String(repeating: corpus, count: 1 + 1_000_000 / corpus.utf8.count)
    let start = ContinuousClock.now
    let numbers = tokenizer.encode(text, addSpecialTokens: false)
    let time = ContinuousClock.now - start
    print("\(name): \(text.utf8.count) bytes, \(numbers.count) tokens, encoded in \(time)")
    // Measured times are several times lower; a quadratic merge would take minutes.
    #expect(time < .seconds(6))
    let decodingStart = ContinuousClock.now
    let decoded = tokenizer.decode(numbers, skipSpecialTokens: false)
    print("\(name): decoded in \(ContinuousClock.now - decodingStart)")
    #expect(decoded.utf8.count > 900_000)
  }
}
