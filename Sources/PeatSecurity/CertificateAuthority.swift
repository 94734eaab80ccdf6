import Foundation
import PeatFederation
import PeatTensor
import X509

import enum Crypto.P256

/// Issues certificates to clients and servers, and takes them back. It lives in a folder that only its owner may read:
///
///     ca.pem, ca.key       its certificate and key
///     issued/SERIAL.json   what it issued
///     revoked/SERIAL       what it took back; coordinators look at each call
///     tokens/ID.json       enrolment tokens: a hash of the secret, run, expiry; tokens/ID.used: who used it
///     audit.jsonl          who did what
public struct CertificateAuthority: Sendable {
  public let folder: URL
  public let certificate: Certificate
  let key: P256.Signing.PrivateKey
  public let fingerprint: Fingerprint

  package static let certificateFile = "ca.pem"
  private static let keyFile = "ca.key"
  static let parts = ["issued", "revoked", "tokens"]

  /// How long certificates hold if it is not said, in days.
  public static let usualDays = 365
  public static let ownDays = 3650

  /// Opens the one in a folder.
  ///
  /// Throws where there is none, others may read its key, or its certificate has expired.
  public init(folder: URL, now: Date = Date()) throws {
    let file = folder.appendingPathComponent(Self.certificateFile)
    guard FileManager.default.fileExists(atPath: file.path) else {
      throw PeatError.inputOutput(
        "There is no certificate authority in '\(folder.path)': it has no \(Self.certificateFile). Make one: fedpeat ca init '\(folder.path)'"
      )
    }
    try PrivateFiles.check(folder)
    let keyPlace = folder.appendingPathComponent(Self.keyFile)
    try PrivateFiles.check(keyPlace)
    let text = String(decoding: try PrivateFiles.read(file), as: UTF8.self)
    certificate = try Certificate.read(pem: text, from: file.path)[0]
    let keyText = String(decoding: try PrivateFiles.read(keyPlace), as: UTF8.self)
    do { key = try P256.Signing.PrivateKey(pemRepresentation: keyText) } catch {
      throw PeatError.badData("'\(keyPlace.path)' is no key of P-256.", cause: error)
    }
    guard Certificate.PublicKey(key.publicKey) == certificate.publicKey else {
      throw PeatError.badData(
        "The key in '\(keyPlace.path)' is not that of '\(file.path)'.")
    }
    guard now >= certificate.notValidBefore else {
      throw PeatError.badData(
        "The authority in '\(folder.path)' is valid only from \(certificate.notValidBefore.iso), and this machine's clock shows \(now.iso). Set the clock right."
      )
    }
    guard certificate.isValid(at: now) else {
      throw PeatError.badData(
        "The authority in '\(folder.path)' was valid until \(certificate.notValidAfter.iso). Make a new one."
      )
    }
    self.folder = folder
    fingerprint = try certificate.fingerprint
  }

  /// Makes one in a new or empty folder: whole, or not at all.
  @discardableResult
  public static func create(
    at folder: URL, name: String = "FedPEAT", days: Int = ownDays, now: Date = Date()
  ) throws -> CertificateAuthority {
    guard (1...64).contains(name.count), !name.contains(where: \.isNewline) else {
      throw PeatError.usage("An authority's name has 1 to 64 characters on one line.")
    }
    try checkDays(days)
    let files = FileManager.default
    var isFolder: ObjCBool = false
    if files.fileExists(atPath: folder.path, isDirectory: &isFolder) {
      guard isFolder.boolValue, let names = try? files.contentsOfDirectory(atPath: folder.path),
        names.isEmpty
      else {
        throw PeatError.inputOutput(
          "'\(folder.path)' is there already and is not empty; nothing in it is touched. Name a new folder."
        )
      }
    }
    let folder = folder.standardizedFileURL
    let partial = folder.deletingLastPathComponent()
      .appendingPathComponent(".\(folder.lastPathComponent).partial-\(UUID().uuidString)")
    try PrivateFiles.makeFolder(partial)
    defer { try? files.removeItem(at: partial) }
    let key = P256.Signing.PrivateKey()
    let certificate = try Certificate.authority(name: name, key: key, from: now, days: days)
    try PrivateFiles.write(
      Data((key.pemRepresentation + "\n").utf8), to: partial.appendingPathComponent(keyFile))
    try PrivateFiles.write(
      Data(try certificate.pem.utf8), to: partial.appendingPathComponent(certificateFile),
      mode: 0o644)
    for part in parts { try PrivateFiles.makeFolder(partial.appendingPathComponent(part)) }
    try AtomicOutput.rename(partial, to: folder)
    return try CertificateAuthority(folder: folder, now: now)
  }

