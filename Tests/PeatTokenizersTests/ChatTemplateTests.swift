import Foundation
import PeatTensor
import PeatTokenizers
import Testing

@Suite("Chat templates, beside transformers") struct ChatTemplateTests {
  /// The golden file as JSON: templates, conversations, and the texts that transformers makes of them.
  private struct Cases {
    var fields: [String: ByteJSON] = [:]
    init() throws {
      fields = try Self.object(Cases.parsed(Golden.data("chat.json")))
    }
    static func parsed(_ data: Data) throws -> ByteJSON {
      var parser = JSONParser(Array(data)[...])
      return try parser.parseWhole()
    }
    static func object(_ json: ByteJSON?) throws -> [String: ByteJSON] {
      guard case .object(let entries) = json else { throw PeatError.badData("no object") }
      return Dictionary(entries.map { ($0.key.text, $0.value) }) { $1 }
    }
    static func array(_ json: ByteJSON?) throws -> [ByteJSON] {
      guard case .array(let elements) = json else { throw PeatError.badData("no array") }
      return elements
    }
    static func string(_ json: ByteJSON?) -> String? {
      guard case .string(let text) = json else { return nil }
      return text.text
    }
    var tokens: [String: String] {
      get throws { try Self.object(fields["tokens"]).compactMapValues(Self.string) }
    }
    var now: Date {
      guard case .number(let text) = fields["now"], let seconds = Double(text) else {
        return Date(timeIntervalSince1970: 0)
      }
      return Date(timeIntervalSince1970: seconds)
    }
  }

