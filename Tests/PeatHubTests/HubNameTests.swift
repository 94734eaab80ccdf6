import Foundation
import PeatHub
import PeatTensor
import TestSupport
import Testing

@Suite("HubName") struct HubNameTests {
  @Test func `names are an owner's, with a revision after the @`() throws {
    let plain = try HubName("openai-community/gpt2")
    #expect(plain.repository == "openai-community/gpt2" && plain.revision == "main")
    #expect(plain.folderName == "models--openai-community--gpt2")
    #expect("\(plain)" == "openai-community/gpt2")
    let other = try HubName("gpt2@refs/pr/1")
    #expect(other.repository == "gpt2" && other.revision == "refs/pr/1")
    #expect(other.folderName == "models--gpt2" && "\(other)" == "gpt2@refs/pr/1")
  }

  @Test(
    arguments: [
      "", "/", "a/", "/a", "a/b/c", "../x", "a/..", "..", ".", "a--b", "-a/b", "a/b.", "a b/c",
      "a/b.git", "a\\b", "ä/b", "a/b@", "a/b@..", "a/b@../../x", "a/b@/x", "a/b@x.lock", "a/b@x y",
      "~/x", "https://huggingface.co/a/b", String(repeating: "a", count: 97),
    ])
  func `what is no name is refused`(text: String) {
    expectError(.usage, "Expected") { _ = try HubName(text) }
  }
}

@Suite("HubSettings") struct HubSettingsTests {
  private let home = URL(fileURLWithPath: "/home/someone")

  @Test func `the variables are those that Python reads`() throws {
    let plain = try HubSettings(environment: [:], home: home)
    #expect(plain.endpoint.absoluteString == "https://huggingface.co")
    #expect(plain.cache.folder.path == "/home/someone/.cache/huggingface/hub")
    #expect(plain.token == nil && !plain.isOffline)
    let named = try HubSettings(
      environment: [
        "HF_ENDPOINT": "http://127.0.0.1:80/", "HF_HOME": "~/hf", "HF_TOKEN": " hf_x\n",
        "HF_HUB_OFFLINE": "yes", "XDG_CACHE_HOME": "/unused",
      ], home: home)
    #expect(named.cache.folder.path == "/home/someone/hf/hub")
    #expect(named.token == "hf_x" && named.isOffline)
    #expect(
      HubCache(environment: ["HF_HOME": "/a", "HF_HUB_CACHE": "/b"], home: home).folder.path == "/b"
    )
    #expect(
      HubCache(environment: ["XDG_CACHE_HOME": "/c"], home: home).folder.path
        == "/c/huggingface/hub")
    for address in ["huggingface.co", "ftp://x", "https://", "https://a?b", "not an address"] {
      expectError(.usage, "HF_ENDPOINT") {
        _ = try HubSettings(environment: ["HF_ENDPOINT": address], home: home)
      }
    }
  }

  @Test func `a token that was saved is found, unless that is switched off`() throws {
    try withTemporaryFolder { folder in
      try Data("hf_saved\n".utf8).write(to: folder.appendingPathComponent("token"))
      let environment = ["HF_HOME": folder.path]
      #expect(try HubSettings(environment: environment, home: home).token == "hf_saved")
      let off = environment.merging(["HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"]) { $1 }
      #expect(try HubSettings(environment: off, home: home).token == nil)
    }
  }
}
