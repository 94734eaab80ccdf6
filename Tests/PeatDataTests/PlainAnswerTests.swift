import PeatData
import Testing

@Suite("Answers under headings") struct PlainAnswerTests {
  @Test func `a question ends with the heading of its answer, as in tuning`() throws {
    let turns = [
      ChatTurn(role: "system", content: "Be short."), ChatTurn(role: "user", content: "Hi"),
    ]
    let prompt = PlainChatRendering().prompt(turns)
    #expect(prompt == "### System:\nBe short.\n\n### User:\nHi\n\n### Assistant:\n")
    let tuned = try Document(turns: turns + [ChatTurn(role: "assistant", content: "Ho")])
    #expect(tuned.text == prompt + "Ho\n\n")
  }

  @Test(arguments: 1...9)
  func `an answer ends where the next heading begins, however it comes`(size: Int) {
    let whole = "One.\n\nTwo ## and ###\n\n### User:\nMore"
    var answer = PlainAnswer()
    var shown = ""
    var rest = whole[...]
    while !rest.isEmpty {
      shown += answer.append(String(rest.prefix(size)))
      rest = rest.dropFirst(size)
      #expect(!shown.contains("\n\n###"))
    }
    shown += answer.finish()
    #expect(shown == "One.\n\nTwo ## and ###")
    #expect(answer.isOver)
  }

  @Test func `what only looks like a heading's beginning is shown in the end`() {
    var answer = PlainAnswer()
    #expect(answer.append("yes\n\n##") == "yes")
    #expect(answer.finish() == "\n\n##")
    #expect(!answer.isOver)
  }
}
