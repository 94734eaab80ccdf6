import Foundation
import TestSupport
import Testing

@Suite("doctor on a federation") struct DoctorTests {
  /// What `doctor` says, by name of the check.
  private func checks(_ folder: URL, _ arguments: String...) async throws -> [String: [String: Any]]
  { try await checks(folder, arguments) }

  private func checks(_ folder: URL, _ arguments: [String]) async throws -> [String: [String: Any]]
  {
    let result = try await FedpeatCommand.run(["doctor", "--json"] + arguments, in: folder)
    let all = try #require(try result.object()["checks"] as? [[String: Any]])
    // Where something is missing it says so with its exit code, too, and names it.
    let missing = all.filter { $0["status"] as? String == "missing" }
    #expect(result.status == (missing.isEmpty ? 0 : 69), "\(result)")
    for check in missing { #expect(result.errors.contains(check["name"] as? String ?? "?")) }
    return Dictionary(all.compactMap { check in (check["name"] as? String).map { ($0, check) } }) {
      $1
    }
  }

  private func expect(
    _ check: [String: Any]?, _ status: String, saying: String...,
    sourceLocation: SourceLocation = #_sourceLocation
  ) {
    #expect(
      check?["status"] as? String == status, "\(check ?? [:])", sourceLocation: sourceLocation)
    let text = "\(check?["found"] ?? "") \(check?["advice"] ?? "")"
    for word in saying {
      #expect(text.contains(word), "\(text)", sourceLocation: sourceLocation)
    }
  }

  @Test func `it looks at certificates: dates, keys and chains`() async throws {
    try await withTemporaryFolder { folder in
      func ca(_ arguments: String...) async throws {
        _ = try await FedpeatCommand.succeed(["ca"] + arguments, in: folder)
      }
      try await ca("init", "authority")
      try await ca("issue", "authority", "ada", "--out", "ada")
      try await ca(
        "issue", "authority", "lab", "--server", "--host", "lab.example.org", "--out", "lab")
      func own(_ name: String, key: String? = nil, trust: String? = nil) async throws
        -> [String: Any]?
      {
        try await checks(
          folder, "--certificate", "\(name)/certificate.pem", "--key", "\(key ?? name)/key.pem",
          "--trust", "\(trust ?? name)/ca.pem")["certificate"]
      }
      expect(try await own("ada"), "ok", saying: "a client's", "valid until")
      expect(try await own("lab"), "ok", saying: "a server's")
      expect(try await own("ada", key: "lab"), "missing", saying: "The key in")
      try await ca("init", "other")
      try await ca("issue", "other", "bo", "--out", "bo", "--days", "3")
      expect(try await own("ada", trust: "bo"), "missing", saying: "another authority")
      expect(try await own("bo"), "warning", saying: "(2 days)", "Ask for a new one")
      expect(
        try await checks(folder, "--ca", "other")["authority"], "warning", saying: "bo", "ca token")
      expect(
        try await checks(folder, "--ca", "authority")["authority"], "ok", saying: "2 certificates")
      expect(try await checks(folder, "--ca", "nowhere")["authority"], "missing", saying: "ca init")
      expect(
        try await checks(folder, "--folder", "work")["device's certificate"], "missing",
        saying: "--token")
      try FileManager.default.createDirectory(
        at: folder.appendingPathComponent("work"), withIntermediateDirectories: true)
      try FileManager.default.copyItem(
        at: folder.appendingPathComponent("ada"), to: folder.appendingPathComponent("work/identity")
      )
      expect(try await checks(folder, "--folder", "work")["device's certificate"], "ok")
      // What was taken back is no good, whoever says so.
      let list = folder.appendingPathComponent("revoked.txt")
      let serial = try #require(
        FileManager.default.contentsOfDirectory(
          atPath: folder.appendingPathComponent("other/issued").path
        ).first { $0.hasSuffix(".json") }
      ).dropLast(5)
      let bo = [
        "--certificate", "bo/certificate.pem", "--key", "bo/key.pem", "--trust", "bo/ca.pem",
      ]
      try Data("\(serial)\n".utf8).write(to: list)
      expect(
        try await checks(folder, bo + ["--revoked", "revoked.txt"])["certificate"], "missing",
        saying: "was revoked")
      try await ca("revoke", "other", "bo")
      let revoked = try await checks(folder, bo + ["--ca", "other"])
      expect(revoked["certificate"], "missing", saying: "was revoked", String(serial))
      expect(revoked["authority"], "ok", saying: "1 revoked")
      expect(try await checks(folder, bo)["certificate"], "warning")
      try await CLITests.expect(
        64, saying: ["belong together"], from: ["doctor", "--key", "ada/key.pem"], in: folder)
    }
  }

  @Test func `it looks whether the port is free`() async throws {
    try await withWorkshop { workshop, folder in
      let file = folder.appendingPathComponent("address")
      let running = try RunningCommand(
        [
          "serve", workshop.runFile, "--rounds", "1", "--minimum-clients", "1", "--address-file",
          "address", "--ca", "authority",
        ], in: folder)
      func address() -> String {
        ((try? String(contentsOf: file, encoding: .utf8)) ?? "").trimmingCharacters(
          in: .whitespacesAndNewlines)
      }
      try await running.waits(for: "the address") { !address().isEmpty }
      let taken = address()
      expect(
        try await checks(folder, "--listen", taken)["address"], "missing",
        saying: "another program", "--listen")
      // Nothing keeps this run, and it says how it could be.
      #expect(running.errors.contains("not kept") && running.errors.contains("--store FOLDER"))
      running.send(SIGINT)
      _ = try await running.finish()
      expect(try await checks(folder, "--listen", taken)["address"], "ok", saying: "is free")
      expect(
        try await checks(folder, "--listen", "192.0.2.1:5000")["address"], "missing",
        saying: "no such address", "0.0.0.0")
    }
  }

  @Test func `it looks at the disk where runs are kept, and at the clock`() async throws {
    try await withTemporaryFolder { folder in
      try Data("x".utf8).write(to: folder.appendingPathComponent("file"))
      expect(
        try await checks(folder, "--store", "file")["disk of runs"], "missing", saying: "is a file")
      let plain = try await checks(folder, "--store", "result.runs")
      expect(plain["disk of runs"], "ok", saying: "free in")
      expect(plain["clock"], "ok")
      // An authority that says that it was made tomorrow: the clock is behind.
      _ = try await FedpeatCommand.succeed(["ca", "init", "authority"], in: folder)
      _ = try await FedpeatCommand.succeed(
        ["ca", "issue", "authority", "ada", "--out", "ada"], in: folder)
      let issued = folder.appendingPathComponent("authority/issued")
      let name = try #require(
        FileManager.default.contentsOfDirectory(atPath: issued.path).first)
      let place = issued.appendingPathComponent(name)
      let text = try String(contentsOf: place, encoding: .utf8)
      let tomorrow = Date(timeIntervalSinceNow: 86_400).formatted(.iso8601)
      let changed = text.replacing(/("issued"\s*:\s*)"[^"]*"/) { "\($0.1)\"\(tomorrow)\"" }
      #expect(changed != text)
      try Data(changed.utf8).write(to: place)
      expect(
        try await checks(folder, "--ca", "authority")["clock"], "warning",
        saying: "before the last certificate", "Set the clock")
    }
  }
}
