import ArgumentParser
import FedPEAT
import Foundation

/// What `doctor` looks at of a federation: certificates, the port, the disk, the clock.
struct FederationChecks: ParsableArguments {
  @Option(
    help:
      "The certificate authority's folder; the user's own, where there is one, if not given.")
  var ca: String?

  @Option(help: "A certificate in PEM, with --key and --trust; none is looked at if not given.")
  var certificate: String?

  @Option(help: "Its key, in PEM; none is looked at if not given.")
  var key: String?

  @Option(
    help: "Whose certificates the other side must have, in PEM; none is looked at if not given.")
  var trust: String?

  @Option(
    help:
      "A file with serial numbers of certificates that were revoked, as of 'serve'; besides it what the authority revoked counts; none if not given."
  )
  var revoked: String?

  @Option(help: "A device's folder, as of 'join'; none is looked at if not given.")
  var folder: String?

  @Option(help: "Where a coordinator is to listen; no port is looked at if not given.")
  var listen: String?

  @Option(help: "The folder in which runs are kept, or will be; none is looked at if not given.")
  var store: String?

  /// Certificates that hold for less are worth a warning.
  private static let soonDays = 30.0
  /// By how much clocks may differ.
  private static let clockSkew = 300.0

  func checks() async throws -> [Doctor.Check] {
    let own = [certificate, key, trust].compactMap { $0 }
    guard own.isEmpty || own.count == 3 else {
      throw PeatError.usage("--certificate, --key and --trust belong together.")
    }
    var checks: [Doctor.Check] = []
    // What is known to lie in the past.
    var past: [(what: String, date: Date)] = []
    let authority = authorityFolder.map { place in
      Result { try CertificateAuthority(folder: place) }
    }
    checks.append(check(authority, &past))
    let list = try revoked.map { try RevocationFile(URL(path: $0)) }
    let isRevoked = { (serial: String) in
      list?.contains(serial) == true || (try? authority?.get())?.isRevoked(serial) == true
    }
    if let certificate, let key, let trust {
      checks.append(
        await check("certificate", isRevoked) {
          try Identity(
            certificate: URL(path: certificate), key: URL(path: key), trust: URL(path: trust))
        })
    }
    if let folder {
      let place = URL(path: folder).appendingPathComponent(JoinIdentity.folderName)
      checks.append(
        await check("device's certificate", isRevoked) {
          guard let identity = try Identity(in: place) else {
            throw PeatError.inputOutput(
              "'\(place.relativePath)' keeps none: the device has not enrolled. Join with --token.")
          }
          return identity
        })
      checks.append(Doctor.disk(URL(path: folder), named: "device's disk", orElse: "give --folder"))
    }
    if let listen { checks.append(try check(listen)) }
    if let store {
      checks.append(Doctor.disk(URL(path: store), named: "disk of runs", orElse: "give --store"))
      past += times(in: RunShelf(URL(path: store)))
    }
    checks.append(clock(past))
    return checks
  }

  // MARK: Certificates

  /// `nil` where none is named and the user has none.
  private var authorityFolder: URL? {
    let own = CertificateAuthority.ownFolder()
    return ca.map { URL(path: $0) }
      ?? (FileManager.default.fileExists(atPath: own.path) ? own : nil)
  }

