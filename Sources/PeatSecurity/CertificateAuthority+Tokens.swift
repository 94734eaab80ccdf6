import Foundation
import PeatFederation
import PeatTensor
import X509

import enum Crypto.P256

extension CertificateAuthority {
  /// What is kept of a token: never its secret.
  struct TokenRecord: Codable {
    var id: String
    var secretHash: String
    var run: RunID
    var expires: Date
  }

  /// Who used a token.
  struct TokenUse: Codable {
    var client: ClientID
    /// The SHA-256 of the key that the certificate was issued to.
    var key: String
    var serial: String
    var used: Date
    /// In PEM: the same key is answered again, as the first answer may have been lost.
    var certificate: String
  }

  /// A token as `ca list` shows it.
  public struct TokenStatus: Sendable, Codable {
    public var id: String
    public var run: RunID
    public var expires: Date
    /// Who enrolled with it; `nil`: nobody yet.
    public var usedBy: ClientID?
    /// Whether it was taken back before anybody used it.
    public var revoked: Bool
  }

  /// Makes an invitation to a run that can be used once.
  ///
  /// - Parameter life: for how long it holds.
  public func makeToken(
    for run: RunID, life: Duration = .seconds(86_400), now: Date = Date()
  ) throws -> EnrolmentToken {
    guard life > .zero, life <= .seconds(3650 * 86_400) else {
      throw PeatError.usage("A token holds for more than 0 seconds and at most 10 years.")
    }
    let seconds = Int(now.timeIntervalSince1970 + Double(life.components.seconds))
    let token = EnrolmentToken(
      ca: fingerprint, run: run, id: Data.random(8).hexadecimal,
      secret: Data.random(32).base64URL, expires: seconds)
    let record = TokenRecord(
      id: token.id, secretHash: EnrolmentToken.hash(token.secret), run: run, expires: token.expiry)
    try PrivateFiles.write(try Self.encode(record), to: place(of: token.id))
    return token
  }

  private func place(of token: String) -> URL {
    folder.appendingPathComponent("tokens/\(token).json")
  }

  private func usePlace(of token: String) -> URL {
    folder.appendingPathComponent("tokens/\(token).used")
  }

  private func revocationPlace(of token: String) -> URL {
    folder.appendingPathComponent("tokens/\(token).revoked")
  }

  private func isTakenBack(_ token: String) -> Bool {
    FileManager.default.fileExists(atPath: revocationPlace(of: token).path)
  }

  /// Takes a token back that nobody used yet; who has it can't enrol with it any more.
  ///
  /// - Parameter texts: tokens as they were handed out, or their names as `tokens` has them.
  /// - Returns: those that were not taken back before.
  /// - Throws: `usage` where one is not known, or was used; then all stay.
  public func revokeTokens(_ texts: [String], now: Date = Date()) throws -> [TokenStatus] {
    try locked {
      let known = try tokens()
      let found = try texts.map { text in
        let id = (try? EnrolmentToken(text))?.id ?? text
        guard let token = known.first(where: { $0.id == id }) else {
          throw PeatError.usage(
            "'\(id.prefix(80))' is no token of this authority. See: fedpeat ca list '\(folder.path)'"
          )
        }
        if let client = token.usedBy {
          throw PeatError.usage(
            "The token \(id) was used by '\(client)'. 'fedpeat ca revoke' with that name takes back the certificate that it brought."
          )
        }
        return token
      }
      var revoked: [TokenStatus] = []
      for token in found where !token.revoked && !revoked.contains(where: { $0.id == token.id }) {
        try PrivateFiles.write(Data("\(now.iso)\n".utf8), to: revocationPlace(of: token.id))
        revoked.append(token)
      }
      return revoked
    }
  }

  /// All tokens, by name.
  public func tokens() throws -> [TokenStatus] {
    let names =
      (try? FileManager.default.contentsOfDirectory(
        atPath: folder.appendingPathComponent("tokens").path)) ?? []
    return try names.filter { $0.hasSuffix(".json") }.sorted().map { name in
      let record = try Self.decode(
        TokenRecord.self, folder.appendingPathComponent("tokens/\(name)"))
      let use = usePlace(of: record.id)
      return TokenStatus(
        id: record.id, run: record.run, expires: record.expires,
        usedBy: FileManager.default.fileExists(atPath: use.path)
          ? try Self.decode(TokenUse.self, use).client : nil, revoked: isTakenBack(record.id))
    }
  }

  /// Gives a newcomer its certificate and uses the token up.
  ///
  /// The same key with the same token and name is answered again: the first answer may have been lost.
  ///
  /// - Parameters:
  ///   - run: the run that this coordinator has.
  ///   - key: the key that the newcomer proved to have, in DER (SubjectPublicKeyInfo).
  /// - Throws: `usage`, which says as much as a stranger may know.
  public func enrol(
    _ request: EnrolmentRequest, key: Data, run: RunID, days: Int = usualDays, now: Date = Date()
  ) throws -> Certificate {
    let unknown = PeatError.usage(
      "The coordinator does not know this token. Copy it whole, or ask for another.")
    // It becomes part of a file's name.
    guard request.proof.token.utf8.count == 16,
      request.proof.token.allSatisfy({ $0.isHexDigit && !$0.isUppercase }),
      request.proof.secret.utf8.count <= 100,
      FileManager.default.fileExists(atPath: place(of: request.proof.token).path)
    else { throw unknown }
    let record = try Self.decode(TokenRecord.self, place(of: request.proof.token))
    guard
      EnrolmentToken.hash(request.proof.secret).utf8.isEqualInConstantTime(
        to: record.secretHash.utf8)
    else { throw unknown }
    guard record.run == run, request.run == run else {
      throw PeatError.usage(
        "The token is for the run '\(record.run)'; here is '\(run)'. Ask for a token of this run.")
    }
    let publicKey: P256.Signing.PublicKey
    do { publicKey = try P256.Signing.PublicKey(derRepresentation: key) } catch {
      throw PeatError.usage("A newcomer's key is one of P-256.")
    }
    let keyHash = Fingerprint(of: key).hex
    return try locked {
      let name = try checkedClient(request.client.name).name
      let use = usePlace(of: record.id)
      if FileManager.default.fileExists(atPath: use.path) {
        let used = try Self.decode(TokenUse.self, use)
        guard used.key == keyHash, used.client == request.client, !isRevoked(used.serial) else {
          throw PeatError.usage(
            "The token was used already, and holds for one client only. Ask for another.")
        }
        let made = try Certificate.read(pem: used.certificate, from: use.path)[0]
        try enter(made, .client, name, token: record.id, used.used)
        return made
      }
      guard !isTakenBack(record.id) else {
        throw PeatError.usage("The token was taken back. Ask for another.")
      }
      guard record.expires > now else {
        throw PeatError.usage(
          "The token expired at \(record.expires.iso). Ask for another.")
      }
      if let other = try holder(of: name, .client, now: now) {
        throw PeatError.usage(
          "The name '\(name)' is taken until \(other.expires.iso). Choose another with --name, or ask that the other be revoked."
        )
      }
      let made = try sign(.client, name, [], publicKey, days, now)
      // Used up before it is handed out, so that it can't be used twice whatever happens now.
      try PrivateFiles.write(
        try Self.encode(
          TokenUse(
            client: request.client, key: keyHash, serial: made.serial, used: now,
            certificate: try made.pem)), to: use)
      try enter(made, .client, name, token: record.id, now)
      return made
    }
  }
}