  /// Opens the one in a folder, or makes it there.
  public static func openOrCreate(
    at folder: URL, now: Date = Date()
  ) throws -> CertificateAuthority {
    let file = folder.appendingPathComponent(certificateFile)
    if !FileManager.default.fileExists(atPath: file.path) {
      do { return try create(at: folder, now: now) } catch {
        // Another process may have been quicker.
        guard FileManager.default.fileExists(atPath: file.path) else { throw error }
      }
    }
    return try CertificateAuthority(folder: folder, now: now)
  }

  static func checkDays(_ days: Int) throws {
    guard (1...36_500).contains(days) else {
      throw PeatError.usage("A certificate holds for 1 to 36500 days, not \(days).")
    }
  }

  // MARK: Issuing

  /// What it issued.
  public struct Issued: Sendable, Codable, Equatable {
    public var serial: String
    public var name: String
    public var kind: CertificateKind
    public var issued: Date
    public var expires: Date
    /// The enrolment token, if it was one; `nil`: by the authority's owner.
    public var token: String?
    /// Whether it was taken back.
    public var isRevoked = false

    private enum CodingKeys: String, CodingKey {
      case serial, name, kind, issued, expires, token
    }
  }

  /// Issues a certificate to a key of its own making.
  ///
  /// - Parameter hosts: by which a server is reached; clients have none.
  /// - Throws: `usage` where the name has a certificate that holds.
  public func issue(
    _ kind: CertificateKind, name: String, hosts: [String] = [], days: Int = usualDays,
    now: Date = Date()
  ) throws -> Identity {
    let key = P256.Signing.PrivateKey()
    let own = try issue(
      kind, name: name, hosts: hosts, to: key.publicKey, days: days, token: nil, now: now)
    return Identity(chain: [own], key: key.pemRepresentation + "\n", trust: [certificate])
  }

  /// A coordinator's own, made anew at each start: it is kept in memory alone, and not in the books.
  public func issueForThisProcess(
    _ kind: CertificateKind, name: String, hosts: [String] = [], days: Int = usualDays,
    now: Date = Date()
  ) throws -> Identity {
    try Self.checkDays(days)
    let key = P256.Signing.PrivateKey()
    let own = try Certificate.issued(
      kind, name: name, hosts: hosts, to: .init(key.publicKey), by: certificate, self.key,
      from: now, days: days)
    return Identity(
      chain: kind == .server ? [own, certificate] : [own], key: key.pemRepresentation + "\n",
      trust: [certificate])
  }

  func issue(
    _ kind: CertificateKind, name: String, hosts: [String], to key: P256.Signing.PublicKey,
    days: Int, token: String?, now: Date
  ) throws -> Certificate {
    try Self.checkDays(days)
    if kind == .client { _ = try checkedClient(name) }
    if kind == .server, hosts.isEmpty {
      throw PeatError.usage("Say by which names or addresses the server is reached: --host.")
    }
    return try locked {
      if let other = try holder(of: name, kind, now: now) {
        throw PeatError.usage(
          "'\(name)' has the certificate \(other.serial), which holds until \(other.expires.iso). Choose another name, or revoke that first."
        )
      }
      let made = try sign(kind, name, hosts, key, days, now)
      try enter(made, kind, name, token: token, now)
      return made
    }
  }

  func checkedClient(_ name: String) throws -> ClientID {
    let client: ClientID
    do { client = try ClientID(name) } catch let error as PeatError {
      throw PeatError.usage(error.message)
    }
    guard client != .server else {
      throw PeatError.usage("The name 'server' is the coordinator's own. Choose another.")
    }
    return client
  }

  /// Who has a name now.
  func holder(of name: String, _ kind: CertificateKind, now: Date) throws -> Issued? {
    try issued().first {
      $0.name == name && $0.kind == kind && !$0.isRevoked && $0.expires > now
    }
  }

