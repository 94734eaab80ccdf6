import PeatData
import PeatTensor
import TestSupport
import Testing

@Suite("Chat") struct ChatTests {
  private let turns = [
    ChatTurn(role: "system", content: "Be short."), ChatTurn(role: "user", content: "Hi"),
    ChatTurn(role: "assistant", content: "Ho"), ChatTurn(role: "user", content: "And?"),
    ChatTurn(role: "assistant", content: "Hm"),
  ]

  @Test func `messages and ShareGPT's conversations are read alike`() throws {
    let messages = """
      {"messages": [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Hi"}, \
      {"role": "assistant", "content": [{"type": "text", "text": "H"}, {"type": "text", "text": "o"}]}, \
      {"role": "user", "content": "And?"}, {"role": "assistant", "content": "Hm"}], "user": "ada", "n": 3}
      """
    let shared = """
      {"conversations": [{"from": "system", "value": "Be short."}, {"from": "human", "value": "Hi"}, \
      {"from": "gpt", "value": "Ho"}, {"from": "human", "value": "And?"}, {"from": "gpt", "value": "Hm"}]}
      """
    try withFile(messages + "\n" + shared, named: "chat.jsonl") { url in
      let documents = try DocumentReader.read(url)
      #expect(documents.map(\.turns) == [turns, turns])
      #expect(documents[0].fields == ["user": "ada", "n": "3"])
      #expect(documents[0].hasGivenPart)
    }
  }

  @Test func `without a template, roles are headings and what the assistant says is learned`()
    throws
  {
    let document = try Document(turns: Array(turns.prefix(3)))
    #expect(
      document.text
        == "### System:\nBe short.\n\n### User:\nHi\n\n### Assistant:\nHo\n\n")
    #expect(document.segments.filter(\.isLearned).map(\.text) == ["Ho\n\n"])
  }

  @Test func `only what the assistant says is a target, in every turn`() throws {
    let document = try Document(turns: turns)
    let sequence = try TokenSequence(
      document, tokenizer: ByteTokenizer(), addBegin: true, addEnd: true)
    let learned = zip(sequence.tokens, sequence.isTarget).filter(\.1).map(\.0)
    #expect(
      ByteTokenizer().decode(learned, skipSpecialTokens: true) == "Ho\n\nHm\n\n")
    #expect(learned.last == 257)
    #expect(sequence.tokens.count == document.text.utf8.count + 2)
  }

  @Test func `another rendering makes another text of the same turns`() throws {
    struct Tagged: ChatRendering {
      func segments(of turns: [ChatTurn]) -> [TextSegment] {
        turns.map { TextSegment("<\($0.role)>\($0.content)", isLearned: $0.isLearned) }
      }
    }
    let document = try Document(turns: Array(turns.suffix(2)), fields: ["a": "b"])
    let other = try document.rendered(by: Tagged())
    #expect(other.text == "<user>And?<assistant>Hm")
    #expect(other.turns == document.turns && other.fields == document.fields)
    let plain = Document("text")
    #expect(try plain.rendered(by: Tagged()) == plain)
  }

  @Test func `conversations without an answer are left out, and wrong messages named`() throws {
    func read(_ line: String) throws -> [Document] {
      try withFile(#"{"text": "x"}"# + "\n" + line, named: "chat.jsonl") {
        try DocumentReader.read($0)
      }
    }
    #expect(try read(#"{"messages": [{"role": "user", "content": "Hi"}]}"#).count == 1)
    #expect(try read(#"{"messages": []}"#).count == 1)
    expectError(.badData, "line 2, message 1", "'role' and 'content'") {
      _ = try read(#"{"messages": [{"speaker": "user", "text": "Hi"}]}"#)
    }
    expectError(.badData, "message 1", "without text") {
      _ = try read(#"{"messages": [{"role": "assistant", "content": null}]}"#)
    }
    expectError(.badData, "message 2", "a number is no message") {
      _ = try read(#"{"messages": [{"role": "user", "content": ""}, 3]}"#)
    }
  }
}
