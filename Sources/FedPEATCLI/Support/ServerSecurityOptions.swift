import ArgumentParser
import FedPEAT
import Foundation

/// How `serve` protects its connections, whom it lets in, and what it writes down of them.
struct ServerSecurityOptions: ParsableArguments {
  @Option(
    help:
      "The certificate authority's folder, made where it is missing; the user's own if not given.")
  var ca: String?

  @Option(
    help:
      "A further name or address by which the coordinator is reached, for its certificate; may be repeated; none if not given."
  )
  var host: [String] = []

  @Option(
    help:
      "A certificate of your own in PEM, with --key and --trust; one of the authority if not given."
  )
  var certificate: String?

  @Option(help: "Its key, in PEM; one of the authority's making if not given.")
  var key: String?

  @Option(
    help: "Whose certificates clients must have, in PEM; the authority's if not given.")
  var trust: String?

  @Option(
    help:
      "A file with serial numbers of certificates that were revoked, one a line in hexadecimal or as openssl prints them, for --certificate; none if not given."
  )
  var revoked: String?

  @Flag(help: "Do without TLS: anybody on the way can read and change what travels.")
  var insecure = false

  @Option(
    help:
      "Write who did what to this file; beside --out as OUT.audit.jsonl, or in the authority's folder, if not given."
  )
  var audit: String?

  @Option(help: "Connections at a time. (default: \(ServerLimits.usual.connections))")
  var maxConnections: Int?

  @Option(
    help:
      "Connections at a time that have not said whose they are; from one address a quarter of it. (default: \(ServerLimits.usual.strangers))"
  )
  var maxStrangers: Int?

  @Option(
    help:
      "Seconds in which a connection must say whose it is. (default: \(Int(ServerLimits.usual.introduction.seconds)))"
  )
  var identifyWithin: Double?

  @Option(
    help: "Calls of a client per second, over time. (default: \(Int(ServerLimits.usual.callRate)))")
  var maxCalls: Int?

  @Option(
    help: "Uploads and downloads of a client at a time. (default: \(ServerLimits.usual.transfers))")
  var maxTransfers: Int?

  @Option(
    help:
      "Uploads and downloads of all clients at a time. (default: \(ServerLimits.usual.totalTransfers))"
  )
  var maxTotalTransfers: Int?

  var limits: ServerLimits {
    get throws {
      var limits = ServerLimits()
      if let maxConnections { limits.connections = maxConnections }
      if let maxStrangers {
        limits.strangers = maxStrangers
        limits.strangersOfAddress = max(1, maxStrangers / 4)
      }
      if let identifyWithin {
        guard (1...3600).contains(identifyWithin) else {
          throw PeatError.usage(
            "--identify-within is \(identifyWithin); it must be between 1 and 3600 seconds.")
        }
        limits.introduction = .seconds(identifyWithin)
      }
      if let maxCalls {
        limits.callRate = Double(maxCalls)
        limits.callBurst = 4 * limits.callRate
      }
      if let maxTransfers { limits.transfers = maxTransfers }
      if let maxTotalTransfers { limits.totalTransfers = maxTotalTransfers }
      try limits.validate()
      return limits
    }
  }

  /// What was decided, before any work.
  struct Decision {
    var security: ServerSecurity
    var authority: CertificateAuthority?
    var isOwn = false
    var audit: AuditLog?

    /// What the coordinator shows; `nil` without TLS.
    var identity: Identity? {
      if case .mutualTLS(let credentials) = security { credentials.identity } else { nil }
    }
  }

  func decide(_ configuration: RunConfiguration) throws -> Decision {
    let own = [certificate, key, trust]
    let address = try NetworkAddress(configuration.listen)
    try CoordinatorServer.check(address)
    if configuration.insecure {
      guard ca == nil, host.isEmpty, own.allSatisfy({ $0 == nil }) else {
        throw PeatError.usage("--insecure does without certificates: leave the others out.")
      }
      Terminal.caution(
        "without TLS (--insecure) anybody on the way can read and change what travels, and take part under any name"
      )
      return Decision(
        security: .plaintext, audit: try openAudit(beside: configuration.out, in: nil))
    }
    if let certificate, let key, let trust {
      guard ca == nil, host.isEmpty else {
        throw PeatError.usage(
          "--ca and --host make a certificate; you gave one with --certificate.")
      }
      let identity = try Identity(
        certificate: URL(path: certificate), key: URL(path: key), trust: URL(path: trust))
      let list = try revoked.map {
        try RevocationFile(URL(path: $0)) { Terminal.warning($0) }
      }
      return Decision(
        security: .mutualTLS(
          try ServerCredentials(identity, isRevoked: { list?.contains($0) ?? false })),
        audit: try openAudit(beside: configuration.out, in: nil))
    }
    guard own.allSatisfy({ $0 == nil }), revoked == nil else {
      throw PeatError.usage(
        "--certificate, --key and --trust belong together; --revoked goes with them.")
    }
    let authority = try CertificateAuthority.openOrCreate(
      at: ca.map { URL(path: $0) } ?? CertificateAuthority.ownFolder())
    let credentials = try ServerCredentials(
      authority, run: try configuration.runID, hosts: address.reachableHosts + host)
    return Decision(
      security: .mutualTLS(credentials), authority: authority, isOwn: ca == nil,
      audit: try openAudit(beside: configuration.out, in: authority.folder))
  }

  private func openAudit(beside out: String?, in folder: URL?) throws -> AuditLog? {
    let place =
      audit.map { URL(path: $0) } ?? out.map { URL(path: $0 + ".audit.jsonl") }
      ?? folder?.appendingPathComponent("audit.jsonl")
    return try place.map { try AuditLog($0, onFailure: { Terminal.caution($0) }) }
  }

  /// Says how to join, once clients can.
  func tellHowToJoin(_ decision: Decision, _ address: NetworkAddress, _ run: RunID) throws {
    guard !Terminal.isQuiet, let authority = decision.authority else { return }
    Terminal.note(
      "authority    \(authority.fingerprint.short)…, in '\(authority.folder.relativePath)'")
    let any = ["0.0.0.0", "::"].contains(address.host)
    let reached =
      any
      ? host.first ?? address.reachableHosts.first { !NetworkAddress(host: $0, port: 0).isLoopback }
      : address.host
    let shown = NetworkAddress(host: reached ?? address.host, port: address.port)
    if decision.isOwn, address.isLoopback {
      Terminal.note("join with    fedpeat join --coordinator \(shown) --data FILE")
      return
    }
    let token = try authority.makeToken(for: run)
    decision.audit?.record(.init("token", by: "owner", details: ["token": token.id]))
    Terminal.note(
      "join with    fedpeat join --coordinator \(shown) --data FILE --folder FOLDER --token \(try token.text)"
    )
    Terminal.note(
      "             (one client, within a day; for more: fedpeat ca token '\(authority.folder.relativePath)' --run \(run) --count N)"
    )
  }
}