  func sign(
    _ kind: CertificateKind, _ name: String, _ hosts: [String], _ key: P256.Signing.PublicKey,
    _ days: Int, _ now: Date
  ) throws -> Certificate {
    try Certificate.issued(
      kind, name: name, hosts: hosts, to: .init(key), by: certificate, self.key, from: now,
      days: days)
  }

  /// Writes a certificate into the books, unless it is there.
  func enter(
    _ made: Certificate, _ kind: CertificateKind, _ name: String, token: String?, _ now: Date
  ) throws {
    let file = folder.appendingPathComponent("issued/\(made.serial).json")
    if FileManager.default.fileExists(atPath: file.path) { return }
    let entry = Issued(
      serial: made.serial, name: name, kind: kind, issued: now, expires: made.notValidAfter,
      token: token)
    try PrivateFiles.write(try Self.encode(entry), to: file)
  }

  static func encode(_ value: some Encodable) throws -> Data {
    let encoder = JSONEncoder()
    encoder.dateEncodingStrategy = .iso8601
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    return try encoder.encode(value) + Data("\n".utf8)
  }

  static func decode<Value: Decodable>(_ type: Value.Type, _ file: URL) throws -> Value {
    let decoder = JSONDecoder()
    decoder.dateDecodingStrategy = .iso8601
    do { return try decoder.decode(type, from: try PrivateFiles.read(file)) } catch let error
      as PeatError
    { throw error } catch {
      throw PeatError.badData("'\(file.path)' is damaged: \(error)", cause: error)
    }
  }

  /// All that was issued, the first first.
  public func issued() throws -> [Issued] {
    let place = folder.appendingPathComponent("issued")
    let names: [String]
    do { names = try FileManager.default.contentsOfDirectory(atPath: place.path) } catch {
      throw PeatError.inputOutput(
        "Can't see what '\(place.path)' holds: \(error.localizedDescription)", cause: error)
    }
    return try names.filter { $0.hasSuffix(".json") }.map { name in
      var entry = try Self.decode(Issued.self, place.appendingPathComponent(name))
      entry.isRevoked = isRevoked(entry.serial)
      return entry
    }.sorted { ($0.issued, $0.serial) < ($1.issued, $1.serial) }
  }

  // MARK: Revoking

  /// Whether a certificate was taken back. It looks at the folder each time, so that a coordinator hears of it at once.
  public func isRevoked(_ serial: String) -> Bool {
    FileManager.default.fileExists(
      atPath: folder.appendingPathComponent("revoked/\(serial)").path)
  }

  /// Takes back what a name has, or the certificate with a serial number.
  ///
  /// - Returns: what no longer holds.
  public func revoke(_ nameOrSerial: String, now: Date = Date()) throws -> [Issued] {
    try locked {
      let all = try issued()
      let serial = nameOrSerial.lowercased().replacingOccurrences(of: ":", with: "")
      let known = all.filter { $0.name == nameOrSerial || $0.serial == serial }
      guard !known.isEmpty else {
        throw PeatError.usage(
          "'\(nameOrSerial.prefix(80))' is neither a name nor a serial number that this authority issued. See: fedpeat ca list '\(folder.path)'"
        )
      }
      let holding = known.filter { !$0.isRevoked }
      for entry in holding {
        try PrivateFiles.write(
          Data("\(now.iso)\n".utf8),
          to: folder.appendingPathComponent("revoked/\(entry.serial)"))
      }
      return holding.map { entry in
        var entry = entry
        entry.isRevoked = true
        return entry
      }
    }
  }

  /// Does something that no other process may do in this folder meanwhile.
  func locked<Result>(_ body: () throws -> Result) throws -> Result {
    let end = Date().addingTimeInterval(10)
    while true {
      do {
        let lock = try FolderLock(folder, name: ".lock", isBusy: "busy")
        defer { withExtendedLifetime(lock) {} }
        return try body()
      } catch let error as PeatError where error.code == .usage && error.message == "busy" {
        guard Date() < end else {
          throw PeatError.unavailable(
            "Another process has been working in '\(folder.path)' for 10 s. Try again.")
        }
        usleep(5_000)
      }
    }
  }
}
