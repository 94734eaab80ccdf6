import PeatData
import PeatTensor
import TestSupport
import Testing

@Suite("Tables of documents") struct TableDocumentTests {
  @Test func `values between tabs need no quotes`() throws {
    try withFile("text\tlabel\nsay \"a, b\"\tx\r\n\n\"c\ty\n", named: "t.tsv") { url in
      let expected = [("say \"a, b\"", "x"), ("\"c", "y")].map {
        LabelledText(text: $0.0, label: $0.1)
      }
      let found = try LabelledText.read(url)
      #expect(found == expected)
    }
    try withFile("text\tlabel\na\tb\tc\n", named: "t.tsv") { url in
      expectError(.badData, "line 2", "3 fields", "tab") { _ = try LabelledText.read(url) }
    }
  }

  @Test func `columns are the keys of records, and the others become fields`() throws {
    try withFile("Speaker,text\nada,one\nben,\nada,\"two, three\"\n", named: "t.csv") { url in
      let documents = try DocumentReader.read(url)
      #expect(documents.map(\.text) == ["one", "two, three"])
      #expect(documents.map(\.fields) == [["speaker": "ada"], ["speaker": "ada"]])
    }
    try withFile("instruction\toutput\tuser\nName it\tBlue\tada\n", named: "t.tsv") { url in
      let document = try DocumentReader.read(url)[0]
      #expect(document.completion == "Blue" && document.fields["user"] == "ada")
    }
    try withFile("category,text\nx,one\n", named: "t.csv") { url in
      let document = try DocumentReader.read(url)[0]
      #expect(document.fields["label"] == "x")
    }
    try withFile("a,b\n1,2\n", named: "t.csv") { url in
      expectError(.badData, "line 2", "no text in this record", "a, b") {
        _ = try DocumentReader.read(url)
      }
    }
  }
}
