import Foundation
import GRPCCore
import GRPCNIOTransportHTTP2Posix
import PeatFederation
import PeatSecurity
import PeatTensor
import SwiftASN1
import Synchronization
import X509

/// Who calls, as far as the connection proves it.
struct Peer: Sendable {
  /// By its certificate; `nil` without TLS, where everybody is whom it says.
  var client: ClientID?
  /// That certificate's serial number and key (SubjectPublicKeyInfo in DER).
  var serial: String?
  var key: Data?
  var address: String
  /// What its calls and transfers are counted under.
  var account: String { client?.name ?? address }
}

/// Looks at each call before the coordinator hears of it: who it is, whether that certificate holds, whether it is not too much.
struct Doorkeeper: Sendable {
  let credentials: ServerCredentials?
  let admission: Admission
  let audit: AuditLog?
  private let verifier: CertificateVerifier?

  init(_ security: ServerSecurity, _ limits: ServerLimits, _ audit: AuditLog?) {
    if case .mutualTLS(let credentials) = security {
      self.credentials = credentials
      verifier = CertificateVerifier(.authorities(credentials.identity.trust))
    } else {
      credentials = nil
      verifier = nil
    }
    admission = Admission(limits)
    self.audit = audit
  }

  /// Lets a call in, or throws.
  ///
  /// - Parameter name: who it says it is; `nil`: the call does not say.
  func admit(_ context: ServerContext, as name: ClientID?) async throws -> Peer {
    let method = context.descriptor.method
    do {
      let peer = try await identify(context)
      try admission.call(by: peer.account)
      if let client = peer.client, let name, client != name {
        throw Self.refusal(
          .permissionDenied,
          "The certificate is that of '\(client)', the call is made as '\(name)'. Each takes part under the name in its certificate."
        )
      }
      return peer
    } catch let error as RPCError {
      let certificate = (context.transportSpecific as? HTTP2ServerTransport.Posix.Context)?
        .peerCertificate
      audit?.record(
        .init(
          "call", by: certificate?.commonName ?? "unknown", certificate: certificate?.serial,
          from: context.remotePeer, .refused,
          details: [
            "method": method, "as": name?.name ?? "", "reason": error.message,
          ]))
      throw error
    }
  }

  private func identify(_ context: ServerContext) async throws -> Peer {
    guard let credentials, let verifier else { return Peer(address: context.remotePeer) }
    guard let shown = context.transportSpecific as? HTTP2ServerTransport.Posix.Context,
      let own = shown.peerCertificate
    else {
      throw Self.refusal(.unauthenticated, "No certificate was shown.")
    }
    guard shown.peerCertificateChain != nil else {
      try admission.call(by: context.remotePeer)
      var reason = "it comes from another authority"
      do { _ = try await verifier.verify([own]) } catch { reason = "\(error)" }
      if own.issuer == own.subject {
        reason = "it is its own authority; enrol first, with a token"
      }
      throw Self.refusal(
        .unauthenticated, "The certificate that was shown does not let in here: \(reason).")
    }
    guard own.isValid(at: Date()) else {
      throw Self.refusal(
        .unauthenticated,
        "The certificate expired at \(own.notValidAfter.iso). Ask for a new one.")
    }
    guard !credentials.isRevoked(own.serial) else {
      throw Self.refusal(
        .unauthenticated, "The certificate \(own.serial) was revoked. Ask for a new one.")
    }
    guard let name = own.commonName, let client = try? ClientID(name) else {
      throw Self.refusal(
        .unauthenticated, "The common name of the certificate can't name a client.")
    }
    return Peer(
      client: client, serial: own.serial, key: Data(own.publicKey.subjectPublicKeyInfo),
      address: context.remotePeer)
  }

  /// The key that a newcomer proved in the handshake.
  func newcomersKey(_ context: ServerContext) throws -> Data {
    try admission.call(by: context.remotePeer)
    try admission.enrolment()
    guard
      let own = (context.transportSpecific as? HTTP2ServerTransport.Posix.Context)?
        .peerCertificate
    else { throw Self.refusal(.unauthenticated, "No certificate was shown.") }
    return Data(own.publicKey.subjectPublicKeyInfo)
  }

  static func refusal(_ code: RPCError.Code, _ message: String) -> RPCError {
    RPCError(
      code: code, message: message,
      metadata: [codeKey: "\(PeatError.Code.usage.rawValue)"])
  }

  func record(
    _ action: String, by peer: Peer, as name: ClientID? = nil,
    _ result: AuditLog.Entry.Result = .ok, _ details: [String: String] = [:]
  ) {
    audit?.record(
      .init(
        action, by: peer.client?.name ?? name?.name ?? "unknown", certificate: peer.serial,
        from: peer.address, result, details: details))
  }
}

extension Certificate.PublicKey {
  /// In DER, as a certificate holds it.
  var subjectPublicKeyInfo: [UInt8] {
    var serializer = DER.Serializer()
    do { try serializer.serialize(self) } catch { return [] }
    return serializer.serializedBytes
  }
}
