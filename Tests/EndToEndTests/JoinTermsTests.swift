import FedPEAT
import Foundation
import TestSupport
import Testing

/// Who sits at a terminal is asked once, before anything is downloaded; `script` makes the terminal.
@Suite(
  "Being asked",
  .enabled(
    if: FileManager.default.isExecutableFile(atPath: "/usr/bin/script"),
    "needs script, of util-linux, to make a terminal"))
struct JoinTermsTests {
  /// Gives an answer to a program at a terminal.
  private func answering(_ answer: String) -> [String] {
    ["sh", "-c", "\(answer) | script -qec \"$*\" /dev/null", "sh"]
  }

  @Test func `a no is taken, and a yes is remembered`() async throws {
    try await withTemporaryFolder { folder in
      let setting = try await FederationTests.Setting(
        folder, clients: 2, changing: ["minimumUpdates": "2"])
      let (client, other) = (setting.clients[0], setting.clients[1])
      let works = [client, other].map {
        folder.appendingPathComponent($0).appendingPathComponent("work")
      }
      // This one has said yes to this run before.
      try FileManager.default.createDirectory(at: works[1], withIntermediateDirectories: false)
      try Data("run-1\nrun-11\n".utf8).write(to: works[1].appendingPathComponent("agreed"))
      let (coordinator, address) = try await setting.serve()

      // Tasks are there as soon as both are.
      let again = try setting.join(other, address, through: answering("echo n"))
      // Also where the answer never comes.
      for answer in ["echo n", "true"] {
        let no = try await setting.join(client, address, through: answering(answer)).finish()
        #expect(no.status == 64, "\(no)")
        for text in ["to download", "what leaves", "Take part in 'run-11'?", "did not agree"] {
          #expect(no.output.contains(text), "\(text): \(no.output)")
        }
        let packages = works[0].appendingPathComponent("packages")
        #expect(try FileManager.default.contentsOfDirectory(atPath: packages.path).isEmpty)
      }
      let yes = try await setting.join(client, address, through: answering("echo y")).finish()
      #expect(yes.status == 0 && yes.output.contains("Take part in 'run-11'?"), "\(yes)")
      let agreed = works[0].appendingPathComponent("agreed")
      #expect(try String(contentsOf: agreed, encoding: .utf8) == "run-11\n")
      let asked = try await again.finish()
      #expect(asked.status == 0 && !asked.output.contains("Take part"), "\(asked)")
      #expect(asked.output.contains("what leaves"), "\(asked)")
      #expect(try await coordinator.finish().status == 0)
    }
  }
}
