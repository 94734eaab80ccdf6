import Foundation
import PeatTensor
import PeatTokenizers
import Testing

@Suite("Added tokens, beside Hugging Face's") struct AddedTokenTests {
  /// Whole files, and for each text what tokenizers makes of it; nothing where it panics.
  private struct Golden: Decodable {
    struct Case: Decodable {
      let file: String
      let numbers: [[Int32]?]
      let decoded: [String?]
    }
    let texts: [String]
    let cases: [Case]
  }

  private func golden() throws -> Golden {
    try JSONDecoder().decode(Golden.self, from: PeatTokenizersTests.Golden.data("added.json"))
  }

  @Test func `what one takes along the next one does not have`() throws {
    let golden = try golden()
    #expect(golden.cases.count > 70)
    for item in golden.cases {
      let tokenizer = try Tokenizer(json: Data(item.file.utf8))
      for (text, numbers) in zip(golden.texts, item.numbers) {
        let found = try tokenizer.encode(text, addSpecialTokens: false)
        guard let numbers else { continue }
        #expect(found == numbers, "\(text.debugDescription) by \(item.file)")
      }
    }
  }

  @Test func `special ones that a normalizer changes are not left out of what is decoded`() throws {
    let golden = try golden()
    for item in golden.cases {
      let tokenizer = try Tokenizer(json: Data(item.file.utf8))
      for (numbers, text) in zip(item.numbers, item.decoded) {
        guard let numbers, let text else { continue }
        let found = tokenizer.decode(numbers, skipSpecialTokens: true)
        #expect(found.bytes == text.bytes, "\(numbers) by \(item.file)")
        var stream = StreamingDecoder(tokenizer, skipSpecialTokens: true)
        #expect((numbers.map { stream.append($0) }.joined() + stream.finish()).bytes == text.bytes)
      }
    }
  }
}
