import PeatTensor
import PeatTokenizers
import Testing

@Suite("StreamingDecoder") struct StreamingDecoderTests {
  @Test func `waits until a character is complete`() throws {
    let tokenizer = try Golden.tokenizer("gpt2-style")
    let numbers = try tokenizer.encode("x𝔘y", addSpecialTokens: false)
    var stream = StreamingDecoder(tokenizer)
    #expect(numbers.map { stream.append($0) } == ["x", "", "", "", "𝔘", "y"])
    #expect(stream.finish() == "")
  }

  @Test func `gives what is left as replacement characters`() throws {
    let tokenizer = try Golden.tokenizer("gpt2-style")
    var stream = StreamingDecoder(tokenizer)
    for number in try tokenizer.encode("𝔘", addSpecialTokens: false).dropLast() {
      #expect(stream.append(number) == "")
    }
    #expect(stream.finish() == "\u{FFFD}")
  }

  @Test(arguments: Golden.names) func `gives together what decode gives`(_ name: String) throws {
    let tokenizer = try Golden.tokenizer(name)
    var random = SeededRandom(seed: 5, name)
    for _ in 0..<1_000 {
      let skip = random.integer(below: 2) == 0
      // Some numbers lie outside the vocabulary.
      let bound = random.integer(below: 2) == 0 ? 262 : tokenizer.vocabularySize + 5
      let numbers = (0..<random.integer(below: 30)).map { _ in Int32(random.integer(below: bound)) }
      var stream = StreamingDecoder(tokenizer, skipSpecialTokens: skip)
      var text: [UInt8] = []
      for number in numbers { text += stream.append(number).bytes }
      text += stream.finish().bytes
      #expect(text == tokenizer.decode(numbers, skipSpecialTokens: skip).bytes, "\(numbers)")
    }
  }
}
