import PeatData
import PeatTensor
import Testing

@Suite("Classes that only have numbers") struct NumberedClassesTests {
  private func number(_ label: String, _ labels: [String]) throws -> Int32 {
    try ClassificationTask(labels: labels, atFirst: true).number(
      of: Document("a", fields: ["label": label]))
  }

  @Test func `class k is output k where outputs are called LABEL_k`() throws {
    let outputs = ["LABEL_0", "LABEL_1", "LABEL_2"]
    #expect(try number("2", outputs) == 2)
    #expect(try number("LABEL_1", outputs) == 1)
    for label in ["3", "-1", "01", "1.0", "one"] {
      let error = #expect(throws: PeatError.self) { try number(label, outputs) }
      #expect(error?.message.contains("--new-head") == true, "\(label)")
    }
  }

  @Test func `where outputs have names, numbers are no classes`() {
    #expect(throws: PeatError.self) { try number("0", ["good", "bad"]) }
    #expect(throws: PeatError.self) { try number("0", ["LABEL_1", "LABEL_0"]) }
  }
}
