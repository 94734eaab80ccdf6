import FedPEAT
import Foundation
import TestSupport
import Testing

/// What a run's windows hold where nobody said it.
@Suite("Context of a run") struct UsualContextTests {
  private func read(
    _ text: String, _ flags: [String: JSONValue] = [:], _ body: (RunConfiguration) -> Void
  ) throws {
    try withTemporaryFolder { folder in
      let file = folder.appendingPathComponent("run.yaml")
      try Data(text.utf8).write(to: file)
      body(try RunConfiguration.read(from: file, flags: flags))
    }
  }

  private func model(_ family: String) -> String {
    "model: \(ProjectFolders.golden.appendingPathComponent("families/\(family)").path)\n"
  }

  @Test func `it is the model's longest where that is less than usual`() throws {
    try read(model("vit")) { #expect($0.context == 17) }
    let longest = try Checkpoint(
      folder: ProjectFolders.golden.appendingPathComponent("families/bert")
    ).configuration.contextLength
    #expect(longest < RunConfiguration.usualContext)
    try read(model("bert")) { #expect($0.context == longest) }
    try read(model("bert") + "method: prompt-tuning\nvirtualTokens: 5\n") {
      #expect($0.context == longest - 5)
    }
  }

  @Test func `what is named stays, in the file and by flags`() throws {
    try read(model("vit") + "context: 256\n") { #expect($0.context == 256) }
    try read(model("vit"), ["context": .integer(9)]) { #expect($0.context == 9) }
    try read("model: nowhere\n") { #expect($0.context == RunConfiguration.usualContext) }
  }

  @Test func `a kept configuration says it, and is taken as it is`() throws {
    try withTemporaryFolder { folder in
      let file = folder.appendingPathComponent("run.yaml")
      try Data(model("vit").utf8).write(to: file)
      let first = try RunConfiguration.read(from: file, flags: [:])
      let kept = folder.appendingPathComponent("kept.yaml")
      try ConfigurationReader.yaml(first).write(to: kept)
      #expect(try String(contentsOf: kept, encoding: .utf8).contains("context: 17"))
      #expect(try RunConfiguration.read(from: kept, flags: [:]) == first)
    }
  }
}
