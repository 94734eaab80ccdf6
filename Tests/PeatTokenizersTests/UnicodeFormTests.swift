import Foundation
import PeatTokenizers
import Testing

@Suite("Unicode normalisation forms") struct UnicodeFormTests {
  private func normalized(_ form: String, _ text: String) throws -> [UInt8] {
    let tokenizer = try Tokenizer(
      json: Data(
        "{\"normalizer\": {\"type\": \"\(form)\"}, \"model\": {\"type\": \"BPE\", \"vocab\": {}, \"merges\": []}}"
          .utf8))
    return try tokenizer.pieces(of: text).flatMap(\.bytes)
  }

  @Test func `compose and decompose`() throws {
    #expect(try normalized("NFC", "e\u{301}\u{212B}ﬁ") == "é\u{C5}ﬁ".bytes)
    #expect(try normalized("NFD", "\u{E9}\u{212B}ﬁ") == "e\u{301}A\u{30A}ﬁ".bytes)
    #expect(try normalized("NFKC", "e\u{301}\u{212B}ﬁ") == "\u{E9}\u{C5}fi".bytes)
    #expect(try normalized("NFKD", "\u{E9}\u{212B}ﬁ") == "e\u{301}A\u{30A}fi".bytes)
  }

  @Test(arguments: ["NFC", "NFKC"]) func `do not compose a scalar above U+FFFF with an accent`(
    _ form: String
  ) throws {
    let text = "\u{100067}\u{301}"
    #expect(try normalized(form, text) == text.bytes)
    // Kaithi's letter and dot, both above U+FFFF, do compose.
    #expect(try normalized(form, "\u{11099}\u{110BA}") == "\u{1109A}".bytes)
  }
}
