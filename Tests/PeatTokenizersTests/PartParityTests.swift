import Foundation
import PeatTensor
import PeatTokenizers
import Testing

@Suite("Normalizers, pre-tokenizers and decoders, beside Hugging Face's") struct PartParityTests {
  /// Each part as JSON text under the key that holds it in tokenizer.json, and the pieces that it gives for each text.
  private struct Pieces: Decodable {
    struct Case: Decodable {
      let key: String
      let part: String
      let pieces: [[String]]
    }
    let texts: [String]
    let cases: [Case]
  }

  private struct Decoded: Decodable {
    let part: String
    let tokens: [String]
    let text: String
  }

  /// A tokenizer of one part, with these tokens numbered from 0.
  private func tokenizer(_ key: String, _ part: String, tokens: [String] = []) throws -> Tokenizer {
    let entries = try tokens.enumerated().map { number, token in
      "\(String(decoding: try JSONEncoder().encode(token), as: UTF8.self)): \(number)"
    }
    return try Tokenizer(
      json: Data(
        """
        {"\(key)": \(part), "model": {"type": "BPE", "vocab": {\(entries.joined(separator: ","))}, "merges": []}}
        """.utf8))
  }

  @Test(arguments: [("parts.json", 50), ("classes.json", 28), ("expressions.json", 180)])
  func `give the pieces that tokenizers gives`(file: String, count: Int) throws {
    let golden = try JSONDecoder().decode(Pieces.self, from: Golden.data(file))
    #expect(golden.cases.count > count)
    for item in golden.cases {
      let tokenizer = try tokenizer(item.key, item.part)
      for (text, pieces) in zip(golden.texts, item.pieces) {
        let found = try tokenizer.pieces(of: text)
        #expect(
          found.map(\.bytes) == pieces.map(\.bytes),
          "\(item.part) on \(text.debugDescription): \(found.map(\.text.debugDescription)), expected \(pieces)"
        )
      }
    }
  }

  @Test func `decode as tokenizers does`() throws {
    let golden = try JSONDecoder().decode([Decoded].self, from: Golden.data("decoders.json"))
    #expect(golden.count > 50)
    for item in golden {
      let tokens = Array(Set(item.tokens.map { ByteString($0) })).map(\.text)
      let tokenizer = try tokenizer("decoder", item.part, tokens: tokens)
      let found = tokenizer.decode(
        item.tokens.compactMap(tokenizer.number), skipSpecialTokens: false)
      #expect(
        found.bytes == item.text.bytes,
        "\(item.part) on \(item.tokens): \(found.debugDescription), expected \(item.text.debugDescription)"
      )
    }
  }
}
