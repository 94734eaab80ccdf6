import Foundation
import PeatFederation
import PeatSecurity
import PeatTensor
import TestSupport
import Testing

import enum Crypto.P256

@Suite("CertificateAuthority") struct CertificateAuthorityTests {
  @Test func `lies in a folder that nobody else may read, and is never made over another`() throws {
    try withTemporaryFolder { folder in
      let place = folder.appendingPathComponent("ca")
      let made = try CertificateAuthority.create(at: place)
      func mode(_ name: String) throws -> Int? {
        let path = place.appendingPathComponent(name).path
        return try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? Int
      }
      #expect(try mode("") == 0o700)
      #expect(try mode("ca.key") == 0o600)
      #expect(try CertificateAuthority(folder: place).fingerprint == made.fingerprint)
      let error = #expect(throws: PeatError.self) { try CertificateAuthority.create(at: place) }
      #expect(error?.code == .inputOutput)
      #expect(try CertificateAuthority(folder: place).fingerprint == made.fingerprint)
      #expect(try CertificateAuthority.openOrCreate(at: place).fingerprint == made.fingerprint)
      #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path) == ["ca"])
      // A clock that shows a time before it is not that of one that has expired.
      for (years, words) in [(-2.0, "valid only from"), (20, "was valid until")] {
        let now = Date(timeIntervalSinceNow: years * 366 * 86_400)
        let error = #expect(throws: PeatError.self) {
          try CertificateAuthority(folder: place, now: now)
        }
        #expect(error?.message.contains(words) == true)
      }
      // Others may read the key: it is not used.
      let key = place.appendingPathComponent("ca.key").path
      try FileManager.default.setAttributes([.posixPermissions: 0o644], ofItemAtPath: key)
      let open = #expect(throws: PeatError.self) { try CertificateAuthority(folder: place) }
      #expect(open?.message.contains("chmod go=") == true)
    }
  }

  @Test func `issues under a name once, until it is revoked or expired`() throws {
    try withTemporaryFolder { folder in
      let authority = try CertificateAuthority.create(at: folder.appendingPathComponent("ca"))
      let ada = try authority.issue(.client, name: "ada", days: 10)
      #expect(try ada.client == "ada")
      let taken = #expect(throws: PeatError.self) { try authority.issue(.client, name: "ada") }
      #expect(taken?.message.contains(ada.certificate.serial) == true)
      for bad in ["", "a/b", "../x", "server", "ä"] {
        #expect(throws: PeatError.self) { try authority.issue(.client, name: bad) }
      }
      #expect(try authority.revoke("ada").map(\.serial) == [ada.certificate.serial])
      #expect(authority.isRevoked(ada.certificate.serial))
      #expect(try authority.revoke(ada.certificate.serial) == [])
      #expect(throws: PeatError.self) { try authority.revoke("bo") }
      _ = try authority.issue(.client, name: "ada")
      let past = Date(timeIntervalSinceNow: -20 * 86_400)
      let old = try authority.issue(.client, name: "cy", days: 10, now: past)
      _ = try authority.issue(.client, name: "cy")
      #expect(throws: PeatError.self) { try old.check(as: .client) }
      #expect(try authority.issued().map(\.name).sorted() == ["ada", "ada", "cy", "cy"])
    }
  }

  @Test func `a chain is believed only for what it is, of whom, when and where`() async throws {
    try await withTemporaryFolder { folder in
      let authority = try CertificateAuthority.create(at: folder.appendingPathComponent("ca"))
      let other = try CertificateAuthority.create(at: folder.appendingPathComponent("other"))
      let verifier = CertificateVerifier(.authorities([authority.certificate]))
      let client = try authority.issue(.client, name: "ada")
      let server = try authority.issue(
        .server, name: "lab", hosts: ["lab.example.org", "192.0.2.7", "::1"])
      _ = try await verifier.verify(client.chain)
      for host in ["lab.example.org", "192.0.2.7", "::1"] {
        _ = try await verifier.verify(server.chain, host: host)
      }
      func refused(
        _ identity: Identity, host: String? = nil, because reason: String,
        sourceLocation: SourceLocation = #_sourceLocation
      ) async {
        let error = await #expect(
          throws: CertificateProblem.self, sourceLocation: sourceLocation
        ) { try await verifier.verify(identity.chain, host: host) }
        #expect(
          error?.description.contains(reason) == true, "\(String(describing: error))",
          sourceLocation: sourceLocation)
      }
      await refused(server, because: "not a client's")
      await refused(client, host: "lab.example.org", because: "not a server's")
      await refused(server, host: "127.0.0.1", because: "192.0.2.7")
      await refused(server, host: "evil.example.org", because: "lab.example.org")
      await refused(try other.issue(.client, name: "eve"), because: "another authority")
      let past = Date(timeIntervalSinceNow: -400 * 86_400)
      await refused(
        try authority.issue(.client, name: "old", now: past), because: "expired")
      // At first contact the fingerprint says whom to believe.
      let pinned = CertificateVerifier(.fingerprint(authority.fingerprint))
      let shown = server.chain + [authority.certificate]
      _ = try await pinned.verify(shown, host: "::1")
      await #expect(throws: CertificateProblem.self) {
        try await pinned.verify(server.chain, host: "::1")
      }
      await #expect(throws: CertificateProblem.self) {
        try await CertificateVerifier(.fingerprint(other.fingerprint)).verify(shown, host: "::1")
      }
      // The authority itself, shown beside a certificate of another, makes that no better.
      let foreign = try other.issue(.server, name: "x", hosts: ["::1"])
      await #expect(throws: CertificateProblem.self) {
        try await pinned.verify(foreign.chain + [authority.certificate], host: "::1")
      }
    }
  }

  @Test(.enabled(if: FileManager.default.isExecutableFile(atPath: "/usr/bin/openssl")))
  func `openssl reads and verifies what it issues`() throws {
    try withTemporaryFolder { folder in
      let authority = try CertificateAuthority.create(at: folder.appendingPathComponent("ca"))
      let ada = folder.appendingPathComponent("ada")
      try authority.issue(.client, name: "ada").write(to: ada)
      let lab = folder.appendingPathComponent("lab")
      try authority.issue(.server, name: "lab", hosts: ["lab.example.org", "192.0.2.7"])
        .write(to: lab)
      func openssl(_ arguments: String...) throws -> (Int32, String) {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/openssl")
        process.arguments = arguments
        let pipe = Pipe()
        process.standardOutput = pipe
        process.standardError = FileHandle.nullDevice
        try process.run()
        let data = pipe.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        return (process.terminationStatus, String(decoding: data, as: UTF8.self))
      }
      let root = authority.folder.appendingPathComponent("ca.pem").path
      for (place, purpose) in [(ada, "sslclient"), (lab, "sslserver")] {
        let (status, said) = try openssl(
          "verify", "-x509_strict", "-CAfile", root, "-purpose", purpose,
          place.appendingPathComponent("certificate.pem").path)
        #expect(status == 0 && said.contains("OK"), "\(said)")
      }
      let (wrong, _) = try openssl(
        "verify", "-CAfile", root, "-purpose", "sslserver",
        ada.appendingPathComponent("certificate.pem").path)
      #expect(wrong != 0)
      let (_, text) = try openssl(
        "x509", "-in", lab.appendingPathComponent("certificate.pem").path, "-noout", "-text")
      #expect(text.contains("DNS:lab.example.org, IP Address:192.0.2.7"))
      let (status, key) = try openssl(
        "ec", "-in", ada.appendingPathComponent("key.pem").path, "-noout", "-text")
      #expect(status == 0 && key.contains("prime256v1"))
    }
  }
}

