import Foundation
import GRPCNIOTransportHTTP2Posix
import NIOCore
import NIOSSL
import PeatFederation
import PeatSecurity
import PeatTensor
import X509

import enum Crypto.P256

/// How a coordinator protects its connections.
public enum ServerSecurity: Sendable {
  /// TLS, with certificates on both sides.
  case mutualTLS(ServerCredentials)
  /// Not at all: anybody on the way can read and change what travels, and call itself what it likes.
  case plaintext
}

/// What a coordinator shows, and whom it lets in.
public struct ServerCredentials: Sendable {
  public var identity: Identity
  /// Whether a certificate with this serial number was taken back; asked at each call.
  public var isRevoked: @Sendable (_ serial: String) -> Bool
  /// Who gives newcomers with a token their certificates, and for which run; `nil`: nobody does here.
  public var enrolment: (authority: CertificateAuthority, run: RunID)?
  /// What the clock shows, for the dates of certificates.
  package var now: @Sendable () -> Date = { Date() }

  /// - Throws: where the identity is not a server's.
  public init(
    _ identity: Identity, isRevoked: @escaping @Sendable (String) -> Bool = { _ in false }
  ) throws {
    try identity.check(as: .server)
    self.identity = identity
    self.isRevoked = isRevoked
  }

  /// Of an authority in a folder: a fresh certificate for these hosts, and enrolment in a run.
  public init(
    _ authority: CertificateAuthority, run: RunID, hosts: [String]
  ) throws {
    identity = try authority.issueForThisProcess(.server, name: "coordinator", hosts: hosts)
    isRevoked = { authority.isRevoked($0) }
    enrolment = (authority, run)
  }
}

/// How a client protects its connection.
public enum ClientSecurity: Sendable {
  /// TLS, with certificates on both sides.
  case mutualTLS(Identity)
  /// Not at all.
  case plaintext
  /// At first contact: a key that has no certificate yet, and the authority by its certificate's SHA-256.
  case newcomer(Newcomer)

  public struct Newcomer: Sendable {
    let key: P256.Signing.PrivateKey
    let authority: Digest
  }
}

extension ServerSecurity {
  /// What connections begin with; `nil` where they are not protected.
  var handshake: ServerHandshake? {
    get throws {
      guard case .mutualTLS(let credentials) = self else { return nil }
      return try ServerHandshake(credentials.identity)
    }
  }
}

/// The handshake of each connection with a coordinator.
///
/// In it each client proves that it has its certificate's key. Whether that certificate is good is decided at each call, by
/// `Doorkeeper`: a newcomer has one that it signed itself, and who is turned away is told why.
struct ServerHandshake: Sendable {
  private let context: NIOSSLContext
  private let verifier: CertificateVerifier

  init(_ identity: Identity) throws {
    verifier = CertificateVerifier(.authorities(identity.trust))
    var tls = TLSConfiguration.makeServerConfiguration(
      certificateChain: try native(identity.chain).map { .certificate($0) },
      privateKey: .privateKey(
        try NIOSSLPrivateKey(bytes: Array(identity.key.utf8), format: .pem)))
    tls.minimumTLSVersion = .tlsv12
    tls.certificateVerification = .noHostnameVerification
    tls.trustRoots = .certificates(try native(identity.trust))
    tls.applicationProtocols = ["grpc-exp", "h2"]
    context = try NIOSSLContext(configuration: tls)
  }

  /// For one connection, which keeps what its client shows.
  func handler(for connection: OpenConnection) -> NIOSSLServerHandler {
    NIOSSLServerHandler(context: context) { [verifier] shown, promise in
      promise.completeWithTask {
        guard let chain = try? certificates(shown) else { return .failed }
        let verified = try? await verifier.verify(chain)
        connection.shown = ShownCertificate(
          verified?.first ?? chain[0], isVerified: verified != nil)
        return .certificateVerified(.init(nil))
      }
    }
  }
}

private func native(_ chain: [Certificate]) throws -> [NIOSSLCertificate] {
  try chain.map { try NIOSSLCertificate(bytes: try $0.der, format: .der) }
}

extension ClientSecurity {
  /// For the transport to a host.
  ///
  /// - Parameter diagnosis: hears why a coordinator's certificate is not believed.
  func transport(
    to host: String, _ diagnosis: ConnectionDiagnosis
  ) throws -> HTTP2ClientTransport.Posix.TransportSecurity {
    let (chain, key, verifier): ([Certificate], String, CertificateVerifier)
    switch self {
    case .plaintext: return .plaintext
    case .mutualTLS(let identity):
      (chain, key) = (identity.chain, identity.key)
      verifier = CertificateVerifier(.authorities(identity.trust))
    case .newcomer(let newcomer):
      chain = [try Certificate.selfSigned(newcomer.key, now: Date())]
      key = newcomer.key.pemRepresentation
      verifier = CertificateVerifier(.fingerprint(newcomer.authority))
    }
    var tls = HTTP2ClientTransport.Posix.TransportSecurity.TLS(
      certificateChain: try sources(chain), privateKey: .bytes(Array(key.utf8), format: .pem),
      // Names are verified below, with all else.
      serverCertificateVerification: .noHostnameVerification, trustRoots: .certificates([]))
    tls.customVerificationCallback = { shown, promise in
      promise.completeWithTask {
        do {
          let verified = try await verifier.verify(try certificates(shown), host: host)
          return .certificateVerified(.init(NIOSSL.ValidatedCertificateChain(try native(verified))))
        } catch {
          diagnosis.note(.distrusted("\(error)"))
          return .failed
        }
      }
    }
    return .tls(tls)
  }
}

private func sources(_ chain: [Certificate]) throws -> [TLSConfig.CertificateSource] {
  try chain.map { .bytes(try $0.der, format: .der) }
}

private func certificates(_ shown: [NIOSSLCertificate]) throws -> [Certificate] {
  guard (1...8).contains(shown.count) else {
    throw CertificateProblem("\(shown.count) certificates were shown")
  }
  return try shown.map { try Certificate(derEncoded: try $0.toDERBytes()) }
}
