import Foundation
import PeatEvaluation
import PeatModels
import PeatTensor
import PeatTokenizers
import TestSupport
import Testing

@Suite("Embeddings of texts") struct EmbeddingParityTests {
  @Test func `are the means of the last states, each text by itself`() throws {
    let folder = ProjectFolders.golden.appendingPathComponent("families/bert")
    let tensors = try SafeTensorsFile(
      contentsOf: folder.appendingPathComponent("reference.safetensors")
    ).tensors()
    let (ids, states) = (try #require(tensors["input_ids"]), try #require(tensors["states"]))
    let (length, width) = (ids.shape[1], states.shape[2])
    let rows = (0..<ids.shape[0]).map { row in
      ids.scalars[row * length..<(row + 1) * length].map { Int32($0) }
    }
    let expected = (0..<rows.count).flatMap { row in
      (0..<width).map { column in
        (0..<length).reduce(Float(0)) {
          $0 + states.scalars[(row * length + $1) * width + column]
        } / Float(length)
      }
    }
    let model = try Checkpoint(folder: folder).model()
    let found = try TextEmbedder(model, threads: 2).embeddings(of: rows)
    expectClose(found, Tensor(expected, shape: [rows.count, width]), within: 1e-5, "means")
    let normalized = try TextEmbedder(model, isNormalized: true).embeddings(of: rows)
    for row in rows.indices {
      let values = normalized.rows(row..<row + 1).scalars
      #expect(abs(values.reduce(0) { $0 + $1 * $1 } - 1) < 1e-5)
    }
    let empty = #expect(throws: PeatError.self) { try TextEmbedder(model).embeddings(of: [[]]) }
    #expect(empty?.message.contains("no tokens") == true)
  }

  /// The real model and its tokenizer, beside transformers with the attention's mask.
  @Test(.needsPeers, .needsAssets("models/all-MiniLM-L6-v2"))
  func `MiniLM's are transformers'`() async throws {
    let folder = try #require(ProjectFolders.asset("models/all-MiniLM-L6-v2"))
    let texts = [
      "I am still waiting on my card?", "Größe, naïveté & 東京 🙂", "a",
      String(repeating: "very long words and more of them ", count: 60),
    ]
    try await withTemporaryFolder { scratch in
      let input = scratch.appendingPathComponent("texts.json")
      try JSONEncoder().encode(texts).write(to: input)
      let output = scratch.appendingPathComponent("embeddings.safetensors")
      _ = try await PeerPython.run(
        "embed.py", [folder.path, input.path, output.path], in: scratch)
      let expected = try #require(
        try SafeTensorsFile(contentsOf: output).tensors()["embeddings"])
      let found = try TextEmbedder(try Checkpoint(folder: folder).model(), context: 128)
        .embeddings(of: texts, tokenizer: try Tokenizer(folder: folder))
      expectClose(found, expected, within: 1e-4, "embeddings")
    }
  }
}