@Suite("The user's own authority") struct OwnAuthorityTests {
  @Test func `lies where the environment says`() {
    let home = URL(fileURLWithPath: "/home/ada")
    func folder(_ environment: [String: String]) -> String {
      CertificateAuthority.ownFolder(environment: environment, home: home).path
    }
    #expect(folder([:]) == "/home/ada/.local/state/fedpeat/ca")
    #expect(folder(["XDG_STATE_HOME": "/s"]) == "/s/fedpeat/ca")
    #expect(folder(["XDG_STATE_HOME": "/s", "FEDPEAT_HOME": "/f"]) == "/f/ca")
    #expect(folder(["FEDPEAT_HOME": ""]) == "/home/ada/.local/state/fedpeat/ca")
  }

  @Test func `is one, however many make it at once`() async throws {
    try await withTemporaryFolder { folder in
      let place = folder.appendingPathComponent("deep/er/ca")
      let fingerprints = try await withThrowingTaskGroup(of: String.self) { group in
        for _ in 0..<16 {
          group.addTask { try CertificateAuthority.openOrCreate(at: place).fingerprint.hex }
        }
        return try await group.reduce(into: Set<String>()) { $0.insert($1) }
      }
      #expect(fingerprints.count == 1)
      let names = try FileManager.default.contentsOfDirectory(
        atPath: place.deletingLastPathComponent().path)
      #expect(names == ["ca"])
    }
  }

