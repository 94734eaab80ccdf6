import Foundation
import PeatTensor
import PeatTokenizers
import Testing

@Suite("Batches, pairs, truncation and padding") struct EncodingTests {
  private struct Cases: Decodable {
    struct Case: Decodable {
      let tokenizer: String
      let paired: Bool
      let special: Bool
      let truncation: String
      let padding: String
      /// The places of the texts that the original truncates as asked, and what it makes of these.
      let possible: [Int]
      let fingerprints: [String]
    }
    let texts: [String]
    let seconds: [String]
    let cases: [Case]
  }

  /// One of the small tokenizers with another "truncation" and "padding".
  private func tokenizer(_ name: String, _ truncation: String, _ padding: String) throws
    -> Tokenizer
  {
    let data = try Golden.data("\(name)/tokenizer.json")
    let text = String(decoding: data, as: UTF8.self)
    let start = try #require(text.range(of: #""truncation":null,"#))
    return try Tokenizer(
      json: Data(
        text.replacingCharacters(in: start, with: "\"truncation\": \(truncation),").replacing(
          "\"padding\":null,", with: "\"padding\": \(padding),", maxReplacements: 1
        ).utf8))
  }

  private func row(_ encoding: TokenEncoding) -> String {
    let lists = [
      encoding.numbers, encoding.typeNumbers, encoding.attentionMask, encoding.specialTokensMask,
    ].map { "[" + $0.map(String.init).joined(separator: ",") + "]" }
    return
      "[\((lists + ["[\(encoding.overflowing.map(row).joined(separator: ","))]"]).joined(separator: ","))]"
  }

  @Test func `give what tokenizers gives with the file's truncation and padding`() throws {
    let golden = try JSONDecoder().decode(Cases.self, from: Golden.data("encodings.json"))
    #expect(golden.cases.count > 300)
    for item in golden.cases {
      let tokenizer = try tokenizer(item.tokenizer, item.truncation, item.padding)
      func batch(_ chosen: some Collection<Int>) throws -> [TokenEncoding] {
        try tokenizer.encodeBatch(
          chosen.map { golden.texts[$0] },
          pairedWith: item.paired ? chosen.map { golden.seconds[$0] } : nil,
          addSpecialTokens: item.special)
      }
      let possible = golden.texts.indices.filter { (try? batch([$0])) != nil }
      let place =
        "\(item.tokenizer), paired \(item.paired), special \(item.special), \(item.truncation), \(item.padding)"
      #expect(possible == item.possible, "\(place)")
      let rows = try batch(possible).map(row)
      #expect(rows.map(Golden.fingerprint) == item.fingerprints, "\(place): \(rows)")
    }
  }

  @Test func `a pair carries the numbers of its texts`() throws {
    let tokenizer = try Golden.tokenizer("bert-uncased")
    let pair = try tokenizer.encodePair("a", "b", addSpecialTokens: true)
    let (a, b) = (try #require(tokenizer.number(of: "a")), try #require(tokenizer.number(of: "b")))
    #expect(pair.numbers == [2, a, 3, b, 3])
    #expect(pair.typeNumbers == [0, 0, 0, 1, 1])
    #expect(pair.attentionMask == [1, 1, 1, 1, 1])
    #expect(pair.specialTokensMask == [1, 0, 1, 0, 1])
    #expect(pair.overflowing.isEmpty)
  }

  @Test func `what can't be truncated as asked is an error that says why`() throws {
    let tokenizer = try Golden.tokenizer("bert-uncased")
    func message(_ truncation: Truncation, pair: Bool = false) -> String {
      let error = #expect(throws: PeatError.self) {
        try tokenizer.encodeBatch(
          ["Mara walked to the mill"], pairedWith: pair ? ["x"] : nil, addSpecialTokens: true,
          truncation: truncation, padding: nil)
      }
      #expect(error?.code == .badData)
      return error?.message ?? ""
    }
    #expect(message(Truncation(maximumLength: 1)).contains("no room for the 2"))
    #expect(message(Truncation(maximumLength: 4, stride: 2)).contains("a stride of 2 tokens"))
    #expect(
      message(Truncation(maximumLength: 4, strategy: .onlySecond)).contains("only the second"))
    #expect(
      message(Truncation(maximumLength: 5, strategy: .onlySecond), pair: true).contains(
        "of the second text, which has 1"))
  }

  @Test func `encode takes no notice of the file's truncation and padding`() throws {
    let plain = try Golden.tokenizer("bert-uncased")
    let cut = try tokenizer(
      "bert-uncased", #"{"max_length": 3, "strategy": "LongestFirst", "stride": 0}"#,
      #"{"strategy": {"Fixed": 9}, "direction": "Right", "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"}"#
    )
    #expect(cut.truncation == Truncation(maximumLength: 3))
    #expect(cut.padding == Padding(length: .fixed(9)))
    #expect(plain.truncation == nil && plain.padding == nil)
    let text = "Mara walked"
    #expect(
      try cut.encode(text, addSpecialTokens: true) == plain.encode(text, addSpecialTokens: true))
    let batch = try cut.encodeBatch([text], addSpecialTokens: true)
    #expect(batch[0].count == 9 && batch[0].attentionMask == [1, 1, 1, 0, 0, 0, 0, 0, 0])
  }
}
