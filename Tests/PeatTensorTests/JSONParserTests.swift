import Foundation
import PeatTensor
import Testing

@Suite("JSONParser") struct JSONParserTests {
  private func parse(_ text: String, _ leniency: JSONParser.Leniency = .asPython) throws -> String {
    let bytes = [UInt8](text.utf8)
    var parser = JSONParser(bytes[...], leniency: leniency)
    return show(try parser.parseWhole())
  }

  /// A value in one notation, to be compared.
  private func show(_ value: ByteJSON) -> String {
    switch value {
    case .null: "null"
    case .bool(let value): "\(value)"
    case .number(let text): "number \(text)"
    case .string(let text): "'\(text.text)'"
    case .array(let elements): "[\(elements.map(show).joined(separator: ", "))]"
    case .object(let members):
      "{\(members.map { "\($0.key.text): \(show($0.value))" }.joined(separator: ", "))}"
    }
  }

  private func fault(_ text: String, _ leniency: JSONParser.Leniency = .asPython) -> JSONFault? {
    do {
      _ = try parse(text, leniency)
      return nil
    } catch { return error as? JSONFault }
  }

  @Test func `reads every kind of value`() throws {
    let value = try parse(#" {"a": [1, -2.5e3, true, false, null], "b": {"c": "d"}} "#)
    #expect(value == "{a: [number 1, number -2.5e3, true, false, null], b: {c: 'd'}}")
  }

  @Test func `reads escapes and pairs of surrogates`() throws {
    #expect(
      try parse(#""\"\\\/\b\f\n\r\té😀é""#)
        == "'\"\\/\u{8}\u{C}\n\r\té😀é'")
    #expect(try parse(#""\ud83dx""#) == "'\u{FFFD}x'")
    #expect(try parse(#""\ud83dA""#) == "'\u{FFFD}A'")
    #expect(try parse(#""\ude00""#) == "'\u{FFFD}'")
  }

  @Test func `without leniency, half a pair and a key that stands twice are refused`() throws {
    #expect(fault(#""\ud83dx""#, .none)?.reason.contains("surrogate") == true)
    #expect(fault(#""\ude00""#, .none)?.reason.contains("surrogate") == true)
    #expect(fault(#"{"a": 1, "a": 2}"#, .none)?.reason.contains("twice") == true)
    #expect(try parse(#"{"a": 1, "a": 2}"#) == "{a: number 1, a: number 2}")
    // Canonically equivalent, and yet two keys.
    #expect(fault("{\"\u{E9}\": 1, \"e\u{301}\": 2}", .none) == nil)
  }

  @Test func `keeps numbers of any size as they are written`() throws {
    let digits = String(repeating: "9", count: 5000)
    #expect(try parse(digits) == "number \(digits)")
    #expect(try parse("1e999999999999") == "number 1e999999999999")
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
    #expect(elements.map { show($0.value) } == ["number 1", "number 2", "'x'"])
  }
}

@Suite("JSONValue") struct JSONValueTests {
  @Test func `numbers stay as they are written, whole or not`() throws {
    let text = """
      {
        "a" : 3.0,
        "b" : 3,
        "c" : 1e-05,
        "d" : [
          "x/é\\n",
          null,
          -0.5,
          [],
          {}
        ],
        "e" : true
      }

      """
    let value = try JSONFile.decode(JSONValue.self, from: Data(text.utf8), name: "test")
    #expect(value["a"] == .number(3) && value["b"] == .integer(3))
    #expect(value["a"]?.integer == 3 && value["b"]?.number == 3)
    #expect(String(decoding: try JSONFile.encode(value), as: UTF8.self) == text)
  }

  @Test func `what is no JSON is refused with its line`() {
    let error = #expect(throws: PeatError.self) {
      try JSONFile.decode(JSONValue.self, from: Data("{\n\"a\": tru}".utf8), name: "some.json")
    }
    #expect(error?.message.contains("some.json") == true)
    #expect(error?.message.contains("line 2") == true)
  }
}
