import Foundation
import PeatData
import PeatTensor
import PeatTokenizers
import TestSupport
import Testing

/// Conversations that call tools, beside what transformers makes of them (Tools/golden/tool_calls.py).
@Suite("Calls of tools") struct ToolCallTests {
  private struct Golden: Decodable {
    struct Case: Decodable {
      let template: String
      let record: Int
      let text: String?
      let pieces: [Piece]
    }
    struct Piece: Decodable {
      let text: String
      let isLearned: Bool
      init(from decoder: any Decoder) throws {
        var list = try decoder.unkeyedContainer()
        text = try list.decode(String.self)
        isLearned = try list.decode(Bool.self)
      }
    }
    let tokens: [String: String]
    let templates: [String: String]
    let records: [String]
    let cases: [Case]
  }

  private func golden() throws -> Golden {
    try JSONDecoder().decode(
      Golden.self,
      from: Data(
        contentsOf: ProjectFolders.golden.appendingPathComponent("tool-calls/expected.json")))
  }

  @Test func `reach the template, are learned, and what tools answer is not`() throws {
    let golden = try golden()
    let documents = try withFile(
      golden.records.joined(separator: "\n"), named: "calls.jsonl"
    ) { try DocumentReader.read($0) }
    #expect(documents.count == golden.records.count && golden.cases.count == 6)
    #expect(documents[1].fields == ["user": "ada"])
    for item in golden.cases {
      let template = try ChatTemplate(
        try #require(golden.templates[item.template]), tokens: golden.tokens)
      let document = documents[item.record]
      let rendered = Result { try document.rendered(by: TemplateChatRendering(template)) }
      guard let text = item.text else {
        #expect(throws: PeatError.self) { try rendered.get() }
        continue
      }
      let found = try rendered.get()
      #expect(found.text == text, "\(item.template), \(item.record)")
      #expect(
        found.segments
          == item.pieces.map { TextSegment($0.text, isLearned: $0.isLearned) },
        "\(item.template), \(item.record)")
    }
  }

  @Test func `stand in the text where there is no template`() throws {
    let golden = try golden()
    let document = try withFile(golden.records[0], named: "calls.jsonl") {
      try DocumentReader.read($0)
    }[0]
    let learned = document.segments.filter(\.isLearned).map(\.text)
    #expect(
      learned == [
        #"{"name": "weather", "arguments": {"place": "Zürich", "days": 1, "a": {"z": [1, 2.5, true, null]}}}"#
          + "\n\n", "21 °C.\n\n",
      ])
    #expect(document.segments[0].text.hasPrefix("### Tools:\n{\"type\": \"function\""))
    #expect(!document.segments[0].isLearned)
  }

  @Test func `without content or calls, or with tools that are no list, say so`() throws {
    func read(_ line: String) throws -> [Document] {
      try withFile(line, named: "calls.jsonl") { try DocumentReader.read($0) }
    }
    for line in [
      #"{"messages": [{"role": "assistant", "content": null, "tool_calls": []}]}"#,
      #"{"messages": [{"role": "assistant", "content": null}]}"#,
    ] {
      let error = #expect(throws: PeatError.self) { try read(line) }
      #expect(error?.message.contains("null alone beside 'tool_calls'") == true)
    }
    let error = #expect(throws: PeatError.self) {
      try read(#"{"tools": "[]", "messages": [{"role": "assistant", "content": "a"}]}"#)
    }
    #expect(error?.message.contains("'tools' is a string, a list") == true)
  }
}
