import Foundation
import PeatEmulation
import PeatEvaluation
import PeatModels
import PeatTensor
import PeatTokenizers
import TestSupport
import Testing

/// A real model on real text, against published and PyTorch's figures.
@Suite("stories260K", .needsAssets("models/stories260K")) struct StoriesParityTests {
  private func load() throws -> (checkpoint: Checkpoint, tokenizer: Tokenizer) {
    let folder = try #require(ProjectFolders.asset("models/stories260K"))
    return (try Checkpoint(folder: folder), try Tokenizer(folder: folder))
  }

  @Test func `greedy text from the begin token`() throws {
    let (checkpoint, tokenizer) = try load()
    let model = try checkpoint.model()
    #expect(model.parameterCount == 260_032)
    var generator = try TextGenerator(
      model, prompt: [try #require(tokenizer.beginToken)], capacity: 60, settings: .init())
    let tokens = try (0..<59).compactMap { _ in try generator.next() }
    let expected =
      "Once upon a time, there was a little girl named Lily. She loved to play outside in the park."
    let text = tokenizer.decode(tokens, skipSpecialTokens: true)
    #expect(text.hasPrefix(expected), "\(text)")
  }

  @Test(.needsAssets("corpora/tinystories-1000"))
  func `perplexity of 200 stories, each on its own`() throws {
    let (checkpoint, tokenizer) = try load()
    let model = try checkpoint.model()
    let url = try #require(ProjectFolders.asset("corpora/tinystories-1000/tinystories_1000.json"))
    let stories = try JSONFile.read([String].self, from: url)
    let report = try PerplexityMeasure(context: 512, threads: 2, model: model).report(
      model, tokenizer: tokenizer, documents: stories, asDocuments: true, addBegin: true,
      limit: 200)
    #expect(report.tokens == 80862)
    #expect(abs(report.perplexity - 5.659) <= 0.001 * 5.659, "\(report)")
    #expect(abs(report.bitsPerByte - 1.2696) <= 0.001 * 1.2696, "\(report)")
  }

  @Test(.needsAssets("corpora/tinyshakespeare"))
  func `zero-shot perplexity on tinyshakespeare, in full and with a smaller middle`() throws {
    struct Reference: Decodable {
      let testTokens: Int
      let zeroShot: [String: Double]
    }
    let reference = try JSONFile.read(
      Reference.self,
      from: ProjectFolders.root.appendingPathComponent(
        "Tests/ParityTests/Reference/tinyshakespeare.json"))
    let (checkpoint, tokenizer) = try load()
    let model = try checkpoint.model()
    let url = try #require(ProjectFolders.asset("corpora/tinyshakespeare/input.txt"))
    let text = String(decoding: try JSONFile.bytes(of: url), as: UTF8.self)
    let test = String(text.suffix(60_000))
    let tokens = try tokenizer.encode(test, addSpecialTokens: false)
    #expect(tokens.count == reference.testTokens)
    let measure = try PerplexityMeasure(context: 256, threads: 2, model: model)

    func expectPerplexity(
      _ model: TransformerModel, wholeWindows: Bool = false, _ name: String
    ) throws {
      let loss = try measure.loss(model, rows: [tokens], wholeWindows: wholeWindows)
      let expected = try #require(reference.zeroShot[name])
      let found = exp(loss.mean)
      #expect(abs(found - expected) <= 1e-4 * expected, "\(name): \(found), PyTorch \(expected)")
    }
    try expectPerplexity(model, "fullZeroShot")
    try expectPerplexity(model, wholeWindows: true, "fullZeroShotWholeWindowsOnly")
    let report = try measure.report(
      model, tokenizer: tokenizer, documents: [test], asDocuments: false, addBegin: false)
    #expect(abs(report.perplexity - 150.43) <= 0.001 * 150.43, "\(report)")

    let split = try ModelSplit(bottom: 1, top: 1, of: model.blocks.count)
    for (recipe, name) in [("layer-drop=2", "1-2-1"), ("layer-drop=1", "1-1-1")] {
      let emulator = try EmulatorRecipe(recipe).makeEmulator(from: model, split: split)
      try expectPerplexity(emulator.model, "emulatorZeroShot.\(name)")
    }
  }
}
