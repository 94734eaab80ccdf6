import Foundation
import GRPCCore
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
  /// That certificate's serial number and key.
  var serial: String?
  /// SubjectPublicKeyInfo in DER.
  var key: [UInt8]?
  /// What says so.
  var certificate: ShownCertificate?
  var address: String
  /// What its calls and transfers are counted under.
  var account: String { client?.name ?? address }
}

/// Looks at each call before the coordinator hears of it: who it is, whether that certificate holds, whether it is not too much.
struct Doorkeeper: Sendable {
  let credentials: ServerCredentials?
  let admission: Admission
  let audit: AuditLog?
  private let connections: OpenConnections
  /// Hears of clients whose certificate no longer lets them in.
  private let onTurnedAway: @Sendable (ClientID, _ reason: String) -> Void
  private let verifier: CertificateVerifier?

  /// - Parameter connections: know what clients showed in their handshakes.
  init(
    _ security: ServerSecurity, _ limits: ServerLimits, _ audit: AuditLog?,
    _ connections: OpenConnections,
    onTurnedAway: @escaping @Sendable (ClientID, _ reason: String) -> Void = { _, _ in }
  ) {
    self.connections = connections
    self.onTurnedAway = onTurnedAway
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
    do { return try check(context, as: name) } catch let unverified as Unverified {
      let refusal: RPCError
      do { refusal = try await explain(unverified.certificate, context) } catch {
        throw refused(error, context, as: name)
      }
      throw refused(refusal, context, as: name)
    } catch { throw refused(error, context, as: name) }
  }

  private func check(_ context: ServerContext, as name: ClientID?) throws -> Peer {
    let peer = try identify(context)
    connections.identify(context.remotePeer)
    try admission.call(by: peer.account)
    if let client = peer.client, let name, client != name {
      throw Self.refusal(
        .permissionDenied,
        "The certificate is that of '\(client)', the call is made as '\(name)'. Each takes part under the name in its certificate."
      )
    }
    return peer
  }

  /// The same error, written down.
  private func refused(
    _ error: any Error, _ context: ServerContext, as name: ClientID?
  ) -> any Error {
    guard let error = error as? RPCError else { return error }
    let certificate = connections.shown(by: context.remotePeer)
    audit?.record(
      .init(
        "call", by: certificate?.name ?? "unknown", certificate: certificate?.serial,
        from: context.remotePeer, .refused,
        details: [
          "method": context.descriptor.method, "as": name?.name ?? "", "reason": error.message,
        ]))
    return error
  }

  /// Who calls. Not asynchronous: a call that waits for minutes would keep what this takes on its stack.
  private func identify(_ context: ServerContext) throws -> Peer {
    guard let credentials else { return Peer(address: context.remotePeer) }
    guard let own = connections.shown(by: context.remotePeer) else {
      throw Self.refusal(.unauthenticated, "No certificate was shown.")
    }
    if let certificate = own.unverified { throw Unverified(certificate: certificate) }
    try check(own, by: credentials, context)
    guard let name = own.name, let client = try? ClientID(name) else {
      throw Self.refusal(
        .unauthenticated, "The common name of the certificate can't name a client.")
    }
    return Peer(
      client: client, serial: own.serial, key: own.key, certificate: own,
      address: context.remotePeer)
  }

  /// Looks again at who was let in, where time has passed since: a certificate may have been taken back meanwhile, or have ended.
  ///
  /// - Parameter peer: who was let in; `nil`: who calls now.
  func lookAgain(_ context: ServerContext, at peer: Peer? = nil) throws {
    guard let credentials,
      let own = peer?.certificate ?? connections.shown(by: context.remotePeer)
    else { return }
    do { try check(own, by: credentials, context) } catch {
      throw refused(error, context, as: peer?.client)
    }
  }

  private func check(
    _ own: ShownCertificate, by credentials: ServerCredentials, _ context: ServerContext
  ) throws {
    do { try credentials.check(own) } catch let error as RPCError {
      // With it end its other calls, which say that it is there. Not so where a clock may be wrong.
      if !error.metadata[stringValues: clockKey].contains(where: { _ in true }) {
        connections.end(context.remotePeer, in: .seconds(1))
      }
      if let client = own.name.flatMap({ try? ClientID($0) }) {
        onTurnedAway(client, error.message)
      }
      throw error
    }
  }

  /// A certificate that the handshake found no chain for.
  private struct Unverified: Error {
    var certificate: Certificate
  }

  /// Why a certificate does not let in.
  private func explain(_ certificate: Certificate, _ context: ServerContext) async throws
    -> RPCError
  {
    try admission.call(by: context.remotePeer)
    var reason = "it comes from another authority"
    do { _ = try await verifier?.verify([certificate]) } catch { reason = "\(error)" }
    if certificate.issuer == certificate.subject {
      reason = "it is its own authority; enrol first, with a token"
    }
    let refusal = Self.refusal(
      .unauthenticated, "The certificate that was shown does not let in here: \(reason).")
    let now = credentials?.now() ?? Date()
    if certificate.isValid(at: now) { return refusal }
    // The clock may be set right: then another handshake is needed.
    connections.end(context.remotePeer, in: .seconds(1))
    return refusal.saying(now)
  }

  /// The key that a newcomer proved in the handshake.
  func newcomersKey(_ context: ServerContext) throws -> Data {
    try admission.call(by: context.remotePeer)
    try admission.enrolment()
    guard let own = connections.shown(by: context.remotePeer) else {
      throw Self.refusal(.unauthenticated, "No certificate was shown.")
    }
    return Data(own.key)
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

extension RPCError {
  /// The same of a certificate's dates, with what this side's clock shows: it may be that one that is wrong.
  fileprivate func saying(_ now: Date) -> RPCError {
    var error = self
    error.metadata.addString(now.iso, forKey: clockKey)
    return error
  }
}

extension ServerCredentials {
  /// Throws where a certificate does not hold now: before it begins, after it has ended, or taken back.
  fileprivate func check(_ own: ShownCertificate) throws {
    let now = now()
    guard now >= own.begins else {
      throw Doorkeeper.refusal(
        .unauthenticated,
        "The certificate is not valid before \(own.begins.iso), and the coordinator's clock shows \(now.iso). Are both clocks right?"
      ).saying(now)
    }
    guard now <= own.ends else {
      throw Doorkeeper.refusal(
        .unauthenticated,
        "The certificate expired at \(own.ends.iso); the coordinator's clock shows \(now.iso). Ask for a new one."
      ).saying(now)
    }
    guard !isRevoked(own.serial) else {
      throw Doorkeeper.refusal(
        .unauthenticated, "The certificate \(own.serial) was revoked. Ask for a new one.")
    }
  }
}

/// Looks again at a caller while it sends or is sent something that takes long: once a second.
final class SecondLook: Sendable {
  private let door: Doorkeeper
  private let context: ServerContext
  private let peer: Peer
  private let last = Mutex(ContinuousClock.now)

  init(_ door: Doorkeeper, _ context: ServerContext, at peer: Peer) {
    (self.door, self.context, self.peer) = (door, context, peer)
  }

  func take() throws {
    let isDue = last.withLock { last in
      let now = ContinuousClock.now
      guard now - last >= .seconds(1) else { return false }
      last = now
      return true
    }
    if isDue { try door.lookAgain(context, at: peer) }
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
