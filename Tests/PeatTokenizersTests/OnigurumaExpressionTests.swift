import Foundation
import PeatTensor
import PeatTokenizers
import Testing

/// What is computed is compared in `expressions.json`, beside all other parts.
@Suite("Oniguruma's expressions") struct OnigurumaExpressionTests {
  private func tokenizer(split pattern: String) throws -> Tokenizer {
    let source = try String(decoding: JSONEncoder().encode(pattern), as: UTF8.self)
    return try Tokenizer(
      json: Data(
        """
        {"pre_tokenizer": {"type": "Split", "pattern": {"Regex": \(source)}, "behavior": "Isolated", "invert": false},
         "model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}}
        """.utf8))
  }

  private func message(_ pattern: String) -> String {
    do {
      _ = try tokenizer(split: pattern)
      return "no error"
    } catch let error as PeatError {
      return error.code == .badData ? error.message : "another code: \(error)"
    } catch { return "another error: \(error)" }
  }

  /// What tokenizers reads and this program does not.
  @Test(arguments: [
    (#"a\Kb"#, #"uses '\K' at character 2"#), (#"\G."#, #"'\G' at character 1"#),
    (#"\X"#, #"'\X'"#),
    (#"\y"#, #"'\y'"#), (#"\Y"#, #"'\Y'"#), (#"(a)\g<1>"#, #"'\g' at character 4"#),
    ("(?~ab)", "'(?~' at character 1"), ("(a)?(?(1)b|c)", "'(?('"), ("(?{x})", "'(?{'"),
    ("a(*FAIL)", "'(*', a callout, at character 2"), ("(?W:a)", "'(?W'"), ("(?i-D)a", "'(?i-D'"),
    (#"\xe9"#, #"a byte above 127 at character 1"#), (#"\xC3\xA9"#, #"number as \x{…}"#),
    (#"[\377]"#, "a byte above 127 at character 2"), (#"\M-a"#, #"'\M'"#), (#"\c["#, #"'\c'"#),
    (#"\x{61 62}"#, #"no character's number behind '\x'"#), ("[a&&]", "'&&' beside nothing"),
    (#"\k<n>(?<n>a)"#, #"'\k<n>'"#), (#"\p{Age=6.0}"#, #"'\p{Age=6.0}'"#),
    (#"(a|b\1)+"#, "the group in which it stands"), ("(?<n>a)(?<n>b)", "names two groups 'n'"),
  ])
  func `what is not supported is named, with its place`(pattern: String, expected: String) {
    let message = message(pattern)
    #expect(
      message.contains(expected) && message.contains("'pre_tokenizer.pattern.Regex'"), "\(message)")
  }

  /// What tokenizers refuses, too.
  @Test(arguments: [
    ("a)", "')' without '(' at character 2"), ("(a", "'(' without ')'"), ("*", "repeats nothing"),
    ("a|+", "repeats nothing at character 3"), ("a(?i)*", "repeats nothing"),
    ("(?=a)*", "a place"), ("^+", "a place"), (#"\b{2}"#, "a place"), ("[a", "'[' without ']'"),
    ("[]", "'[' without ']'"), ("[z-a]", "no range at character 2"), (#"[a-\d]"#, "no range"),
    (#"[\d-a]"#, "'-' that is of no range"), ("[[:foo:]]", "a class 'foo'"),
    (#"(?<n>a)\1"#, "by its number"), (#"\2(a)"#, "refers to group 2 and has 1"),
    (#"\u61"#, #"behind '\u'"#), (#"\p{L"#, "without '}'"), ("(?<1>a)", "name is not"),
    ("a\\", "ends with a backslash"), ("(?#a", "a comment"), (#"\p{Nothing}"#, "can be read here"),
    ("(?s:.)", "'(?s'"), ("(?P<n>a)", "'(?P'"), (#"\8"#, "refers to group 8"),
  ])
  func `what is no expression is told with the reason`(pattern: String, expected: String) {
    let message = message(pattern)
    #expect(
      message.contains(expected) && message.contains("'pre_tokenizer.pattern.Regex'"), "\(message)")
  }

  /// Each is gone through once, and none goes deep: 100,000 signs are refused at once, and the most that are read take little.
  @Test(arguments: [
    "(", "(?:", "[", "[^", "{", "{1", "[:", "[[:a", "(?i)", "\\p{", "(?#", "(?<a", "\\k<", "a|",
    "a{1}", "(a)",
    "[a]", "()*", "[a&&b]", "\\b", "\\w", "a?", "(a|b)*", "[[a]", "(?=a)", "\\x{", "(?x)#", "(?'",
  ])
  func `hostile ones are refused at once, or read in time`(unit: String) {
    for count in [100_000, 16_384 / unit.unicodeScalars.count, 1500] {
      let start = ContinuousClock.now
      let message = message(String(repeating: unit, count: count))
      let time = ContinuousClock.now - start
      #expect(time < .seconds(20), "\(unit) \(count) times took \(time)")
      if count == 100_000 {
        #expect(message.contains("characters, at most 16384 can be read"), "\(message.prefix(300))")
      }
      #expect(message.count < 1000)
    }
  }
}
