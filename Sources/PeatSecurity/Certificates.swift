import Foundation
import PeatFederation
import PeatTensor
import SwiftASN1
import X509

import enum Crypto.P256

/// The SHA-256 of a certificate or a key.
public typealias Fingerprint = PeatTensor.Digest

/// What a certificate is for.
public enum CertificateKind: String, Sendable, Codable, CaseIterable {
  case client, server
}

extension Certificate {
  /// Its serial number in hexadecimal, as `openssl x509 -serial` writes it, in small letters.
  public var serial: String { Self.serialText(serialNumber) }

  package static func serialText(_ number: SerialNumber) -> String {
    let hex = Data(number.bytes).hexadecimal
    return hex.isEmpty ? "00" : hex
  }

  /// The SHA-256 of its DER bytes, as `openssl x509 -fingerprint -sha256` shows it.
  public var fingerprint: Fingerprint {
    get throws { Fingerprint(of: Data(try der)) }
  }

  package var der: [UInt8] {
    get throws {
      var serializer = DER.Serializer()
      try serializer.serialize(self)
      return serializer.serializedBytes
    }
  }

  package var pem: String {
    get throws { try serializeAsPEM().pemString + "\n" }
  }

  /// The one common name of its subject; `nil` where there is none, or several.
  package var commonName: String? {
    var names: [String] = []
    for part in subject {
      for attribute in part where attribute.type == .RDNAttributeType.commonName {
        guard let name = String(attribute.value) else { return nil }
        names.append(name)
      }
    }
    return names.count == 1 ? names.first : nil
  }

  package func isValid(at date: Date) -> Bool {
    notValidBefore <= date && date <= notValidAfter
  }

  /// Whether it says that it may be used so.
  package func mayServe(as kind: CertificateKind) -> Bool {
    guard let usage = try? extensions.extendedKeyUsage else { return false }
    return usage.contains(kind == .client ? .clientAuth : .serverAuth)
  }

  /// The certificates of a PEM text, at most 16.
  package static func read(pem text: String, from name: String) throws -> [Certificate] {
    do {
      let documents = try PEMDocument.parseMultiple(pemString: text)
        .filter { $0.discriminator == Certificate.defaultPEMDiscriminator }
      guard (1...16).contains(documents.count) else {
        throw PeatError.badData(
          "'\(name)' holds \(documents.count) certificates; it must be a PEM file with 1 to 16.")
      }
      return try documents.map { try Certificate(pemDocument: $0) }
    } catch let error as PeatError { throw error } catch {
      throw PeatError.badData("'\(name)' is no PEM file with certificates: \(error)", cause: error)
    }
  }

  // MARK: Making them

  /// Signs itself: the beginning of all trust in what it issues.
  static func authority(
    name: String, key: P256.Signing.PrivateKey, from start: Date, days: Int
  ) throws -> Certificate {
    let subject = try DistinguishedName { CommonName(name) }
    let key = PrivateKey(key)
    return try Certificate(
      version: .v3, serialNumber: .init(), publicKey: key.publicKey,
      notValidBefore: start.addingTimeInterval(-clockSkew),
      notValidAfter: start.addingTimeInterval(Double(days) * 86_400), issuer: subject,
      subject: subject,
      extensions: try Extensions {
        Critical(BasicConstraints.isCertificateAuthority(maxPathLength: 0))
        Critical(KeyUsage(keyCertSign: true, cRLSign: true))
        SubjectKeyIdentifier(hash: key.publicKey)
      }, issuerPrivateKey: key)
  }

  /// One for a client or a server, signed by an authority.
  static func issued(
    _ kind: CertificateKind, name: String, hosts: [String], to key: PublicKey,
    by authority: Certificate, _ authorityKey: P256.Signing.PrivateKey, from start: Date, days: Int
  ) throws -> Certificate {
    let end = start.addingTimeInterval(Double(days) * 86_400)
    let names = try hosts.map(generalName)
    return try Certificate(
      version: .v3, serialNumber: .init(), publicKey: key,
      notValidBefore: start.addingTimeInterval(-clockSkew),
      notValidAfter: min(end, authority.notValidAfter), issuer: authority.subject,
      subject: try DistinguishedName { CommonName(name) },
      extensions: try Extensions {
        Critical(BasicConstraints.notCertificateAuthority)
        Critical(KeyUsage(digitalSignature: true))
        try ExtendedKeyUsage([kind == .client ? .clientAuth : .serverAuth])
        SubjectKeyIdentifier(hash: key)
        AuthorityKeyIdentifier(
          keyIdentifier: try authority.extensions.subjectKeyIdentifier?.keyIdentifier)
        if !names.isEmpty { SubjectAlternativeNames(names) }
      }, issuerPrivateKey: PrivateKey(authorityKey))
  }

  /// What a newcomer shows to prove its key; it says nothing that is believed.
  package static func selfSigned(_ key: P256.Signing.PrivateKey, now: Date) throws -> Certificate {
    let subject = try DistinguishedName { CommonName("newcomer") }
    return try Certificate(
      version: .v3, serialNumber: .init(), publicKey: PublicKey(key.publicKey),
      notValidBefore: now.addingTimeInterval(-clockSkew),
      notValidAfter: now.addingTimeInterval(86_400), issuer: subject, subject: subject,
      extensions: try Extensions {
        Critical(BasicConstraints.notCertificateAuthority)
        Critical(KeyUsage(digitalSignature: true))
        try ExtendedKeyUsage([.clientAuth])
      }, issuerPrivateKey: PrivateKey(key))
  }

  /// By how much clocks may differ.
  private static let clockSkew = 300.0

  /// A host as a certificate names it: an IP address, or a name.
  static func generalName(_ host: String) throws -> GeneralName {
    if let bytes = addressBytes(host) {
      return .ipAddress(ASN1OctetString(contentBytes: bytes[...]))
    }
    let allowed = host.utf8.allSatisfy {
      (48...57).contains($0) || (65...90).contains($0) || (97...122).contains($0) || $0 == 45
        || $0 == 46
    }
    guard allowed, (1...253).contains(host.utf8.count) else {
      throw PeatError.usage(
        "'\(host.prefix(80))' is no host: write a name such as lab.example.org, or an IP address.")
    }
    return .dnsName(host)
  }

  /// The bytes of a numeric address; `nil` for a name.
  package static func addressBytes(_ host: String) -> [UInt8]? {
    var v4 = in_addr()
    if inet_pton(AF_INET, host, &v4) == 1 { return withUnsafeBytes(of: v4) { Array($0) } }
    var v6 = in6_addr()
    if inet_pton(AF_INET6, host, &v6) == 1 { return withUnsafeBytes(of: v6) { Array($0) } }
    return nil
  }
}

extension Data {
  package var hexadecimal: String {
    map { byte in (byte < 16 ? "0" : "") + String(byte, radix: 16) }.joined()
  }
}

extension Sequence<UInt8> {
  /// Whether it is the same as another, in a time that tells nothing of where they differ.
  package func isEqualInConstantTime(to other: some Sequence<UInt8>) -> Bool {
    let (left, right) = (Array(self), Array(other))
    guard left.count == right.count else { return false }
    return zip(left, right).reduce(UInt8(0)) { $0 | ($1.0 ^ $1.1) } == 0
  }
}
