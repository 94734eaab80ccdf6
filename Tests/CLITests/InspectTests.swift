import Foundation
import TestSupport
import Testing

@Suite("inspect") struct InspectTests {
  private func report(_ family: String) async throws -> [String: Any] {
    try await withTemporaryFolder { folder in
      try await FedpeatCommand.succeed(
        [
          "inspect", ProjectFolders.golden.appendingPathComponent("families/\(family)").path,
          "--json",
        ],
        in: folder
      ).object()
    }
  }

  @Test(
    arguments: [
      ("llama", "next-token"), ("bert-masked", "masked-tokens"), ("llama-classes", "classes"),
      ("llama-bare", nil), ("bert", nil),
    ] as [(String, String?)])
  func `a model's head is named`(family: String, head: String?) async throws {
    let report = try await report(family)
    #expect(report["head"] as? String == head)
    #expect(report.keys.contains("head"))
    #expect((report["classes"] as? [String])?.count == (head == "classes" ? 3 : nil))
    #expect(report["vocabularySize"] as? Int == 53)
  }

  @Test func `pictures have a size and no vocabulary`() async throws {
    let report = try await report("vit-classes")
    #expect(
      report["image"] as? [String: Int]
        == ["height": 8, "width": 8, "channels": 3, "patch": 2, "patches": 16])
    #expect(report["vocabularySize"] is NSNull)
    #expect(report["contextLength"] == nil)
    #expect(report["head"] as? String == "classes")
  }

  @Test func `classification counts examples, not tokens`() async throws {
    try await withWorkshop { workshop, folder in
      try Data("text,label\nthe cat,a\na dog,b\nthe bird,a\na hill,b\n".utf8)
        .write(to: folder.appendingPathComponent("classes.csv"))
      let report = try await FedpeatCommand.succeed(
        [
          "tune", workshop.model, "--task", "classification", "--data", "classes.csv", "--steps",
          "2", "--out", "adapter", "--json",
        ], in: folder
      ).object()
      #expect((report["examplesPerSecond"] as? Double ?? 0) > 0)
      #expect(report["tokensPerSecond"] == nil)
    }
  }
}
