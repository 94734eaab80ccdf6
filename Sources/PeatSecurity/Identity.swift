import Foundation
import PeatFederation
import PeatTensor
import SwiftASN1
import X509

import enum Crypto.P256

/// Who one is on the network: a certificate with its key, and whom one believes.
public struct Identity: Sendable {
  /// The own certificate first, then those between it and the authority.
  public let chain: [Certificate]
  /// The key of the first, in PEM.
  package let key: String
  /// The authorities that others' certificates must come from.
  public let trust: [Certificate]

  init(chain: [Certificate], key: String, trust: [Certificate]) {
    self.chain = chain
    self.key = key
    self.trust = trust
  }

  /// Reads one's own PEM files.
  ///
  /// - Parameters:
  ///   - certificate: the own certificate, and those between it and the authority, in this order.
  ///   - key: its key.
  ///   - trust: the authorities' certificates.
  ///
  /// Throws where a file can't be read, is no such file, or the key is another certificate's.
  public init(certificate: URL, key: URL, trust: URL) throws {
    func text(_ url: URL) throws -> String {
      String(decoding: try PrivateFiles.read(url), as: UTF8.self)
    }
    let chain = try Certificate.read(pem: try text(certificate), from: certificate.path)
    let keyText = try text(key)
    let privateKey: Certificate.PrivateKey
    do { privateKey = try Certificate.PrivateKey(pemEncoded: keyText) } catch {
      throw PeatError.badData(
        "'\(key.path)' is no PEM file with a private key that has no password.", cause: error)
    }
    guard privateKey.publicKey == chain[0].publicKey else {
      throw PeatError.badData(
        "The key in '\(key.path)' is not that of the first certificate in '\(certificate.path)'.")
    }
    self.init(
      chain: chain, key: keyText,
      trust: try Certificate.read(pem: try text(trust), from: trust.path))
  }

  public var certificate: Certificate { chain[0] }

  /// The client's name: the common name of its certificate.
  public var client: ClientID {
    get throws {
      guard let name = certificate.commonName else {
        throw PeatError.badData("The certificate's subject has no common name, or several.")
      }
      return try ClientID(name)
    }
  }

  /// The key that updates are signed with.
  ///
  /// - Throws: `usage` where it is not one of P-256.
  package var signingKey: P256.Signing.PrivateKey {
    get throws {
      do { return try P256.Signing.PrivateKey(pemRepresentation: key) } catch {
        throw PeatError.usage(
          "Updates are signed with ECDSA over P-256, and the certificate's key is another. Make one: "
            + "openssl ecparam -name prime256v1 -genkey -noout -out key.pem")
      }
    }
  }

  /// Throws where it can't be used as a client's, or as a server's, now.
  public func check(as kind: CertificateKind, now: Date = Date()) throws {
    guard certificate.isValid(at: now) else {
      throw PeatError.badData(
        "The certificate is valid from \(certificate.notValidBefore.iso) to "
          + "\(certificate.notValidAfter.iso); now it is \(now.iso). Ask for a new one.")
    }
    guard certificate.mayServe(as: kind) else {
      throw PeatError.badData(
        "The certificate is not a \(kind)'s: it lacks the extended key usage "
          + "\(kind == .client ? "clientAuth" : "serverAuth").")
    }
    if kind == .client {
      _ = try client
      _ = try signingKey
    }
  }

  /// Which of both it may be used as.
  public var kinds: [CertificateKind] { CertificateKind.allCases.filter(certificate.mayServe) }

  /// Throws where it is not what those who trust its own authorities believe: signatures, dates, constraints and usage of the whole chain.
  public func checkChain(as kind: CertificateKind) async throws {
    do { _ = try await CertificateVerifier(.authorities(trust)).verify(chain, as: kind) } catch let
      problem as CertificateProblem
    {
      throw PeatError.badData("The certificate of \(self) is not believed: \(problem).")
    }
  }

  // MARK: In a folder

  package static let certificateFile = "certificate.pem"
  package static let keyFile = "key.pem"
  package static let trustFile = "ca.pem"

  /// Reads what `write` wrote; `nil` where there is no certificate.
  public init?(in folder: URL) throws {
    let file = folder.appendingPathComponent(Self.certificateFile)
    guard FileManager.default.fileExists(atPath: file.path) else { return nil }
    let key = folder.appendingPathComponent(Self.keyFile)
    try PrivateFiles.check(key)
    try self.init(
      certificate: file, key: key, trust: folder.appendingPathComponent(Self.trustFile))
  }

  /// Writes certificate.pem, key.pem and ca.pem into a folder. A key that is there already must be this one.
  ///
  /// The certificate comes last: where it is, all is.
  public func write(to folder: URL) throws {
    try PrivateFiles.makeFolder(folder)
    let keyPlace = folder.appendingPathComponent(Self.keyFile)
    if !FileManager.default.fileExists(atPath: keyPlace.path) {
      try PrivateFiles.write(Data(key.utf8), to: keyPlace)
    }
    let trusted = try trust.map { try $0.pem }.joined()
    let trustPlace = folder.appendingPathComponent(Self.trustFile)
    try? FileManager.default.removeItem(at: trustPlace)
    try PrivateFiles.write(Data(trusted.utf8), to: trustPlace, mode: 0o644)
    let own = try chain.map { try $0.pem }.joined()
    try PrivateFiles.write(
      Data(own.utf8), to: folder.appendingPathComponent(Self.certificateFile), mode: 0o644)
  }

  /// The key in a folder that is waiting for its certificate; a new one where there is none.
  ///
  /// It is kept before a token is used up, so that an answer that is lost on the way can be asked for again.
  package static func newcomerKey(in folder: URL) throws -> P256.Signing.PrivateKey {
    try PrivateFiles.makeFolder(folder)
    let file = folder.appendingPathComponent(keyFile)
    if FileManager.default.fileExists(atPath: file.path) {
      try PrivateFiles.check(file)
      let text = String(decoding: try PrivateFiles.read(file), as: UTF8.self)
      do { return try P256.Signing.PrivateKey(pemRepresentation: text) } catch {
        throw PeatError.badData("'\(file.path)' is no key of P-256.", cause: error)
      }
    }
    let key = P256.Signing.PrivateKey()
    try PrivateFiles.write(Data((key.pemRepresentation + "\n").utf8), to: file)
    return key
  }
}

extension Identity: CustomStringConvertible, CustomDebugStringConvertible {
  /// Without the key.
  public var description: String {
    "'\(certificate.commonName ?? "?")', certificate \(certificate.serial)"
  }
  public var debugDescription: String { description }
}

extension Date {
  /// As in 2026-01-31T12:00:00Z.
  package var iso: String { formatted(.iso8601) }
}
