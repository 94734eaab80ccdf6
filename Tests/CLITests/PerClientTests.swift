import Foundation
import TestSupport
import Testing

@Suite("evaluate --per-client") struct PerClientTests {
  /// Questions, or labelled texts, of two people in turns; one client's number is that of a file with its records alone.
  @Test(arguments: ["--choices", "--labels"])
  func `measures each client's questions and labelled texts`(option: String) async throws {
    try await withWorkshop { workshop, folder in
      let sentences = TinyWorkshop.sentences(12, seed: 5)
      func record(_ number: Int) -> [String: Any] {
        let user = number % 3 == 0 ? "ada" : "bob"
        return option == "--choices"
          ? [
            "question": sentences[number], "choices": ["the cat", "rain and sun", "on a mat"],
            "answer": number % 3, "user": user,
          ] : ["text": sentences[number], "label": number % 2 == 0 ? "cat" : "rain", "user": user]
      }
      let records = sentences.indices.map(record)
      func evaluate(_ records: [[String: Any]], _ words: [String]) async throws -> [String: Any] {
        try TinyWorkshop.jsonLines(records).write(to: folder.appendingPathComponent("data.jsonl"))
        return try await FedpeatCommand.succeed(
          ["evaluate", workshop.model, option, "data.jsonl", "--json"] + words, in: folder
        ).object()
      }
      let report = try await evaluate(records, ["--per-client", "user"])
      let clients = try #require(report["perClient"] as? [String: Any])
      let values = try #require(clients["values"] as? [String: Double])
      #expect(Set(values.keys) == ["ada", "bob"])
      let whole = try await evaluate(records, [])
      #expect(
        whole["perClient"] == nil && whole["accuracy"] as? Double == report["accuracy"] as? Double)
      let own = try await evaluate(records.filter { $0["user"] as? String == "bob" }, [])
      #expect(own["accuracy"] as? Double == values["bob"])
      let scores = (report["perClientMacroF1"] as? [String: Any])?["values"] as? [String: Double]
      if option == "--labels" {
        #expect(own["macroF1"] as? Double == scores?["bob"])
      } else {
        #expect(scores == nil)
      }
      try await expect(
        65,
        saying: [
          option == "--choices"
            ? "no field 'speaker' to divide the data by. Known: user."
            : "no field 'speaker' to divide the data by. Known: label, user."
        ],
        from: [
          "evaluate", workshop.model, option, "data.jsonl", "--per-client", "speaker",
        ], in: folder)
    }
  }
}
