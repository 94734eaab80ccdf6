import PeatData
import PeatTensor
import Testing

@Suite("CSVReader") struct CSVReaderTests {
  private func rows(_ text: String) throws -> [[String]] {
    try CSVReader.rows(of: [UInt8](text.utf8), name: "t").map(\.fields)
  }

  @Test func `reads plain and quoted fields`() throws {
    #expect(try rows("a,b\r\n1,2\r\n") == [["a", "b"], ["1", "2"]])
    #expect(try rows("\"a,\"\"b\"\"\",\"\"\n\"x\ny\",z") == [["a,\"b\"", ""], ["x\ny", "z"]])
    #expect(try rows("a,,\n,b,") == [["a", "", ""], ["", "b", ""]])
    #expect(try rows("a\rb\r\n\nc") == [["a"], ["b"], ["c"]])
    #expect(try rows("") == [])
    #expect(try rows("\"\"") == [])
    #expect(try rows("say \"hi\",2") == [["say \"hi\"", "2"]])
  }

  @Test func `counts lines over line breaks in quotes`() throws {
    let rows = try CSVReader.rows(of: [UInt8]("a\n\"b\n\nc\"\nd".utf8), name: "t")
    #expect(rows.map(\.line) == [1, 2, 5])
  }

  @Test func `refuses an open quote and text after a closing one`() {
    #expect(
      errorOf { try rows("a\n\"b") }?.message.contains("line 2: a quoted field does not end")
        == true)
    #expect(errorOf { try rows("\"a\"b,c") }?.message.contains("line 1: text follows") == true)
  }
}

@Suite("LabelledText") struct LabelledTextTests {
  @Test func `two columns of one name are refused`() throws {
    for text in ["text,label,Text\na,x,b\n", "text,label, text\na,x,b\n"] {
      let error = errorOf { try read(text, named: "t.csv") }
      #expect(error?.message.contains("2 columns are called 'text'") == true)
      let other = errorOf { try withFile(text, named: "t.csv") { try DocumentReader.read($0) } }
      #expect(other?.message.contains("2 columns are called 'text'") == true)
    }
    // Those without a name are of no use, and no harm.
    #expect(try read("text,,label,\na,1,x,2\n", named: "t.csv").map(\.label) == ["x"])
  }

  private func read(_ contents: String, named name: String) throws -> [LabelledText] {
    try withFile(contents, named: name) { try LabelledText.read($0) }
  }

  @Test func `reads CSV with text and category in any order, and JSON lines`() throws {
    let expected = [LabelledText(text: "a, b", label: "x"), LabelledText(text: "c", label: "y")]
    // By a label's own name data may be divided, too.
    let named = [
      LabelledText(text: "a, b", label: "x", fields: ["category": "x"]),
      LabelledText(text: "c", label: "y", fields: ["category": "y"]),
    ]
    #expect(try read("text,category\n\"a, b\",x\nc,y\n", named: "t.csv") == named)
    #expect(named[0].document.fields == ["category": "x", "label": "x"])
    // What else a record says is kept.
    #expect(
      try read("id,Label,Text\r\n1,x,\"a, b\"\r\n2,y,c\r\n", named: "t.txt") == [
        LabelledText(text: "a, b", label: "x", fields: ["id": "1"]),
        LabelledText(text: "c", label: "y", fields: ["id": "2"]),
      ])
    #expect(
      try read(
        "{\"text\":\"a, b\",\"label\":\"x\"}\n{\"text\":\"c\",\"category\":\"y\"}", named: "t.jsonl"
      )
        == [expected[0], named[1]])
    #expect(
      try read(#"[{"text":"a","label":3}]"#, named: "t.json") == [
        LabelledText(text: "a", label: "3")
      ])
    #expect(expected[0].document == Document("a, b", fields: ["label": "x"]))
  }

  @Test func `says what is missing`() {
    #expect(
      errorOf { try read("a,b\n1,2", named: "t.csv") }?.message.contains("names a, b") == true)
    #expect(
      errorOf { try read("text,label\none, two,x", named: "t.csv") }?.message
        .contains("line 2: 3 fields, the header has 2") == true)
    #expect(
      errorOf { try read("text,label\n", named: "t.csv") }?.message.contains("no examples") == true)
    #expect(
      errorOf { try read(#"[{"text":"a"}]"#, named: "t.json") }?.message.contains("keys text")
        == true)
  }
}

