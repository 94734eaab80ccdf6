import Foundation
import PeatHub
import TestSupport
import Testing

@Suite("Hub cache beside Python's", .needsPeers) struct PythonCacheTests {
  private struct Answer: Decodable {
    var folder: String
    var found: [String: Bool]
  }

  private func ask(
    _ arguments: [String], _ environment: [String: String], in scratch: URL
  ) async throws -> Answer {
    let environment = [
      "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HOME": scratch.path,
    ].merging(environment) { $1 }
    return try JSONDecoder().decode(
      Answer.self,
      from: await PeerPython.run(
        "check_hub_cache.py", arguments, environment: environment, in: scratch))
  }

  @Test func `what is pulled here is found by huggingface_hub`() async throws {
    let hub = try FakeHub()
    try await withTemporaryFolder { folder in
      let cache = folder.appendingPathComponent("hub")
      let pulled = try await HubPull(hub.settings(cache)).pull(HubName(FakeHub.model))
      let answer = try await ask(
        ["read", cache.path, FakeHub.model] + pulled.files + ["absent.json"],
        ["HF_HUB_OFFLINE": "1"], in: folder)
      #expect(answer.folder == pulled.folder.path)
      for file in pulled.files { #expect(answer.found[file] == true, "\(file)") }
      #expect(answer.found["absent.json"] == false)
    }
  }

  @Test func `what huggingface_hub fetched is found here, and nothing is fetched again`()
    async throws
  {
    let hub = try FakeHub()
    try await withTemporaryFolder { folder in
      let cache = folder.appendingPathComponent("hub")
      let answer = try await ask(
        ["pull", cache.path, FakeHub.model], ["HF_ENDPOINT": hub.hub.url.absoluteString],
        in: folder)
      let found = try ModelFolder.url(FakeHub.model, cache: HubCache(cache))
      #expect(found.path == answer.folder)
      let result = try await HubPull(hub.settings(cache)).pull(HubName(FakeHub.model))
      #expect(result.fetchedBytes == 0)
      #expect(result.folder.path == answer.folder)
    }
  }
}
