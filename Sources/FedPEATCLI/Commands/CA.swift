import ArgumentParser
import FedPEAT
import Foundation

struct CA: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "ca",
    abstract: "Say who may take part: certificates and enrolment tokens.",
    discussion: """
      Examples: fedpeat ca init authority
                fedpeat ca token authority --run run-0 --count 4 > tokens.txt
                fedpeat serve run.yaml --ca authority --listen 0.0.0.0:50051
                fedpeat join --coordinator lab.example.org:50051 --token TOKEN --data mine.txt --name ada --folder work
                fedpeat ca revoke authority ada

      A coordinator that is given no authority uses the user's own, in ~/.local/state/fedpeat/ca ($FEDPEAT_HOME/ca where that is set).
      """,
    subcommands: [
      CAInit.self, CAIssue.self, CARevoke.self, CAToken.self, CAList.self,
    ])
}

/// The authority in a folder, and its book of who did what.
private struct Office {
  let authority: CertificateAuthority

  init(_ folder: String) throws { authority = try CertificateAuthority(folder: URL(path: folder)) }
  init(_ authority: CertificateAuthority) { self.authority = authority }

  func record(_ action: String, _ details: [String: String]) throws {
    let log = try AuditLog(authority.folder.appendingPathComponent("audit.jsonl"))
    log.record(.init(action, by: "owner", details: details))
    log.close()
  }
}

struct CAInit: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "init", abstract: "Make a certificate authority in a new folder.",
    discussion: "Example: fedpeat ca init authority")

  @Argument(help: "The folder; only you will be able to read it.") var folder: String

  @Option(help: "The authority's name in certificates.") var name = "FedPEAT"

  @Option(help: "For how many days it holds.") var days = CertificateAuthority.ownDays

  @OptionGroup var common: CommonOptions

  struct Report: Encodable {
    var folder: String
    var fingerprint: String
    var expires: Date
  }

  func run() async throws {
    let authority = try CertificateAuthority.create(
      at: URL(path: folder), name: name, days: days)
    try Office(authority).record("init", ["fingerprint": authority.fingerprint.hex])
    let report = Report(
      folder: folder, fingerprint: authority.fingerprint.hex,
      expires: authority.certificate.notValidAfter)
    try common.report(
      report,
      text: """
        authority    \(folder)
        fingerprint  \(report.fingerprint)
        expires      \(report.expires.formatted(.iso8601))

        Keep a copy of the folder where nobody else can read it: whoever has ca.key decides who takes part.
        """)
  }
}

struct CAIssue: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "issue", abstract: "Issue a certificate with a key, as PEM files.",
    discussion: """
      Examples: fedpeat ca issue authority ada --out ada
                fedpeat ca issue authority lab --server --host lab.example.org --host 192.0.2.7 --out lab
      """)

  @Argument(help: "The authority's folder.") var folder: String

  @Argument(help: "The client's name, or any name of a server.") var name: String

  @Flag(help: "For a coordinator.") var server = false

  @Option(
    help: "A name or address by which the server is reached; may be repeated; none if not given.")
  var host: [String] = []

  @Option(help: "For how many days it holds.") var days = CertificateAuthority.usualDays

  @Option(
    help:
      "The new folder for certificate.pem, key.pem and ca.pem; certificates/NAME in the authority's folder if not given."
  )
  var out: String?

  @OptionGroup var common: CommonOptions

  struct Report: Encodable {
    var name: String
    var kind: CertificateKind
    var serial: String
    var expires: Date
    var folder: String
  }

  func run() async throws {
    guard server || host.isEmpty else {
      throw PeatError.usage("--host is about a server's certificate: add --server.")
    }
    let office = try Office(folder)
    // It becomes part of a path: nothing that leads out of the authority's folder.
    let name = try ClientID(typed: name).name
    let place =
      out.map { URL(path: $0) }
      ?? office.authority.folder.appendingPathComponent("certificates/\(name)")
    guard !FileManager.default.fileExists(atPath: place.path) else {
      throw PeatError.inputOutput(
        "'\(place.path)' is there already and is left as it is. Name another folder with --out.")
    }
    let kind: CertificateKind = server ? .server : .client
    let identity = try office.authority.issue(kind, name: name, hosts: host, days: days)
    try identity.write(to: place)
    let serial = identity.certificate.serial
    try office.record(
      "issue",
      [
        "name": name, "kind": kind.rawValue, "certificate": serial,
        "hosts": host.joined(separator: " "),
      ]
    )
    let report = Report(
      name: name, kind: kind, serial: serial, expires: identity.certificate.notValidAfter,
      folder: place.path)
    try common.report(
      report,
      text: """
        \(kind.rawValue.padding(toLength: 12, withPad: " ", startingAt: 0)) \(name)
        serial       \(serial)
        expires      \(report.expires.formatted(.iso8601))
        folder       \(place.relativePath)
        """)
  }
}