@Suite("ChoiceQuestion") struct ChoiceQuestionTests {
  private func read(_ contents: String) throws -> [ChoiceQuestion] {
    try withFile(contents, named: "q.json") { try ChoiceQuestion.read($0) }
  }

  @Test(arguments: ["1", "\"B\"", "\"b\"", "\"two\"", "\"1\""])
  func `takes the answer as number, letter or text`(answer: String) throws {
    let questions = try read(
      "[{\"question\": \"q\", \"choices\": [\"one\", \"two\"], \"answer\": \(answer)}]")
    #expect(questions == [ChoiceQuestion(prompt: "q", choices: ["one", "two"], answer: 1)])
  }

  @Test func `takes prompt and context, and a context before a question`() throws {
    let questions = try read(
      """
      {"prompt": "p", "choices": ["a", "b"], "answer": 0}
      {"context": "c", "choices": ["a", "b"], "answer": 0}
      {"context": "c", "question": "q", "choices": ["B", "A"], "answer": "A"}
      {"context": "c", "prompt": "p", "choices": ["a", "b"], "answer": 0, "user": "ada", "n": 3}
      """)
    #expect(questions.map(\.prompt) == ["p", "c", "c\nq", "c\np"])
    // A text equal to a choice counts before a letter.
    #expect(questions.map(\.answer) == [0, 0, 1, 0])
    #expect(questions.map(\.fields) == [[:], [:], [:], ["user": "ada", "n": "3"]])
  }

  @Test func `takes choices with names, as ARC has them`() throws {
    let questions = try read(
      """
      {"id": "x", "question": "q", "choices": {"text": ["one", "two", "A"], "label": ["A", "B", "C"]}, "answerKey": "A"}
      {"question": "q", "choices": {"label": ["1", "2"], "text": ["2", "1"]}, "answerKey": "1"}
      """)
    #expect(questions.map(\.answer) == [0, 0])
    #expect(questions.map(\.choices) == [["one", "two", "A"], ["2", "1"]])
    for (line, words) in [
      (#"{"text": ["a", "b"], "label": ["A"]}, "answerKey": "A""#, "lists of the same length"),
      (#"{"text": ["a", "b"], "label": ["A", "A"]}, "answerKey": "A""#, "no label twice"),
      (#"{"text": ["a", "b"], "label": ["A", "B"]}, "answerKey": "C""#, "none of the 2 choices"),
      (#"{"text": ["a", "b"]}, "answerKey": "A""#, "'text' and its 'label'"),
    ] {
      let error = errorOf { try read(#"{"question": "q", "choices": \#(line)}"#) }
      #expect(error?.message.contains(words) == true, "\(error?.message ?? line)")
    }
  }

  @Test(arguments: [
    "2", "-1", "1.5", "1e99", "99999999999999999999999", "\"C\"", "\"three\"", "null", "true",
    "[0]",
  ])
  func `refuses an answer that is none of the choices`(answer: String) {
    let error = errorOf {
      try read("[{\"question\": \"q\", \"choices\": [\"one\", \"two\"], \"answer\": \(answer)}]")
    }
    #expect(error?.code == .badData)
    #expect(error?.message.contains("none of the 2 choices") == true)
  }

  @Test(arguments: [
    #"[{"question": "q", "choices": ["a"], "answer": 0}]"#,
    #"[{"question": "q", "choices": ["a", 3], "answer": 0}]"#,
    #"[{"question": "q", "choices": ["a", "b"]}]"#, #"[{"choices": ["a", "b"], "answer": 0}]"#,
    #"["q"]"#, "[]", "text",
  ])
  func `refuses what is no question`(text: String) {
    #expect(errorOf { try read(text) }?.code == .badData)
  }
}