  private func check(
    _ found: Result<CertificateAuthority, any Error>?, _ past: inout [(what: String, date: Date)]
  ) -> Doctor.Check {
    let name = "authority"
    guard let found else {
      return Doctor.Check(
        name: name, status: "ok",
        found:
          "none yet; 'serve' makes one in \(CertificateAuthority.ownFolder().relativePath)")
    }
    do {
      let authority = try found.get()
      let place = authority.folder
      past.append(
        ("the authority's certificate", authority.certificate.notValidBefore + Self.clockSkew))
      let issued = try authority.issued()
      if let last = issued.map(\.issued).max() { past.append(("the last certificate", last)) }
      let now = Date()
      let soon = issued.filter {
        !$0.isRevoked && $0.expires > now && $0.expires < now + Self.soonDays * 86_400
      }
      let (status, until) = state(of: authority.certificate.notValidAfter)
      guard status == "ok" else {
        return Doctor.Check(
          name: name, status: status, found: "in \(place.relativePath), \(until)",
          advice: "Make a new one (fedpeat ca init), and let clients enrol again.")
      }
      let names = soon.prefix(5).map(\.name).joined(separator: ", ")
      let revoked = issued.count(where: \.isRevoked)
      return Doctor.Check(
        name: name, status: soon.isEmpty ? "ok" : "warning",
        found:
          "in \(place.relativePath), \(until); \(issued.count) certificates issued\(revoked == 0 ? "" : ", \(revoked) revoked")\(soon.isEmpty ? "" : "; \(soon.count) \(soon.count == 1 ? "expires" : "expire") within \(Int(Self.soonDays)) days: \(names)\(soon.count > 5 ? ", …" : "")")",
        advice: soon.isEmpty
          ? nil
          : "A name that expires can be given again: make tokens for them (fedpeat ca token)."
      )
    } catch { return failed(name, error) }
  }

  /// Whether one's own certificate, its key and its chain hold.
  private func check(
    _ name: String, _ isRevoked: (String) -> Bool, _ read: () throws -> Identity
  ) async -> Doctor.Check {
    do {
      let identity = try read()
      guard let kind = identity.kinds.first else {
        throw PeatError.badData(
          "The certificate is neither a client's nor a server's: it lacks the extended key usage clientAuth or serverAuth."
        )
      }
      try identity.check(as: kind)
      try await identity.checkChain(as: kind)
      guard !isRevoked(identity.certificate.serial) else {
        return Doctor.Check(
          name: name, status: "missing",
          found: "\(identity): its certificate \(identity.certificate.serial) was revoked",
          advice: "Ask the authority's owner for another one.")
      }
      let (status, until) = state(of: identity.certificate.notValidAfter)
      return Doctor.Check(
        name: name, status: status,
        found: "\(identity), a \(kind)'s, with its key and chain; \(until)",
        advice: status == "ok" ? nil : "Ask for a new one before it expires.")
    } catch { return failed(name, error) }
  }

  private func state(of end: Date) -> (status: String, until: String) {
    let days = end.timeIntervalSinceNow / 86_400
    return (
      days < Self.soonDays ? "warning" : "ok",
      "valid until \(end.formatted(.iso8601)) (\(Int(days)) days)"
    )
  }

  private func failed(_ name: String, _ error: any Error) -> Doctor.Check {
    Doctor.Check(
      name: name, status: "missing",
      found: (error as? PeatError)?.message ?? "\(error)", advice: nil)
  }

  // MARK: The port and the clock

  private func check(_ text: String) throws -> Doctor.Check {
    let address = try NetworkAddress(text)
    try CoordinatorServer.check(address)
    let problem = Loopback.problem(listeningOn: address)
    return Doctor.Check(
      name: "address", status: problem == nil ? "ok" : "missing",
      found: problem.map { "\(address): \($0.found)" } ?? "\(address) is free",
      advice: problem?.advice)
  }

  /// When the runs of a shelf were last changed.
  private func times(in shelf: RunShelf) -> [(what: String, date: Date)] {
    shelf.runs.compactMap { run in
      guard let times = try? shelf.read(run).times(),
        let date = try? Date(times.changed, strategy: .iso8601)
      else { return nil }
      return ("the last change of \(run)", date)
    }
  }

  /// Whether the clock shows a time after all that has happened.
  private func clock(_ past: [(what: String, date: Date)]) -> Doctor.Check {
    let now = Date()
    let shown = now.formatted(.iso8601)
    guard let last = past.max(by: { $0.date < $1.date }), last.date > now + Self.clockSkew else {
      return Doctor.Check(name: "clock", status: "ok", found: shown)
    }
    return Doctor.Check(
      name: "clock", status: "warning",
      found: "\(shown), which is before \(last.what) (\(last.date.formatted(.iso8601)))",
      advice:
        "Set the clock (timedatectl set-ntp true): certificates hold between two dates, and others will not believe them."
    )
  }
}