  @Test func `what is printed of an identity or a token is no secret`() throws {
    try withTemporaryFolder { folder in
      let authority = try CertificateAuthority.create(at: folder.appendingPathComponent("ca"))
      let identity = try authority.issueForThisProcess(.client, name: "ada")
      #expect("\(identity)" == "'ada', certificate \(identity.certificate.serial)")
      let token = try authority.makeToken(for: "run-0")
      #expect(!"\(token) \(String(reflecting: token))".contains(token.proof.secret))
    }
  }
}

@Suite("Enrolment tokens") struct EnrolmentTests {
  struct Office {
    let authority: CertificateAuthority
    let key = P256.Signing.PrivateKey()

    init(_ folder: URL) throws {
      authority = try CertificateAuthority.create(at: folder.appendingPathComponent("ca"))
    }

    func enrol(
      _ token: EnrolmentToken, as client: ClientID = "ada", key: P256.Signing.PrivateKey? = nil,
      run: RunID = "run-0", here: RunID = "run-0", now: Date = Date(),
      change: (inout EnrolmentRequest.Proof) -> Void = { _ in }
    ) throws -> String {
      var request = EnrolmentRequest(proof: token.proof, client: client, run: run)
      change(&request.proof)
      return try authority.enrol(
        request, key: (key ?? self.key).publicKey.derRepresentation, run: here, now: now
      ).serial
    }
  }

