import Foundation
import PeatEvaluation
import PeatModels
import PeatTensor
import TestSupport
import Testing

/// A tiny random checkpoint of each family, against what transformers computes of it (Tools/golden/families.py).
@Suite("Families agree with transformers") struct FamilyParityTests {
  static let names =
    (try? FileManager.default.contentsOfDirectory(
      atPath: ProjectFolders.golden.appendingPathComponent("families").path))?
    .filter { $0 != "manifest.json" }.sorted() ?? []

  @Test(arguments: names, [1, 2])
  func `logits, loss and all gradients`(name: String, threads: Int) throws {
    let folder = ProjectFolders.golden.appendingPathComponent("families/\(name)")
    let model = try Checkpoint(folder: folder).model()
    let reference = try ModelReference(
      contentsOf: folder.appendingPathComponent("reference.safetensors"))
    let found = try reference.agreement(of: model, threads: threads)
    #expect(found.logits <= 1e-4 && found.loss <= 1e-5 && found.gradient <= 1e-4, "\(found)")
    #expect(found.gradients == model.parameters.count)
  }

  @Test func `there is one of each architecture`() throws {
    let types = try Self.names.map { name in
      try Checkpoint(folder: ProjectFolders.golden.appendingPathComponent("families/\(name)"))
        .configuration.modelType
    }
    // GPT-2's are among the checkpoints.
    #expect(Set(types).union(["gpt2"]) == Set(Architectures.all.map { $0.modelType }))
  }

  /// Text that is generated token by token with a cache is what the whole sequence says.
  @Test(arguments: names) func `a cache changes nothing`(name: String) throws {
    let folder = ProjectFolders.golden.appendingPathComponent("families/\(name)")
    let model = try Checkpoint(folder: folder).model()
    // Models with an encoder have a test of their own.
    guard model.configuration.attention.isCausal, !model.configuration.hasEncoder,
      model.head?.layout.place == .each
    else { return }
    var tokens: [Int32] = [3, 14, 15, 9, 26]
    var generator = try TextGenerator(model, prompt: tokens, capacity: 40, settings: .init())
    for _ in 0..<20 {
      let next = try #require(try generator.next())
      let logits = model.logits(tokens, length: tokens.count)
      let last = logits.rows(tokens.count - 1..<tokens.count).scalars
      #expect(last[Int(next)] >= (last.max() ?? 0) - 1e-4)
      tokens.append(next)
    }
  }
}
