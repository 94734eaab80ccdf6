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
    var recipe = SentenceRecipe()
    recipe.isNormalized = true
    let normalized = try TextEmbedder(model, recipe: recipe).embeddings(of: rows)
    for row in rows.indices {
      let values = normalized.rows(row..<row + 1).scalars
      #expect(abs(values.reduce(0) { $0 + $1 * $1 } - 1) < 1e-5)
    }
    // The mean of nothing, as sentence-transformers divides no sum by its least count.
    let empty = try TextEmbedder(model, recipe: recipe).embeddings(of: [[], rows[0]])
    #expect(empty.rows(0..<1).scalars.allSatisfy { $0 == 0 })
    expectClose(empty.rows(1..<2), normalized.rows(0..<1), within: 1e-6, "beside none")
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

  /// What Tools/golden/sentences.py made with sentence-transformers.
  @Test func `every pooling is sentence-transformers'`() throws {
    let tensors = try SafeTensorsFile(
      contentsOf: ProjectFolders.golden.appendingPathComponent("sentences.safetensors")
    ).tensors()
    let states = try #require(tensors["states"])
    let (length, width) = (states.shape[1], states.shape[2])
    for pooling in SentencePooling.allCases {
      let expected = try #require(tensors[pooling.rawValue])
      for row in 0..<states.shape[0] {
        let found = pooling.vector(
          of: Array(states.scalars[row * length * width..<(row + 1) * length * width]),
          width: width)
        expectClose(
          Tensor(found, shape: [1, width]), expected.rows(row..<row + 1), within: 1e-5,
          pooling.rawValue)
      }
    }
  }

  @Test func `files beside the model say how`() throws {
    try withTemporaryFolder { folder in
      func write(_ text: String, _ name: String) throws {
        let url = folder.appendingPathComponent(name)
        try FileManager.default.createDirectory(
          at: url.deletingLastPathComponent(), withIntermediateDirectories: true)
        try Data(text.utf8).write(to: url)
      }
      func module(_ kind: String, _ path: String) -> String {
        #"{"type": "sentence_transformers.models.\#(kind)", "path": "\#(path)"}"#
      }
      #expect(try SentenceRecipe(folder: folder) == SentenceRecipe())
      try write(
        "[\(module("Transformer", "")), \(module("Pooling", "1_Pooling")), \(module("Normalize", "2_Normalize"))]",
        "modules.json")
      try write(
        #"{"pooling_mode_cls_token": true, "pooling_mode_max_tokens": true}"#,
        "1_Pooling/config.json")
      try write(
        #"{"max_seq_length": 7, "do_lower_case": true}"#, "sentence_bert_config.json")
      try write(
        #"{"prompts": {"query": "Q: "}, "default_prompt_name": "query"}"#,
        "config_sentence_transformers.json")
      var expected = SentenceRecipe()
      expected.poolings = [.first, .max]
      expected.isNormalized = true
      expected.longest = 7
      expected.isLowercased = true
      expected.prompt = "Q: "
      #expect(try SentenceRecipe(folder: folder) == expected)
      try write(#"{"pooling_mode": ["mean", "lasttoken"]}"#, "1_Pooling/config.json")
      #expect(try SentenceRecipe(folder: folder).poolings == [.mean, .last])
      func refused(_ word: String, sourceLocation: SourceLocation = #_sourceLocation) {
        let error = #expect(throws: PeatError.self, sourceLocation: sourceLocation) {
          try SentenceRecipe(folder: folder)
        }
        #expect(
          error?.code == .badData && error?.message.contains(word) == true,
          "\(error?.message ?? "no error")", sourceLocation: sourceLocation)
      }
      try write(#"{"pooling_mode": "median"}"#, "1_Pooling/config.json")
      refused("median")
      try write(
        #"{"pooling_mode_mean_tokens": true, "include_prompt": false}"#, "1_Pooling/config.json")
      refused("include_prompt")
      try write(#"{"pooling_mode_mean_tokens": true}"#, "1_Pooling/config.json")
      try write(
        "[\(module("Transformer", "")), \(module("Pooling", "1_Pooling")), \(module("Dense", "2_Dense"))]",
        "modules.json")
      refused("Dense")
    }
  }
}
