import FedPEAT
import Foundation
import TestSupport
import Testing

/// Coordinator and clients on either side of a link like a phone's far from its mast: 1 Mbit/s, 300 ms there and back, one packet in twenty lost.
@Suite(
  "A slow and lossy link", .serialized, .timeLimit(.minutes(30)),
  .enabled(
    if: SlowLink.isPossible,
    "needs root, ip, python3 and /dev/net/tun, to make network namespaces"))
struct SlowLinkTests {
  /// A run over the link comes to what the same run in one process comes to.
  private func run(
    _ options: String..., clients count: Int = 2, isCut: Bool = false
  ) async throws {
    try await withTemporaryFolder { folder in
      let setting = try await FederationTests.Setting(
        folder, clients: count, changing: ["minimumUpdates": "\(count)"])
      let authority = folder.appendingPathComponent("authority").path
      try await FedpeatCommand.succeed(["ca", "init", authority], in: folder)
      let tokens = try await FedpeatCommand.succeed(
        ["ca", "token", authority, "--run", "run-11", "--count", "\(count)"], in: folder
      ).output.split(separator: "\n").map(String.init)
      try #require(tokens.count == count)
      let link = try SlowLink(["--rate", "1e6", "--delay", "150", "--loss", "5"] + options)
      let (coordinator, address) = try await setting.serve(
        "--listen", "\(SlowLink.address):50051", "--ca", authority, through: link.coordinatorSide)
      let joined = try zip(setting.clients, tokens).map { client, token in
        try setting.join(client, address, "--token", token, through: link.clientSide)
      }
      let served = try await coordinator.finish(seconds: 900)
      #expect(served.status == 0, "\(served)")
      for client in joined {
        let ended = try await client.finish()
        #expect(ended.status == 0, "\(ended)")
        #expect(try ended.object()["updates"] as? Int == 3, "\(ended)")
      }
      // A link that moves is not dead.
      #expect(served.errors.contains("lost  ") == isCut, "\(served)")
      let carried = link.close()
      #expect(carried.contains("bytes carried"), "\(carried)")
      let (expected, _) = try await setting.simulate("simulated")
      #expect(try FederationTests.Setting.adapter(in: setting.result) == expected)
    }
  }

  @Test func `each round is made, and the adapter is the same`() async throws { try await run() }

  @Test(.tags(.long), .onlyWithAll)
  func `it is cut for half a minute, and the adapter is the same`() async throws {
    try await run("--cut", "8+30", isCut: true)
  }
}
