import Foundation
import PeatHub
import PeatTensor
import TestSupport
import Testing

@Suite("ModelFolder") struct ModelFolderTests {
  /// A cache as Python lays it out, without blobs: plain files stand in the snapshots.
  private func makeCache(_ folder: URL) throws -> HubCache {
    func put(_ repository: String, _ reference: String, _ commit: Character, _ files: [String])
      throws
    {
      let place = folder.appendingPathComponent(repository)
      let commit = String(repeating: commit, count: 40)
      let snapshot = place.appendingPathComponent("snapshots/\(commit)")
      for url in [snapshot, place.appendingPathComponent("refs")] {
        try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
      }
      try Data(commit.utf8).write(to: place.appendingPathComponent("refs/\(reference)"))
      for file in files { try Data().write(to: snapshot.appendingPathComponent(file)) }
    }
    let whole = ["config.json", "model.safetensors"]
    try put("models--someone--tiny", "main", "a", whole)
    try put("models--someone--tiny", "v2", "b", whole)
    try put("models--other--twice", "main", "c", whole)
    try put("models--another--twice", "main", "d", whole)
    try put("models--gpt2", "main", "e", whole)
    try put("models--openai--gpt2", "main", "f", whole)
    try put("models--someone--half", "main", "1", ["config.json"])
    return HubCache(folder)
  }

  @Test func `names lead through references to snapshots`() throws {
    try withTemporaryFolder { folder in
      let cache = try makeCache(folder)
      func commit(_ text: String) throws -> String {
        try ModelFolder.url(text, cache: cache).lastPathComponent
      }
      #expect(try commit("someone/tiny") == String(repeating: "a", count: 40))
      #expect(try commit("someone/tiny@v2") == String(repeating: "b", count: 40))
      let sha = String(repeating: "b", count: 40)
      #expect(try commit("someone/tiny@\(sha)") == sha)
      // Without the owner, where there is one only; an old model without an owner is itself.
      #expect(try commit("tiny") == String(repeating: "a", count: 40))
      #expect(try commit("gpt2") == String(repeating: "e", count: 40))
      expectError(.usage, "another/twice, other/twice") { _ = try commit("twice") }
    }
  }

  @Test func `a path that is there wins, and what is no name stays a path`() throws {
    try withTemporaryFolder { folder in
      let cache = try makeCache(folder)
      #expect(try ModelFolder.url(folder.path, cache: cache).path == folder.path)
      #expect(try ModelFolder.url("/no/such/folder", cache: cache).path == "/no/such/folder")
      #expect(try ModelFolder.url("./x", cache: cache).lastPathComponent == "x")
    }
  }

  @Test func `what is not there says how to get it`() throws {
    try withTemporaryFolder { folder in
      let cache = try makeCache(folder)
      expectError(.inputOutput, "fedpeat pull someone/absent", folder.path) {
        _ = try ModelFolder.url("someone/absent", cache: cache)
      }
      expectError(.inputOutput, "Another revision", "fedpeat pull someone/tiny@v9") {
        _ = try ModelFolder.url("someone/tiny@v9", cache: cache)
      }
      expectError(.inputOutput, "only a part", "fedpeat pull someone/half") {
        _ = try ModelFolder.url("someone/half", cache: cache)
      }
    }
  }

  @Test func `what a pull that was interrupted left is called so`() throws {
    try withTemporaryFolder { folder in
      let place = folder.appendingPathComponent("models--someone--begun")
      let blobs = place.appendingPathComponent("blobs")
      try FileManager.default.createDirectory(at: blobs, withIntermediateDirectories: true)
      try Data("x".utf8).write(to: blobs.appendingPathComponent("abc.incomplete"))
      func check() throws {
        let error = #expect(throws: PeatError.self) {
          try ModelFolder.url("someone/begun", cache: HubCache(folder))
        }
        let message = try #require(error).message
        #expect(message.contains("only the beginning of 'someone/begun'"), "\(message)")
        #expect(message.contains("fedpeat pull someone/begun"))
        #expect(!message.contains("Another revision"))
      }
      try check()
      // The small files are there before the weights.
      let snapshot = place.appendingPathComponent("snapshots/\(String(repeating: "a", count: 40))")
      try FileManager.default.createDirectory(at: snapshot, withIntermediateDirectories: true)
      try Data("{}".utf8).write(to: snapshot.appendingPathComponent("config.json"))
      try check()
    }
  }

  @Test func `an adapter is named as a model is`() throws {
    try withTemporaryFolder { folder in
      let commit = String(repeating: "a", count: 40)
      let place = folder.appendingPathComponent("models--someone--lora")
      let snapshot = place.appendingPathComponent("snapshots/\(commit)")
      for url in [snapshot, place.appendingPathComponent("refs")] {
        try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
      }
      try Data(commit.utf8).write(to: place.appendingPathComponent("refs/main"))
      for name in ["adapter_config.json", "adapter_model.safetensors"] {
        try Data().write(to: snapshot.appendingPathComponent(name))
      }
      let cache = HubCache(folder)
      #expect(
        try ModelFolder.url("someone/lora", of: .adapter, cache: cache).lastPathComponent == commit)
      expectError(.inputOutput, "There is no adapter folder 'someone/absent'", "no adapter of that")
      {
        _ = try ModelFolder.url("someone/absent", of: .adapter, cache: cache)
      }
    }
  }

  @Test func `the user's folder is the one that HOME names`() throws {
    let cache = HubCache(environment: ["HOME": "/somewhere"])
    #expect(cache.folder.path == "/somewhere/.cache/huggingface/hub")
    #expect(
      HubCache(environment: ["HOME": "/somewhere", "HF_HOME": "~/hf"]).folder.path
        == "/somewhere/hf/hub")
    try withTemporaryFolder { folder in
      let place = folder.appendingPathComponent(".cache/huggingface")
      try FileManager.default.createDirectory(at: place, withIntermediateDirectories: true)
      try Data("hf_mine\n".utf8).write(to: place.appendingPathComponent("token"))
      #expect(try HubSettings(environment: ["HOME": folder.path]).token == "hf_mine")
    }
  }

  @Test func `a reference that is no commit leads nowhere`() throws {
    try withTemporaryFolder { folder in
      let cache = try makeCache(folder)
      let reference = folder.appendingPathComponent("models--someone--tiny/refs/main")
      for text in ["../../../..", "", "zz", String(repeating: "A", count: 40)] {
        try Data(text.utf8).write(to: reference)
        expectError(.inputOutput) { _ = try ModelFolder.url("someone/tiny", cache: cache) }
      }
    }
  }
}
