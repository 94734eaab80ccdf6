import Foundation
import PeatTensor

import enum Crypto.P256

/// What a client signs of an update: which one it is, of which task, and for whom.
///
/// Signed are these bytes, in UTF-8, one field a line with a line feed behind each, so that anybody can check a signature later:
///
///     fedpeat-update-1
///     run        its name
///     round      a number, as all in decimal digits
///     attempt
///     client     its name
///     session    as the coordinator gave it when the client joined: a statement of another stay is worth nothing
///     base       the digest of the adapter that the training began with, in hexadecimal, or -
///     header     the SHA-256 of update.json's bytes
///     payload    the SHA-256 of the tensors' bytes
///     bytes      how many those are
///
/// A line is the field's value alone. Names and sessions hold no line feed.
public struct UpdateStatement: Sendable, Equatable {
  public var run: RunID
  public var round: Int
  public var attempt: Int
  public var client: ClientID
  public var session: String
  public var base: Digest?
  public var header: Digest
  public var payload: BlobReference

  /// The statement of an offer.
  ///
  /// - Parameters:
  ///   - offer: what is offered.
  ///   - header: the offer's header, read.
  public init(_ offer: UploadOffer, _ header: UpdateHeader) {
    run = header.run
    round = header.round
    attempt = offer.attempt
    client = header.client
    session = offer.caller.session
    base = header.baseDigest
    self.header = Digest(of: offer.header)
    payload = offer.payload
  }

  /// The statement that a kept signature must be of.
  public init(
    run: RunID, round: Int, client: ClientID, base: Digest?, _ kept: UpdateSignature
  ) {
    self.run = run
    self.round = round
    attempt = kept.attempt
    self.client = client
    session = kept.session
    self.base = base
    header = kept.header
    payload = BlobReference(digest: kept.payload, bytes: kept.bytes)
  }

  public var bytes: Data {
    let lines = [
      "fedpeat-update-1", run.name, "\(round)", "\(attempt)", client.name, session,
      base?.hex ?? "-", header.hex, payload.digest.hex, "\(payload.bytes)",
    ]
    return Data(lines.map { $0 + "\n" }.joined().utf8)
  }

  /// Signs it: ECDSA with P-256 and SHA-256, in DER.
  public func signed(by key: P256.Signing.PrivateKey) throws -> Data {
    try key.signature(for: bytes).derRepresentation
  }

  /// Whether a signature is this statement's, by a key in DER (SubjectPublicKeyInfo).
  public func isSigned(_ signature: Data, by key: Data) -> Bool {
    guard !session.contains("\n"), let key = try? P256.Signing.PublicKey(derRepresentation: key),
      let signature = try? P256.Signing.ECDSASignature(derRepresentation: signature)
    else { return false }
    return key.isValidSignature(signature, for: bytes)
  }
}

/// An offer's signature, and by whom it must be: what the connection says, never the message.
public struct UpdateProof: Sendable, Equatable {
  public var signature: Data
  /// The key of the certificate that the client showed in the handshake, in DER (SubjectPublicKeyInfo).
  public var key: Data
  /// That certificate's serial number.
  public var certificate: String

  public init(signature: Data, key: Data, certificate: String) {
    self.signature = signature
    self.key = key
    self.certificate = certificate
  }
}

/// What is kept of the proof of an update that was taken: with it and the update's own header anybody can check the signature.
public struct UpdateSignature: Sendable, Codable, Equatable {
  public var attempt: Int
  public var session: String
  public var header: Digest
  public var payload: Digest
  public var bytes: Int
  /// ECDSA with P-256 and SHA-256, in DER, as base64.
  public var signature: Data
  /// The serial number of the certificate whose key it is.
  public var certificate: String
  /// That key, in DER (SubjectPublicKeyInfo), as base64; absent in results of older programs.
  public var key: Data?

  init(_ statement: UpdateStatement, _ proof: UpdateProof) {
    attempt = statement.attempt
    session = statement.session
    header = statement.header
    payload = statement.payload.digest
    bytes = statement.payload.bytes
    signature = proof.signature
    certificate = proof.certificate
    key = proof.key
  }
}
