import Foundation
import PeatTokenizers
import Testing

@Suite("Tokenizer, beside Hugging Face's") struct TokenizerParityTests {
  @Test(arguments: Golden.names) func `encodes and decodes as tokenizers does`(_ name: String)
    throws
  {
    try compare(Golden.tokenizer(name), with: Golden.cases("\(name)/cases.json"))
  }

  @Test(
    .enabled(
      if: Golden.asset("models/stories260K") != nil,
      "the assets (../shared/assets or FEDPEAT_ASSETS) have no models/stories260K"))
  func `encodes and decodes as tokenizers does, with the tokenizer of stories260K`() throws {
    let folder = try #require(Golden.asset("models/stories260K"))
    let tokenizer = try Tokenizer(folder: folder)
    try compare(tokenizer, with: Golden.cases("stories260K.json"))
    #expect(tokenizer.beginToken == 1)
    #expect(tokenizer.endToken == 2)
    #expect(tokenizer.vocabularySize == 512)
    #expect(try tokenizer.encode("Once upon a time", addSpecialTokens: true).first == 1)
    #expect(
      try tokenizer.token(tokenizer.encode("Once", addSpecialTokens: false)[0])?.hasPrefix("▁")
        == true)
  }

  @Test(
    .enabled(
      if: Golden.asset("models/all-MiniLM-L6-v2") != nil,
      "the assets (../shared/assets or FEDPEAT_ASSETS) have no models/all-MiniLM-L6-v2"))
  func `encodes and decodes as tokenizers does, with the tokenizer of MiniLM`() throws {
    let folder = try #require(Golden.asset("models/all-MiniLM-L6-v2"))
    let tokenizer = try Tokenizer(folder: folder)
    try compare(tokenizer, with: Golden.cases("all-MiniLM-L6-v2.json"))
    #expect(tokenizer.truncation == Truncation(maximumLength: 128))
    #expect(tokenizer.padding == Padding(length: .fixed(128)))
    #expect(
      try tokenizer.encode("Hello, world", addSpecialTokens: true) == [
        101, 7592, 1010, 2088, 102,
      ])
  }

  private func compare(_ tokenizer: Tokenizer, with cases: Golden.Cases) throws {
    #expect(cases.encodings.count > 40)
    for item in cases.encodings {
      #expect(
        try tokenizer.encode(item.text, addSpecialTokens: false) == item.ids,
        "\(item.text.debugDescription)")
      #expect(try tokenizer.encode(item.text, addSpecialTokens: true) == item.idsWithSpecial)
      check(tokenizer, item.idsWithSpecial, skip: false, item.decoded)
      check(tokenizer, item.idsWithSpecial, skip: true, item.decodedSkipping)
    }
    for item in cases.decodings {
      check(tokenizer, item.ids, skip: false, item.decoded)
      check(tokenizer, item.ids, skip: true, item.decodedSkipping)
    }
  }

  /// Decoding at once and token by token.
  private func check(_ tokenizer: Tokenizer, _ ids: [Int32], skip: Bool, _ expected: String) {
    let text = tokenizer.decode(ids, skipSpecialTokens: skip)
    #expect(
      text.bytes == expected.bytes,
      "\(ids): \(text.debugDescription), expected \(expected.debugDescription)")
    var stream = StreamingDecoder(tokenizer, skipSpecialTokens: skip)
    var streamed = ids.map { stream.append($0) }
    streamed.append(stream.finish())
    #expect(streamed.flatMap(\.bytes) == expected.bytes, "\(ids), token by token")
  }
}
