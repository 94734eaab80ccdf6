import Foundation
import Synchronization
import TestSupport
import Testing

@Suite("pull") struct PullTests {
  private func environment(_ hub: FakeHub, _ folder: URL) -> [String: String] {
    ["HF_ENDPOINT": hub.hub.url.absoluteString, "HF_HOME": folder.path, "HF_TOKEN": ""]
  }

  @Test func `gives the folder, once more without fetching, and offline`() async throws {
    let hub = try FakeHub()
    try await withTemporaryFolder { folder in
      var environment = environment(hub, folder)
      let first = try await FedpeatCommand.run(
        ["pull", FakeHub.model, "--json"], in: folder, environment: environment)
      #expect(first.status == 0, "\(first)")
      let result = try first.object()
      #expect(result["commit"] as? String == FakeHub.commit)
      #expect(result["licence"] as? String == "mit")
      #expect(result["bytes"] as? Int == result["fetchedBytes"] as? Int)
      let place = try #require(result["folder"] as? String)
      #expect(FileManager.default.fileExists(atPath: place + "/model.safetensors"))
      environment["HF_HUB_OFFLINE"] = "1"
      let again = try await FedpeatCommand.run(
        ["pull", FakeHub.model, "--json", "--quiet"], in: folder, environment: environment)
      #expect(try again.object()["fetchedBytes"] as? Int == 0)
      #expect(again.errors.isEmpty)
    }
  }

  @Test func `says by its exit code what was wrong`() async throws {
    let hub = try FakeHub()
    let rounded = try FakeHub(listed: ["config.json", "model.gguf"])
    let pickles = try FakeHub(listed: ["config.json", "pytorch_model.bin"])
    try await withTemporaryFolder { folder in
      for (name, server, status, words) in [
        ("../x", hub, 64, "no name of a model"), ("someone/else", hub, 64, "no model"),
        ("\(FakeHub.model)@v9", hub, 64, "no revision"),
        (FakeHub.model, pickles, 65, "A pickle runs code"),
        (FakeHub.model, rounded, 65, "gguf_file='model.gguf'"),
      ] as [(String, FakeHub, Int32, String)] {
        let result = try await FedpeatCommand.run(
          ["pull", name], in: folder, environment: environment(server, folder))
        #expect(result.status == status, "\(result)")
        #expect(result.errors.contains(words), "\(result)")
        #expect(result.output.isEmpty)
        expectNoCrash(result)
      }
      let offline = environment(hub, folder).merging(["HF_HUB_OFFLINE": "1"]) { $1 }
      let absent = try await FedpeatCommand.run(
        ["pull", "someone/absent"], in: folder, environment: offline)
      #expect(absent.status == 69, "\(absent)")
    }
  }

  @Test func `interrupted, it ends with 130 and goes on the next time`() async throws {
    // However often it asks while it is not interrupted yet.
    let isInterrupted = Mutex(false)
    let hub = try FakeHub { request, response, _ in
      var response = response
      if request.path.hasPrefix("/blob"), !isInterrupted.withLock({ $0 }) {
        response.stallAfter = 100_000
      }
      return response
    }
    try await withTemporaryFolder { folder in
      let environment = environment(hub, folder)
      let running = try RunningCommand(
        ["pull", FakeHub.model], in: folder, environment: environment)
      let blobs = folder.appendingPathComponent("hub/models--someone--tiny/blobs")
      let partial = blobs.appendingPathComponent(
        "\(FakeHub.sha256(FakeHub.weights(seed: 1))).incomplete")
      try await running.waits(for: "a part of the weights") {
        (try? Data(contentsOf: partial).count) ?? 0 > 0
      }
      running.send(SIGINT)
      let result = try await running.finish()
      #expect(result.status == 130, "\(result)")
      #expect(FileManager.default.fileExists(atPath: partial.path))
      isInterrupted.withLock { $0 = true }
      let again = try await FedpeatCommand.run(
        ["pull", FakeHub.model, "--json"], in: folder, environment: environment)
      #expect(again.status == 0, "\(again)")
      let fetched = try #require(try again.object()["fetchedBytes"] as? Int)
      #expect(fetched > 0 && fetched < 300_000)
    }
  }

  @Test func `a model that was not pulled says how to get it`() async throws {
    let hub = try FakeHub()
    try await withTemporaryFolder { folder in
      let result = try await FedpeatCommand.run(
        ["generate", "someone/absent"], in: folder, environment: environment(hub, folder))
      #expect(result.status == 74, "\(result)")
      #expect(result.errors.contains("fedpeat pull someone/absent"))
      #expect(hub.hub.requests.isEmpty)
    }
  }
}
