import Foundation
import PeatData
import PeatTensor
import PeatTokenizers
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
      func segments(of turns: [ChatTurn], tools: ConversationTools?) -> [TextSegment] {
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

  private let template = """
    {{ bos_token }}{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>
    {% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}
    """

  @Test func `a model's template writes the conversation, and of it the answers are learned`()
    throws
  {
    let rendering = TemplateChatRendering(try ChatTemplate(template, tokens: ["bos_token": "<s>"]))
    let document = try Document(turns: turns, rendering: rendering)
    #expect(
      document.text
        == "<s><|system|>Be short.<|end|>\n<|user|>Hi<|end|>\n<|assistant|>Ho<|end|>\n<|user|>And?<|end|>\n<|assistant|>Hm<|end|>\n"
    )
    #expect(
      document.segments.filter(\.isLearned).map(\.text) == ["Ho<|end|>\n", "Hm<|end|>\n"])
    // It says itself where it begins and ends.
    let sequence = try TokenSequence(
      document, tokenizer: ByteTokenizer(), addBegin: true, addEnd: true)
    #expect(sequence.tokens.count == document.text.utf8.count)
  }

  @Test func `a template that writes earlier answers otherwise teaches the last one`() throws {
    let forgetful = """
      {% for m in messages %}{% if m['role'] == 'assistant' and not loop.last %}[…]{% else %}[{{ m['role'] }}]{{ m['content'] }}{% endif %}{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}
      """
    let document = try Document(
      turns: turns, rendering: TemplateChatRendering(try ChatTemplate(forgetful)))
    #expect(document.text == "[system]Be short.[user]Hi[…][user]And?[assistant]Hm")
    #expect(document.segments.filter(\.isLearned).map(\.text) == ["Hm"])
  }

  @Test func `documents are written by the tokenizer's template, where it has one`() throws {
    let conversation = try Document(turns: turns)
    let plain = try ByteLevelBPETrainer(vocabularySize: 300).train(on: ["aaa bbb"])
    #expect(try plain.rendered([conversation]) == [conversation])
    var files = plain.sourceFiles
    files["chat_template.jinja"] = Data(template.utf8)
    let chatting = try Tokenizer(files: files)
    let rendered = try chatting.rendered([conversation, Document("text")])
    #expect(rendered[0].text.contains("<|user|>And?<|end|>") && rendered[1].text == "text")
    #expect(rendered[0].carriesSpecialTokens && !rendered[1].carriesSpecialTokens)
  }
}
