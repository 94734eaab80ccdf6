import Foundation
import TestSupport
import Testing

/// Who may take part, as the owner and the devices say it on the command line.
@Suite("Certificates and tokens on the command line", .serialized) struct SecurityTests {
  private func text(_ folder: URL, _ name: String) -> String? {
    (try? String(contentsOf: folder.appendingPathComponent(name), encoding: .utf8))
  }

  @Test func `an authority is made, issues, takes back and tells`() async throws {
    try await withTemporaryFolder { folder in
      func json(_ arguments: String...) async throws -> [String: Any] {
        try await FedpeatCommand.succeed(["ca"] + arguments + ["--json"], in: folder).object()
      }
      let made = try await json("init", "authority")
      let fingerprint = try #require(made["fingerprint"] as? String)
      #expect(fingerprint.count == 64)
      try await expect(
        74, saying: ["is there already"], from: ["ca", "init", "authority"], in: folder)
      let ada = try await json("issue", "authority", "ada", "--out", "ada")
      let serial = try #require(ada["serial"] as? String)
      for name in ["certificate.pem", "key.pem", "ca.pem"] {
        #expect(text(folder, "ada/\(name)")?.contains("-----BEGIN") == true)
      }
      try await expect(
        64, saying: [serial], from: ["ca", "issue", "authority", "ada", "--out", "x"], in: folder)
      try await expect(
        74, saying: ["is there already"],
        from: ["ca", "issue", "authority", "bo", "--out", "ada"], in: folder)
      try await expect(
        64, saying: ["--host"], from: ["ca", "issue", "authority", "lab", "--server"], in: folder)
      _ = try await json("issue", "authority", "lab", "--server", "--host", "lab.example.org")
      let tokens = try await json("token", "authority", "--run", "run-0", "--count", "3")
      #expect((tokens["tokens"] as? [String])?.count == 3)
      let revoked = try await json("revoke", "authority", "ada")
      #expect((revoked["revoked"] as? [[String: Any]])?.first?["serial"] as? String == serial)
      try await expect(
        64, saying: ["ca list"], from: ["ca", "revoke", "authority", "nobody"], in: folder)
      let list = try await json("list", "authority")
      #expect(list["fingerprint"] as? String == fingerprint)
      let certificates = try #require(list["certificates"] as? [[String: Any]])
      #expect(certificates.count == 2)
      #expect(certificates.count { $0["revoked"] as? Bool == true } == 1)
      #expect((list["tokens"] as? [Any])?.count == 3)
      let id = try #require((tokens["ids"] as? [String])?.first)
      let ids = (list["tokens"] as? [[String: Any]])?.compactMap { $0["id"] as? String }
      #expect(ids == (tokens["ids"] as? [String])?.sorted())
      let back = try await json("revoke", "authority", "--token", id)
      #expect(back["tokens"] as? [String] == [id] && (back["revoked"] as? [Any])?.isEmpty == true)
      let left = try #require(try await json("list", "authority")["tokens"] as? [[String: Any]])
      #expect(
        left.filter { $0["revoked"] as? Bool == true }.compactMap { $0["id"] as? String } == [id])
      try await expect(
        64, saying: ["no token", "ca list"], from: ["ca", "revoke", "authority", "--token", "x"],
        in: folder)
      try await expect(64, saying: ["--token"], from: ["ca", "revoke", "authority"], in: folder)
      let lines = try #require(text(folder, "authority/audit.jsonl")).split(separator: "\n")
      #expect(
        lines.count == 8, "made, two issued, three tokens, a certificate and a token taken back")
      try await expect(74, saying: ["ca init"], from: ["ca", "list", "elsewhere"], in: folder)
    }
  }

  @Test func `a device enrols with a token once, and comes back without one`() async throws {
    try await withWorkshop { workshop, folder in
      func serve(_ more: String...) async throws -> (RunningCommand, String) {
        let file = folder.appendingPathComponent("address")
        try? FileManager.default.removeItem(at: file)
        let running = try RunningCommand(
          [
            "serve", workshop.runFile, "--rounds", "1", "--minimum-clients", "1",
            "--address-file", "address",
          ] + more, in: folder)
        try await running.waits(for: "the address") {
          text(folder, "address")?.hasSuffix("\n") ?? false
        }
        let address = try #require(text(folder, "address"))
        return (running, address.trimmingCharacters(in: .whitespacesAndNewlines))
      }
      func join(_ address: String, _ more: String...) async throws -> CommandResult {
        try await FedpeatCommand.run(
          ["join", "--coordinator", address, "--data", workshop.text, "--retries", "2"] + more,
          in: folder)
      }
      let (first, there) = try await serve("--ca", "authority", "--out", "result")
      #expect(first.errors.contains("--token fedpeat1."))
      // A stranger of the same user is no client of this authority.
      let stranger = try await join(there)
      #expect(stranger.status == 64 && stranger.errors.contains("another authority"), "\(stranger)")
      let plain = try await join(there, "--insecure")
      #expect(plain.errors.contains("speaks TLS"), "\(plain)")
      let made = try await FedpeatCommand.succeed(
        ["ca", "token", "authority", "--run", runName(workshop)], in: folder)
      try Data(made.output.utf8).write(to: folder.appendingPathComponent("token"))
      let ada = try await join(there, "--token", "token", "--name", "ada", "--folder", "ada")
      #expect(ada.status == 0 && ada.errors.contains("enrolled     ada"), "\(ada)")
      #expect(try await first.finish().status == 0)
      let audit = try #require(text(folder, "result.audit.jsonl"))
      for action in ["serve", "enrol", "join", "offer", "update", "end"] {
        #expect(audit.contains("\"action\":\"\(action)\""), "\(action)")
      }
      let secret = made.output.trimmingCharacters(in: .whitespacesAndNewlines)
      #expect(!audit.contains(secret.dropFirst(20)))

      let (second, again) = try await serve("--ca", "authority")
      let used = try await join(again, "--token", "token", "--name", "bo", "--folder", "bo")
      #expect(used.status == 64 && used.errors.contains("used already"), "\(used)")
      let other = try await join(again, "--name", "eve", "--folder", "ada")
      #expect(other.status == 64 && other.errors.contains("that of 'ada'"), "\(other)")
      let back = try await join(again, "--folder", "ada")
      #expect(back.status == 0, "\(back)")
      #expect(try await second.finish().status == 0)

      let (third, last) = try await serve("--ca", "authority")
      try await FedpeatCommand.succeed(["ca", "revoke", "authority", "ada"], in: folder)
      let revoked = try await join(last, "--folder", "ada")
      #expect(revoked.status == 64 && revoked.errors.contains("was revoked"), "\(revoked)")
      third.send(SIGTERM)
      #expect(try await third.finish().status == 130)
    }
  }

  @Test func `PEM files of one's own, and no TLS at all`() async throws {
    try await withWorkshop { workshop, folder in
      func ca(_ arguments: String...) async throws {
        try await FedpeatCommand.succeed(["ca"] + arguments, in: folder)
      }
      func round(_ serve: [String], _ join: [String]) async throws -> CommandResult {
        let file = folder.appendingPathComponent("address")
        try? FileManager.default.removeItem(at: file)
        let running = try RunningCommand(
          [
            "serve", workshop.runFile, "--rounds", "1", "--minimum-clients", "1",
            "--address-file", "address",
          ] + serve, in: folder)
        try await running.waits(for: "the address") {
          text(folder, "address")?.hasSuffix("\n") ?? false
        }
        let address = try #require(text(folder, "address"))
          .trimmingCharacters(in: .whitespacesAndNewlines)
        let result = try await FedpeatCommand.run(
          ["join", "--coordinator", address, "--data", workshop.text] + join, in: folder)
        if result.status != 0 { running.send(SIGTERM) }
        let served = try await running.finish()
        #expect(served.status == (result.status == 0 ? 0 : 130), "\(served)")
        return result
      }
      try await ca("init", "authority")
      try await ca("issue", "authority", "lab", "--server", "--host", "127.0.0.1", "--out", "lab")
      try await ca("issue", "authority", "ada", "--out", "ada")
      func files(_ folder: String) -> [String] {
        [
          "--certificate", "\(folder)/certificate.pem", "--key", "\(folder)/key.pem", "--trust",
          "\(folder)/ca.pem",
        ]
      }
      let ada = try await round(files("lab"), files("ada"))
      #expect(ada.status == 0, "\(ada)")
      let wrong = try await round(files("lab"), files("lab"))
      #expect(wrong.status == 65 && wrong.errors.contains("not a client's"), "\(wrong)")
      let plain = try await round(["--insecure"], ["--insecure"])
      #expect(plain.status == 0, "\(plain)")
      let careful = try await round(["--insecure"], [])
      #expect(
        careful.status == 64 && careful.errors.contains("does not speak TLS"), "\(careful)")
    }
  }

  /// The name of the workshop's run.
  private func runName(_ workshop: TinyWorkshop) -> String {
    let text = (try? String(contentsOfFile: workshop.runFile, encoding: .utf8)) ?? ""
    let seed = text.split(separator: "\n").first { $0.hasPrefix("seed:") }
      .map { $0.dropFirst(5).trimmingCharacters(in: .whitespaces) }
    return "run-\(seed ?? "0")"
  }
}
