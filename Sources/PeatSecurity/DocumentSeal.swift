import Foundation
import PeatTensor
import X509

import enum Crypto.P256

/// A coordinator's signature over a document, with its certificate, so that anybody can check it later.
///
/// Signed are these bytes, in UTF-8, with a line feed behind each line:
///
///     fedpeat-document-1
///     SHA-256 of the document's bytes, in hexadecimal
public struct DocumentSeal: Sendable, Codable, Equatable {
  /// In PEM: the signer's own first, then those between it and its authority.
  public var certificates: String
  /// ECDSA with P-256 and SHA-256, in DER, as base64.
  public var signature: Data

  /// Seals a document.
  ///
  /// - Throws: `usage` where the identity's key is not one of P-256.
  public init(_ document: Data, by identity: Identity) throws {
    certificates = try identity.chain.map { try $0.pem }.joined()
    signature = try identity.signingKey.signature(for: Self.statement(document)).derRepresentation
  }

  private static func statement(_ document: Data) -> Data {
    Data("fedpeat-document-1\n\(Digest(of: document).hex)\n".utf8)
  }

  /// Who sealed a document.
  public struct Signer: Sendable, Equatable {
    /// The common name and the serial number of the certificate.
    public var name: String
    public var serial: String
  }

  /// Checks the signature, and where authorities are given, that the signer has its certificate from one of them.
  ///
  /// - Parameters:
  ///   - trust: a PEM file of authorities; `nil`: it is not asked whose the certificate is.
  ///   - date: when the document was sealed.
  /// - Throws: `badData` where one of them does not hold.
  public func verify(_ document: Data, trust: URL? = nil, at date: Date) throws -> Signer {
    let chain = try Certificate.read(pem: certificates, from: "the seal")
    guard let key = P256.Signing.PublicKey(chain[0].publicKey),
      let signature = try? P256.Signing.ECDSASignature(derRepresentation: signature),
      key.isValidSignature(signature, for: Self.statement(document))
    else {
      throw PeatError.badData(
        "The coordinator's signature is not of this document: it was changed since it was signed.")
    }
    if let trust {
      let text = String(decoding: try PrivateFiles.read(trust), as: UTF8.self)
      try Self.check(chain, Certificate.read(pem: text, from: trust.path), trust, date)
    }
    return Signer(name: chain[0].commonName ?? "?", serial: chain[0].serial)
  }

  /// The signer is a coordinator, and its certificate one of an authority's own, valid then.
  private static func check(
    _ chain: [Certificate], _ authorities: [Certificate], _ file: URL, _ date: Date
  ) throws {
    let own = chain[0]
    guard own.mayServe(as: .server) else {
      throw PeatError.badData(
        "The document was signed by '\(own.commonName ?? "?")', whose certificate is not a coordinator's."
      )
    }
    guard authorities.contains(where: { $0.publicKey.isValidSignature(own.signature, for: own) })
    else {
      throw PeatError.badData(
        "The document was signed by '\(own.commonName ?? "?")', certificate \(own.serial), which comes from no authority in '\(file.path)'."
      )
    }
    guard own.isValid(at: date) else {
      throw PeatError.badData(
        "The signer's certificate is valid from \(own.notValidBefore.iso) to \(own.notValidAfter.iso); the document says that it was signed at \(date.iso)."
      )
    }
  }
}