struct CARevoke: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "revoke",
    abstract: "Take certificates and tokens back; coordinators hear of it at once.",
    discussion: """
      Examples: fedpeat ca revoke authority ada
                fedpeat ca revoke authority --token 6f0c2a9d41b7e358
      """)

  @Argument(help: "The authority's folder.") var folder: String

  @Argument(help: "A name, or a certificate's serial number.") var nameOrSerial: String?

  @Option(
    help:
      "A token that nobody used yet, as it was handed out or by its name in 'ca list'; may be repeated; none if not given."
  )
  var token: [String] = []

  @OptionGroup var common: CommonOptions

  struct Report: Encodable {
    struct One: Encodable {
      var name: String
      var serial: String
    }
    var revoked: [One]
    var tokens: [String]
  }

  func run() async throws {
    guard nameOrSerial != nil || !token.isEmpty else {
      throw PeatError.usage(
        "Name whose certificates are to be taken back, or a token: --token. Both stand in 'fedpeat ca list \(folder)'."
      )
    }
    let office = try Office(folder)
    // Before anything is done: all of it, or nothing.
    if nameOrSerial != nil, !token.isEmpty {
      throw PeatError.usage("Take back a name's certificates or tokens, one after the other.")
    }
    let revoked = try nameOrSerial.map { try office.authority.revoke($0) } ?? []
    for entry in revoked {
      try office.record("revoke", ["name": entry.name, "certificate": entry.serial])
    }
    let tokens = try office.authority.revokeTokens(token).map { token in
      try office.record("revoke", ["token": token.id, "run": token.run.name])
      return token.id
    }
    let lines =
      revoked.map { "revoked      \($0.name)  \($0.serial)" }
      + tokens.map { "revoked      token \($0)" }
    try common.report(
      Report(revoked: revoked.map { .init(name: $0.name, serial: $0.serial) }, tokens: tokens),
      text: lines.isEmpty
        ? "Nothing to revoke: it was revoked before." : lines.joined(separator: "\n"))
  }
}

struct CAToken: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "token", abstract: "Make enrolment tokens: each lets one client enrol in a run.",
    discussion: """
      Example: fedpeat ca token authority --run run-0 --expires 2d --count 4 > tokens.txt

      One token a line on standard output. A token is a secret: hand each to one client, over a way that you trust.
      """)

  @Argument(help: "The authority's folder; the user's own if not given.") var folder: String?

  @Option(help: "The run: run-SEED.") var run: String

  @Option(help: "For how long: 30m, 12h, 1d, 2w.") var expires = Lifetime.day

  @Option(help: "How many.") var count = 1

  @OptionGroup var common: CommonOptions

  struct Report: Encodable {
    var run: String
    var expires: Date
    var tokens: [String]
    /// Their names in 'ca list', in the same order.
    var ids: [String]
  }

  func run() async throws {
    guard (1...10_000).contains(count) else {
      throw PeatError.usage("--count is \(count); it must be between 1 and 10000.")
    }
    let run: RunID
    do { run = try RunID(self.run) } catch let error as PeatError {
      throw PeatError.usage(error.message)
    }
    let office =
      try folder.map { try Office($0) }
      ?? Office(.openOrCreate(at: CertificateAuthority.ownFolder()))
    var tokens: [String] = []
    var ids: [String] = []
    var end = Date()
    for _ in 0..<count {
      let token = try office.authority.makeToken(for: run, life: expires.duration)
      try office.record("token", ["token": token.id, "run": run.name])
      tokens.append(try token.text)
      ids.append(token.id)
      if count <= 20 { Terminal.note("token        \(token.id), for the run \(run)") }
      end = token.expiry
    }
    try common.report(
      Report(run: run.name, expires: end, tokens: tokens, ids: ids),
      text: tokens.joined(separator: "\n"))
  }
}

struct CAList: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "list", abstract: "Show what was issued, and which tokens were used.",
    discussion: "Example: fedpeat ca list authority")

  @Argument(help: "The authority's folder; the user's own if not given.") var folder: String?

  @OptionGroup var common: CommonOptions

  struct Report: Encodable {
    struct One: Encodable {
      var name: String
      var kind: CertificateKind
      var serial: String
      var expires: Date
      var token: String?
      var revoked: Bool
    }
    var fingerprint: String
    var certificates: [One]
    var tokens: [CertificateAuthority.TokenStatus]
  }

  func run() async throws {
    let office =
      try folder.map { try Office($0) }
      ?? Office(.openOrCreate(at: CertificateAuthority.ownFolder()))
    let issued = try office.authority.issued()
    let tokens = try office.authority.tokens()
    let report = Report(
      fingerprint: office.authority.fingerprint.hex,
      certificates: issued.map {
        .init(
          name: $0.name, kind: $0.kind, serial: $0.serial, expires: $0.expires, token: $0.token,
          revoked: $0.isRevoked)
      }, tokens: tokens)
    var rows = [["name", "kind", "serial", "until", ""]]
    for one in issued {
      rows.append([
        one.name, one.kind.rawValue, one.serial, one.expires.formatted(.iso8601),
        one.isRevoked ? "revoked" : one.expires < Date() ? "expired" : "",
      ])
    }
    var text = "fingerprint  \(report.fingerprint)\n\n" + Format.table(rows)
    if !tokens.isEmpty {
      let lines = tokens.map { token in
        [
          token.id, token.run.name, token.expires.formatted(.iso8601),
          token.usedBy.map { "used by \($0)" }
            ?? (token.revoked ? "revoked" : token.expires < Date() ? "expired" : "unused"),
        ]
      }
      text += "\n\n" + Format.table([["token", "run", "until", ""]] + lines)
    }
    try common.report(report, text: text)
  }
}
