import PeatData
import PeatTensor
import Testing

@Suite("JSONParser") struct JSONParserTests {
  private func parse(_ text: String) throws -> ParsedJSON {
    let bytes = [UInt8](text.utf8)
    var parser = JSONParser(bytes[...])
    return try parser.parseWhole()
  }

  private func fault(_ text: String) -> JSONFault? {
    do {
      _ = try parse(text)
      return nil
    } catch { return error as? JSONFault }
  }

  @Test func `reads every kind of value`() throws {
    let value = try parse(#" {"a": [1, -2.5e3, true, false, null], "b": {"c": "d"}} "#)
    #expect(
      value
        == .object([
          "a": .array([.number("1"), .number("-2.5e3"), .bool(true), .bool(false), .null]),
          "b": .object(["c": .string("d")]),
        ]))
  }

  @Test func `reads escapes and pairs of surrogates`() throws {
    #expect(
      try parse(#""\"\\\/\b\f\n\r\té😀é""#)
        == .string("\"\\/\u{8}\u{C}\n\r\té😀é"))
    #expect(try parse(#""\ud83dx""#) == .string("\u{FFFD}x"))
    #expect(try parse(#""\ud83dA""#) == .string("\u{FFFD}A"))
    #expect(try parse(#""\ude00""#) == .string("\u{FFFD}"))
  }

  @Test func `keeps numbers of any size as they are written`() throws {
    let digits = String(repeating: "9", count: 5000)
    #expect(try parse(digits) == .number(digits))
    #expect(try parse("1e999999999999") == .number("1e999999999999"))
  }

  @Test(arguments: [
    "", "{", "[", "[1", "[1,", "[1,]", "{\"a\"", "{\"a\":", "{\"a\":1", "{\"a\":1,}", "{a:1}", "\"",
    "\"\\", "\"\\u12", "\"\\u12g4\"", "\"\\x\"", "tru", "nul", "01", "-", "1.", "1e", "+1", ".5",
    "NaN",
    "[1] 2", "\"a\nb\"", "\"\u{1}\"", "'a'", "é", "\"\\u００００\"",
  ])
  func `refuses what is not JSON`(text: String) {
    #expect(fault(text) != nil)
  }

  @Test func `names the line of a fault`() {
    #expect(fault("[1,\n2,\n x]")?.line == 3)
    let missing = fault("{\n\"a\" 1}")
    #expect(missing?.line == 2)
    #expect(missing?.reason == "expected ':' after the key \"a\", found '1'")
  }

  @Test func `refuses nesting beyond its limit and survives a million brackets`() throws {
    let limit = JSONParser.depthLimit
    func nested(_ depth: Int) -> String {
      String(repeating: "[", count: depth) + String(repeating: "]", count: depth)
    }
    #expect(fault(nested(limit)) == nil)
    #expect(fault(nested(limit + 2))?.reason.contains("nested") == true)
    #expect(fault(String(repeating: "[", count: 1_000_000))?.reason.contains("nested") == true)
    #expect(
      fault(String(repeating: "{\"a\":", count: 1_000_000))?.reason.contains("nested") == true)
  }

  @Test func `tells the line each element of an array starts on`() throws {
    let bytes = [UInt8]("[\n1, 2,\n\n\"x\"\n]\n".utf8)
    var parser = JSONParser(bytes[...])
    let elements = try parser.parseElements()
    #expect(elements.map(\.line) == [2, 2, 4])
    #expect(elements.map(\.value) == [.number("1"), .number("2"), .string("x")])
  }
}
