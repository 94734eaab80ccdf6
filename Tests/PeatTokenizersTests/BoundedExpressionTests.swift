import Foundation
import PeatTensor
import PeatTokenizers
import Testing

@Suite("Regular expressions end") struct BoundedExpressionTests {
  /// Each with a text that it goes over for ever: by what is repeated inside of what is repeated.
  static let hostile = [
    ("(a+)+$", 100), ("(a+)+$", 29_000), ("(?:a?){300}a{300}", 300), ("(a|aa)+$", 100),
    ("(.*a){20}c", 300), ("(?:(?:){100000}){100000}", 3), (".*.*=", 29_000), ("[ab]*c", 300_000),
  ]

  @Test(arguments: hostile)
  func `one that would take for ever is stopped, after so many steps`(pattern: String, count: Int)
    throws
  {
    let text = String(repeating: "a", count: count) + "b"
    let expression = try #require(BoundedExpression(pattern, as: pattern))
    let outcome = expression.search(text, length: text.utf16.count)
    #expect(outcome.wasStopped && !outcome.ranOutOfMemory)
    #expect(outcome.mostAtOnePlace <= BoundedExpression.reportsPerPlace + 1)
    #expect(outcome.reports <= BoundedExpression.reports(forLength: count + 1) + 1)
  }

  /// As the files of these models have them.
  static let known = [
    "gpt2": #"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"#,
    "llama3":
      #"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"#,
    "o200k":
      #"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"#,
    "deepseek3":
      "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+",
    "deepseek3-cjk": "[一-龥぀-ゟ゠-ヿ]+",
    "clip": #"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"#,
    "bloom": #" ?[^(\s|[.,!?…。，、।۔،])]+"#,
  ]

  @Test(arguments: known.keys.sorted())
  func `those of known models are far from the bounds on any long text`(name: String) throws {
    let source = try #require(Self.known[name])
    // White space as it is rewritten for the matcher.
    let pattern = source.replacingOccurrences(of: #"\s"#, with: #"[\t-\r\x{85}\p{Z}]"#)
      .replacingOccurrences(of: #"\S"#, with: #"[^\t-\r\x{85}\p{Z}]"#)
    let expression = try #require(BoundedExpression(source, as: pattern))
    for unit in ["a", "A", "é", " ", "\n", " \n", "中", "1", ".", "'", "ab ", "Ab1 .\n", "\u{301}"] {
      for end in ["", "x", " x"] {
        let text = String(repeating: unit, count: 300_000 / unit.utf16.count) + end
        let outcome = expression.search(text, length: text.utf16.count)
        #expect(!outcome.wasStopped && !outcome.ranOutOfMemory)
        #expect(outcome.mostAtOnePlace <= BoundedExpression.reportsPerPlace / 10)
        #expect(outcome.reports <= BoundedExpression.reports(forLength: 300_000) / 20)
      }
    }
  }

  @Test func `those that can't go back run without a bound`() {
    for source in [
      #"\s+"#, #" ?[^(\s|[.,!?])]+"#, #"'s|\p{N}|[^\s\p{L}\p{N}]+"#, "[\r\n]", "[0-9][0-9][0-9]",
      "a.+", "",
    ] {
      #expect(BoundedExpression.isLinear(source), "\(source)")
    }
    for source in [
      "(a+)+$", "a*b", "a+|b*c", "a??", "a?a?a?a?a", "a+?", "a{3}", "(a)", "[ab", #"\Qa"#, #"\bx"#,
      "[]a](b*)*]",
    ] {
      #expect(!BoundedExpression.isLinear(source), "\(source)")
    }
  }

  private func tokenizer(split pattern: String = "x", normalizers: [String] = []) throws
    -> Tokenizer
  {
    let source = try String(decoding: JSONEncoder().encode(pattern), as: UTF8.self)
    return try Tokenizer(
      json: Data(
        """
        {"added_tokens": [],
         "normalizer": {"type": "Sequence", "normalizers": [\(normalizers.joined(separator: ", "))]},
         "pre_tokenizer": {"type": "Split", "pattern": {"Regex": \(source)}, "behavior": "Isolated", "invert": false},
         "model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}}
        """.utf8))
  }

  @Test func `the error names the pattern, and repetitions are bounded`() throws {
    let slow = try tokenizer(split: "(a+)+$")
    let error = #expect(throws: PeatError.self) {
      try slow.encode(String(repeating: "a", count: 100) + "b", addSpecialTokens: false)
    }
    #expect(error?.code == .badData)
    #expect(error?.message.contains("'(a+)+$'") == true, "\(error?.message ?? "")")
    #expect(
      error?.message.contains("pre_tokenizer") == true && error?.message.contains("steps") == true)
    for pattern in [
      "a{100001}", "(?:a{3,4}){5,100001}b", "a{99999999999999999999}", "[{]a{,100001}",
    ] {
      let error = #expect(throws: PeatError.self) { try tokenizer(split: pattern) }
      #expect(error?.message.contains("at most 100000") == true, "\(error?.message ?? pattern)")
    }
    _ = try tokenizer(split: "a{100000}|[{100001}]|\\{100001\\}")
    for fine in [#"\p{N}+|\x{61}+"#, "[{]+", #"(?:\p{N}{1,3})+"#, "a{2}b+", #"\{+"#, "[a{2}]+"] {
      _ = try tokenizer(split: fine)
    }
  }