  private func refuses(
    _ reason: String, sourceLocation: SourceLocation = #_sourceLocation,
    _ body: () throws -> String
  ) {
    let error = #expect(throws: PeatError.self, sourceLocation: sourceLocation) { try body() }
    #expect(error?.code == .usage, sourceLocation: sourceLocation)
    #expect(
      error?.message.contains(reason) == true, "\(String(describing: error))",
      sourceLocation: sourceLocation)
  }

  @Test func `a token is good once, for one key, one name and one run, until it expires`() throws {
    try withTemporaryFolder { folder in
      let office = try Office(folder)
      let token = try office.authority.makeToken(for: "run-0", life: .seconds(3600))
      #expect(try EnrolmentToken(try token.text) == token)
      refuses("does not know") { try office.enrol(token) { $0.secret += "x" } }
      refuses("does not know") { try office.enrol(token) { $0.secret = "" } }
      refuses("does not know") { try office.enrol(token) { $0.token = "../../../../x1" } }
      refuses("does not know") { try office.enrol(token) { $0.token = "0123456789abcdef" } }
      refuses("is for the run") { try office.enrol(token, here: "run-1") }
      refuses("is for the run") { try office.enrol(token, run: "run-1", here: "run-1") }
      refuses("the coordinator's own") { try office.enrol(token, as: .server) }
      let late = Date(timeIntervalSinceNow: 3601)
      refuses("expired") { try office.enrol(token, now: late) }
      let serial = try office.enrol(token)
      // The answer was lost: the same key gets the same certificate. Nobody else does.
      #expect(try office.enrol(token) == serial)
      refuses("used already") { try office.enrol(token, key: P256.Signing.PrivateKey()) }
      refuses("used already") { try office.enrol(token, as: "bo") }
      // A name that is taken can't be had with another token, until it is revoked.
      let second = try office.authority.makeToken(for: "run-0")
      let key = P256.Signing.PrivateKey()
      refuses("is taken") { try office.enrol(second, key: key) }
      _ = try office.authority.revoke("ada")
      refuses("used already") { try office.enrol(token) }
      _ = try office.enrol(second, key: key)
      #expect(try office.authority.tokens().map(\.usedBy) == ["ada", "ada"])
    }
  }

  @Test func `a token is taken back until it is used`() throws {
    try withTemporaryFolder { folder in
      let office = try Office(folder)
      let (used, unused) = (
        try office.authority.makeToken(for: "run-0"), try office.authority.makeToken(for: "run-0")
      )
      _ = try office.enrol(used)
      func revoke(_ texts: String...) throws -> String {
        try office.authority.revokeTokens(texts).map(\.id).joined(separator: " ")
      }
      // All of them, or none.
      refuses("no token of this authority") { try revoke(unused.id, "0123456789abcdef") }
      #expect(try office.authority.tokens().allSatisfy { !$0.revoked })
      // By what was handed out, too.
      #expect(try revoke(try unused.text, unused.id) == unused.id)
      #expect(try revoke(unused.id) == "")
      refuses("was taken back") { try office.enrol(unused, as: "bo") }
      refuses("was used by 'ada'") { try revoke(used.id) }
      for wrong in ["0123456789abcdef", "../ca", ""] {
        refuses("no token of this authority") { try revoke(wrong) }
      }
      let tokens = try office.authority.tokens()
      #expect(Set(tokens.filter(\.revoked).map(\.id)) == [unused.id])
    }
  }

  @Test func `the secret is not kept`() throws {
    try withTemporaryFolder { folder in
      let office = try Office(folder)
      let token = try office.authority.makeToken(for: "run-0")
      _ = try office.enrol(token)
      let files = try #require(
        FileManager.default.enumerator(atPath: office.authority.folder.path)
      ).compactMap { $0 as? String }
      var seen = 0
      for name in files {
        let data = try? Data(contentsOf: office.authority.folder.appendingPathComponent(name))
        guard let data else { continue }
        seen += 1
        #expect(!String(decoding: data, as: UTF8.self).contains(token.proof.secret), "\(name)")
      }
      #expect(seen >= 5)
    }
  }

  @Test func `of several that use a token at once one has it`() async throws {
    try await withTemporaryFolder { folder in
      let office = try Office(folder)
      let token = try office.authority.makeToken(for: "run-0")
      let done = await withTaskGroup(of: Bool.self) { group in
        for number in 0..<8 {
          group.addTask {
            (try? office.enrol(
              token, as: ClientID("client-\(number)"), key: P256.Signing.PrivateKey())) != nil
          }
        }
        return await group.reduce(0) { $0 + ($1 ? 1 : 0) }
      }
      #expect(done == 1)
    }
  }

  @Test(arguments: ["", "fedpeat1.", "fedpeat1.AAAA", "fedpeat2.e30", "fedpeat1.e30", "hello"])
  func `a text that is none is refused`(text: String) {
    let error = #expect(throws: PeatError.self) { try EnrolmentToken(text) }
    #expect(error?.code == .usage)
  }
}

@Suite("AuditLog") struct AuditLogTests {
  @Test func `has a line for each thing, and does not grow with refusals`() throws {
    try withTemporaryFolder { folder in
      let file = folder.appendingPathComponent("audit.jsonl")
      let first = try AuditLog(file)
      first.record(.init("join", by: "ada", certificate: "01ff", from: "ipv4:127.0.0.1:5"))
      first.close()
      let log = try AuditLog(file)
      for number in 0..<1000 {
        log.record(
          .init("call", by: "eve\n{", .refused, details: ["reason": "no \(number)"]))
      }
      log.close()
      let lines = String(decoding: try Data(contentsOf: file), as: UTF8.self)
        .split(separator: "\n")
      #expect(lines.count == 102)
      let entries = try lines.map { line in
        try #require(
          try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])
      }
      #expect(entries[0]["who"] as? String == "ada")
      #expect(entries[0]["certificate"] as? String == "01ff")
      #expect(entries[1]["result"] as? String == "refused")
      #expect((entries[101]["details"] as? [String: String])?["notListed"] == "900")
    }
  }
}