  @Test func `write conversations as transformers does, and refuse those that it refuses`() throws {
    let golden = try Cases()
    let templates = try Cases.object(golden.fields["templates"])
    let conversations = try Cases.array(golden.fields["conversations"])
    let cases = try Cases.array(golden.fields["cases"])
    #expect(cases.count > 250 && templates.count > 10)
    for item in cases {
      let row = try Cases.array(item)
      guard let name = Cases.string(row[0]), let index = row[1].integer,
        let source = Cases.string(templates[name]), case .bool(let prompt) = row[2],
        case .object(let others) = row[3]
      else {
        Issue.record("a case is not as it should be: \(row)")
        continue
      }
      let expected = Cases.string(row[4])
      let found = Result {
        try ChatTemplate(source, tokens: golden.tokens).text(
          messages: conversations[index], addGenerationPrompt: prompt,
          others: others.map { ($0.key.text, $0.value) }, now: golden.now)
      }
      #expect(
        (try? found.get())?.bytes == expected?.bytes,
        "\(name) on \(index), \(prompt): \(found), expected \(expected ?? "an error")")
    }
  }

  @Test func `know the parts of the language as Jinja does`() throws {
    let golden = try Cases()
    let conversation = try Cases.array(golden.fields["conversations"])[2]
    for item in try Cases.array(golden.fields["parts"]) {
      let row = try Cases.array(item)
      let source = Cases.string(row[0]) ?? ""
      let expected = Cases.string(row[1])
      let found = Result {
        try ChatTemplate(source, tokens: golden.tokens).text(
          messages: conversation, addGenerationPrompt: false, others: [], now: golden.now)
      }
      #expect(
        (try? found.get())?.bytes == expected?.bytes,
        "\(source.debugDescription):\n\(found)\nexpected \(expected?.debugDescription ?? "an error")"
      )
      if case .failure(let error) = found { #expect((error as? PeatError)?.code == .badData) }
    }
  }

  @Test(arguments: [
    ("{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}", "steps"),
    ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "levels deep"),
    ("{% macro f(n) %}{{ f(n) }}{{ f(n) }}{% endmacro %}{{ f(1) }}", "levels deep"),
    ("{{ 'a' * 1000000000 }}", "bytes of text"),
    ("{{ 'ab' * 9223372036854775807 }}", "bytes of text"),
    (
      "{% set ns = namespace(x='a') %}{% for i in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
      "bytes of text"
    ),
    (
      "{% set ns = namespace(x=[1]) %}{% for i in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
      "steps"
    ),
    (
      "{% set ns = namespace(x='aaaa') %}{% for i in range(99) %}{% set ns.x = ns.x.replace('', ns.x) %}{% endfor %}",
      "bytes of text"
    ),
    (
      "{% set ns = namespace(x=[1]) %}{% for i in range(99) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}",
      "steps"
    ),
    (
      "{% set ns = namespace(x=[1]) %}{% for i in range(9999) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x }}",
      "nested too deep"
    ),
    (
      "{% set ns = namespace(x=1) %}{% for i in range(99) %}{% set ns.x = dict(a=ns.x, b=ns.x) %}{% endfor %}{{ ns.x|tojson }}",
      "steps"
    ),
    (
      "{% set big = 'a' * 9000000 %}{{ range(99)|map(attribute='x', default=big)|join }}",
      "larger than"
    ),
    (
      "{% set big = 'a' * 9000000 %}{% for i in range(9999) %}{% if big|length %}{% endif %}{% endfor %}",
      "steps"
    ),
    ("{{ 9223372036854775807 + 1 }}", "too large"),
    ("{{ 2 ** 64 }}", "too large"),
    ("{{ 10 ** 99999999999 }}", "can't be applied"),
    ("{{ '%s' % 1 }}", "can't be applied"),
    ("{% include 'x' %}", "'include' is not supported. Supported: if, for"),
    ("\n\n{{ x | nothing }}", "line 3: there is no filter 'nothing'. Supported: abs"),
    ("{{ raise_exception('Only one.') }}", "refuses the conversation: Only one."),
  ])
  func `stop what has no bound, and say what is wrong`(_ source: String, _ expected: String) throws
  {
    let start = ContinuousClock.now
    let error = #expect(throws: PeatError.self) {
      try ChatTemplate(source).text([.user("a")])
    }
    #expect(error?.code == .badData)
    #expect(error?.message.contains(expected) == true, "\(error?.message ?? "no error")")
    #expect(ContinuousClock.now - start < .seconds(20))
  }

  @Test func `write dates as Python does`() throws {
    // datetime(2024, 7, 6, 5, 6, 7, 891011).strftime(…), Python 3.11.
    let moment = Date(timeIntervalSince1970: 1720242367.891011)
    #expect(
      TemplateTime(moment).text(
        "%d %b %Y|%c|%x|%X|%D|%e|%z|%Z|%G-W%V-%u|%w|%U|%W|%C|%h|%R|%r|%-d|%k|%l|%n|%t|%%|%Q|%")
        == "06 Jul 2024|Sat Jul  6 05:06:07 2024|07/06/24|05:06:07|07/06/24| 6|||2024-W27-6|6|26|27|20|Jul|05:06|05:06:07 AM|6| 5| 5|\n|\t|%|%Q|%"
    )
    #expect(TemplateTime(moment).text("%f").hasPrefix("89101"))
    let set = TemplateTime(environment: ["SOURCE_DATE_EPOCH": "1720242367"], clock: Date())
    #expect(set.text("%Y-%m-%d %H:%M:%S") == "2024-07-06 05:06:07")
    #expect(
      TemplateTime(environment: [:], clock: moment) == TemplateTime(moment, isLocal: true))
  }

  @Test func `tell templates the date where nobody gives one`() throws {
    // As Llama 3.2's asks.
    let template = try ChatTemplate(
      "{% if strftime_now is defined %}Today: {{ strftime_now('%d %b %Y') }}{% endif %}")
    let text = try template.text([.user("a")])
    #expect(try text == template.text([.user("b")]))
    #expect(text.wholeMatch(of: /Today: \d\d [A-Z][a-z]{2} 20\d\d/) != nil, "\(text)")
  }

  @Test func `refuse what is nested too deep`() {
    for (open, inner, close) in [
      ("{{ ", "(", "1"), ("{{ ", "[", "1"), ("{{ ", "-", "1 }}"), ("{{ ", "not ", "1 }}"),
      ("{{ 1", " + 1", " }}"), ("{{ x", ".y", " }}"), ("{{ x", "|trim", " }}"),
      ("", "{% if 1 %}", "x"), ("{{ x", "[0]", " }}"), ("{{ 1 ", "if 1 else 1 ", "}}"),
    ] {
      let source = open + String(repeating: inner, count: 20_000) + close
      let text = try? ChatTemplate(source).text([])
      #expect(text == nil || inner == "not ", "\(inner)")
    }
  }

  @Test func `come with a tokenizer, one or several`() throws {
    let json = try Golden.data("bert-uncased/tokenizer.json")
    func tokenizer(_ configuration: String, jinja: String? = nil) throws -> Tokenizer {
      var files = ["tokenizer.json": json, "tokenizer_config.json": Data(configuration.utf8)]
      files["chat_template.jinja"] = jinja.map { Data($0.utf8) }
      return try Tokenizer(files: files)
    }
    let one = try tokenizer(
      #"{"bos_token": "[CLS]", "chat_template": "{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}{{ add_generation_prompt }}"}"#
    )
    #expect(
      try one.chatText([.user("a"), .assistant("b")], addGenerationPrompt: true) == "[CLS]abTrue")
    let two = try tokenizer(
      #"{"eos_token": {"content": "[SEP]"}, "chat_template": [{"name": "default", "template": "d"}, {"name": "tool_use", "template": "t{{ eos_token }}"}]}"#
    )
    #expect(try two.chatText([]) == "d")
    #expect(try two.chatText([], template: "tool_use") == "t[SEP]")
    let error = #expect(throws: PeatError.self) { try two.chatText([], template: "other") }
    #expect(error?.message.contains("It has: default, tool_use") == true)
    #expect(try tokenizer(#"{"chat_template": "x"}"#, jinja: "file\n").chatText([]) == "file")
    let none = #expect(throws: PeatError.self) { try tokenizer("{}").chatText([]) }
    #expect(none?.message.contains("no chat template") == true)
  }
}
