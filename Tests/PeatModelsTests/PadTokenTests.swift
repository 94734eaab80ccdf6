import Foundation
import PeatModels
import PeatTensor
import TestSupport
import Testing

@Suite("pad_token_id") struct PadTokenTests {
  private func padToken(_ family: String, _ value: JSONValue?) throws -> Int32? {
    let file = ProjectFolders.golden.appendingPathComponent("families/\(family)/config.json")
    var table = try #require(try JSONFile.read(JSONValue.self, from: file).object)
    table["pad_token_id"] = value
    let configuration = try Architectures.configuration(
      from: ConfigurationFile(name: "config.json", json: .object(table)))
    return try #require(configuration.head).padToken
  }

  /// What transformers' configurations have where the file does not say.
  @Test(
    arguments: [
      ("llama-classes", nil), ("gemma2-classes", 0), ("opt-narrow-classes", 1),
    ] as [(String, Int32?)])
  func `is the family's where the file has none`(family: String, usual: Int32?) throws {
    #expect(try padToken(family, nil) == usual)
    #expect(try padToken(family, .null) == nil)
    #expect(try padToken(family, .integer(7)) == 7)
    let error = #expect(throws: PeatError.self) { try padToken(family, .string("<pad>")) }
    #expect(error?.message.contains("pad_token_id") == true)
  }

  @Test func `says nothing of a head of the vocabulary or of the first token`() throws {
    #expect(try padToken("gemma2", .integer(7)) == nil)
    #expect(try padToken("bert-classes", .integer(7)) == nil)
  }
}