  /// Repetitions of repetitions, as Oniguruma has them; pieces as tokenizers 0.23 makes them.
  @Test(arguments: [
    ("a{1,3}+", "aaaaaaab", ["aaaaaaa", "b"]), ("a{1,3}+a", "aaaaaaab", ["aaaaaaa", "b"]),
    ("a{1,3}++a", "aaaab", ["aaaab"]), ("(?:ab){2}+", "ababababab", ["abababab", "ab"]),
    ("[ab]{2}+c", "ababc", ["ababc"]), (#"\p{N}{1,3}+"#, "12345 6", ["12345", " ", "6"]),
    (#"\p{N}{1,3}+"#, "x1", ["x", "1"]), ("a{2}+?b", "aaaab", ["aaaab"]),
    ("x{2}*y", "xxxxyxy", ["xxxxy", "x", "y"]), ("x{2}{3}", "xxxxxxx", ["xxxxxx", "x"]),
    ("ab{1,2}+", "abbbbab", ["abbbb", "ab"]), ("a+{2}", "aaaa", ["aaaa"]),
    (#"\{{2}+"#, "{{{{", ["{{{{"]), ("a{,2}", "aaaa", ["aa", "aa"]), ("a{1,3}?b", "aaab", ["aaab"]),
    ("a{2}?b", "abaab", ["a", "b", "aab"]), (#"\x{61}{2}+"#, "aaaaa", ["aaaa", "a"]),
  ])
  func `repetitions are repeated as in Oniguruma`(pattern: String, text: String, pieces: [String])
    throws
  {
    let found = try tokenizer(split: pattern).pieces(of: text).map(\.text)
    #expect(found == pieces, "\(found)")
  }

  /// A look-ahead that fails behind each of a run's characters: what tokenizers takes half a second for is no runaway.
  @Test func `a look-ahead behind a long run ends`() throws {
    for (pattern, character) in [(#"[ \t]+(?=\n)|\S+"#, " "), (#"\p{L}+(?=')|\p{L}"#, "a")] {
      let split = try tokenizer(split: pattern)
      let text = "q" + String(repeating: character, count: 10_000) + "z"
      _ = try split.encode(text, addSpecialTokens: false)
    }
  }

  /// Pieces as tokenizers 0.23 makes them.
  @Test(arguments: [
    (#"\s+$"#, "a  \nb  ", ["a", "  ", "\nb", "  "]), (#"\s+$"#, "a  \n", ["a", "  \n"]),
    (#"\s+$"#, "a \r\nb", ["a", " \r", "\nb"]), (#"\s+$"#, "a\n\n b", ["a", "\n", "\n b"]),
    (#"\s+$"#, "a\nb", ["a\nb"]), ("^a", "aa\naa", ["a", "a\n", "a", "a"]),
    ("a.b", "a\nb a\rb a\u{2028}b axb", ["a\nb ", "a\rb", " ", "a\u{2028}b", " ", "axb"]),
    ("b|", "abc", ["a", "b", "c"]), (#"\n(?=b)"#, "a\r\nb", ["a\r", "\n", "b"]),
    (#"\n{2,}"#, "a\r\n\nb\n\nc", ["a\r", "\n\n", "b", "\n\n", "c"]),
    (#"\n{1,3}\S"#, "a\r\nb", ["a\r", "\nb"]),
  ])
  func `lines end as in Oniguruma`(pattern: String, text: String, pieces: [String]) throws {
    let found = try tokenizer(split: pattern).pieces(of: text).map(\.text)
    #expect(found.map { Array($0.utf8) } == pieces.map { Array($0.utf8) }, "\(found)")
  }

  @Test func `white space at a line's end is found at once in a long run`() throws {
    let text = String(repeating: " ", count: 300_000) + "x"
    #expect(try tokenizer(split: #"\s+$"#).pieces(of: text).count == 1)
  }

  @Test func `a text does not grow without end`() throws {
    let hundred = String(repeating: "a", count: 100)
    let growing = try tokenizer(
      normalizers: Array(
        repeating: #"{"type": "Replace", "pattern": {"String": "a"}, "content": "\#(hundred)"}"#,
        count: 8))
    let error = #expect(throws: PeatError.self) { try growing.encode("a", addSpecialTokens: false) }
    #expect(error?.message.contains("at most 16777216") == true, "\(error?.message ?? "")")
    let doubling = try tokenizer(
      normalizers: Array(
        repeating: #"{"type": "Replace", "pattern": {"String": "a"}, "content": "aaaaaaaaaa"}"#,
        count: 9))
    let other = #expect(throws: PeatError.self) {
      try doubling.encode("a", addSpecialTokens: false)
    }
    #expect(other?.message.contains("makes 100000000 bytes of a text of 1;") == true)
  }
}
