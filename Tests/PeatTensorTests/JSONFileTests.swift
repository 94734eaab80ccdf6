import Foundation
import PeatTensor
import TestSupport
import Testing

@Suite("JSONFile") struct JSONFileTests {
  private struct Document: Codable, Equatable {
    enum Kind: String, Codable { case one, two }
    struct Part: Codable, Equatable {
      var seed: UInt64
      var share: Float
    }

    var count: Int
    var rate: Double?
    var kind: Kind?
    var parts: [Part] = []
    var table: [String: Int]?
    var bytes: Data?
    var anything: JSONValue?
  }

  private func read(_ text: String) throws -> Document {
    try JSONFile.decode(Document.self, from: Data(text.utf8), name: "x.json")
  }

  @Test func `what is written is read again`() throws {
    let document = Document(
      count: -3, rate: 0.1, kind: .two, parts: [.init(seed: .max, share: 0.3)], table: ["a": 1],
      bytes: Data([1, 2, 255]), anything: .array([.null, .bool(true), .number(0.5), .string("ü")]))
    let data = try JSONFile.encode(document)
    #expect(try JSONFile.decode(Document.self, from: data, name: "x.json") == document)
    #expect(try read("{\"count\": 8.0, \"parts\": [], \"rate\": null}").count == 8)
  }

  @Test func `every error names the key`() {
    for (text, words) in [
      ("{\"count\": 8.5, \"parts\": []}", ["whole number", "8.5", "count"]),
      ("{\"count\": 1000000000000000000000000, \"parts\": []}", ["that fits", "count"]),
      ("{\"count\": \"8\", \"parts\": []}", ["a whole number at count"]),
      ("{\"count\": true, \"parts\": []}", ["a whole number at count"]),
      ("{\"count\": 1, \"parts\": [], \"rate\": 1e999}", ["a number that fits", "rate"]),
      ("{\"count\": 1, \"parts\": [], \"rate\": NaN}", ["not valid JSON", "line 1"]),
      ("{\"count\": 1, \"parts\": [{\"seed\": -1, \"share\": 1}]}", ["parts.[0].seed", "-1"]),
      ("{\"count\": 1, \"parts\": [{\"seed\": 1}]}", ["'share' is missing", "parts.[0]"]),
      ("{\"count\": 1, \"parts\": {}}", ["a list at parts"]),
      ("{\"count\": 1, \"parts\": [], \"kind\": \"three\"}", ["three", "kind"]),
      ("{\"count\": null, \"parts\": []}", ["found null at count"]),
      ("{\"count\": 1, \"parts\": [], \"table\": {\"a\": 2.5}}", ["2.5", "table.a"]),
      ("[]", ["a table of keys and values at the top"]), ("", ["not valid JSON"]),
    ] {
      do {
        _ = try read(text)
        Issue.record("was read: \(text)")
      } catch let error as PeatError {
        #expect(error.code == .badData && error.message.contains("x.json"))
        for word in words { #expect(error.message.contains(word), "\(error)") }
        #expect(!error.message.hasSuffix(".."))
      } catch { Issue.record(error) }
    }
  }
}
