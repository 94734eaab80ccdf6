import Foundation
import PeatFederation
import PeatTensor
import SwiftASN1
import X509

/// Why a certificate is not believed, in words for who showed it.
public struct CertificateProblem: Error, Sendable, Equatable, CustomStringConvertible {
  public let description: String

  package init(_ description: String) { self.description = description }
}

/// Verifies the certificates that others show.
public struct CertificateVerifier: Sendable {
  /// Whom one believes.
  public enum Trust: Sendable {
    /// Certificates that come from these.
    case authorities([Certificate])
    /// The authority whose certificate has this SHA-256, and is shown with the others: at first contact.
    case fingerprint(Fingerprint)
  }

  /// More certificates than any chain has here.
  private static let longestChain = 6
  private let trust: Trust

  public init(_ trust: Trust) { self.trust = trust }

  /// Verifies a chain as it was shown, the own certificate first: signatures, dates, constraints and what it is for.
  ///
  /// - Parameters:
  ///   - host: by which name or address a server was called; `nil`: any.
  ///   - kind: whose it has to be; `nil`: a server's where there is a host, else a client's.
  /// - Returns: the verified chain, up to an authority.
  public func verify(
    _ shown: [Certificate], host: String? = nil, as kind: CertificateKind? = nil,
    now: Date = Date()
  ) async throws -> [Certificate] {
    guard let own = shown.first, shown.count <= Self.longestChain else {
      throw CertificateProblem(
        "\(shown.count) certificates were shown; it must be 1 to \(Self.longestChain).")
    }
    let kind = kind ?? (host == nil ? .client : .server)
    let roots: [Certificate]
    switch trust {
    case .authorities(let known): roots = known
    case .fingerprint(let expected):
      roots = shown.filter { (try? $0.fingerprint) == expected }
      guard !roots.isEmpty else {
        throw CertificateProblem(
          "it comes from another authority than the token says (\(expected.short)…)")
      }
    }
    var verifier = Verifier(rootCertificates: CertificateStore(roots)) {
      RFC5280Policy()
      UsagePolicy(kind: kind)
      HostPolicy(host: host)
    }
    switch await verifier.validate(
      leaf: own, intermediates: CertificateStore(shown.dropFirst()))
    {
    case .validCertificate(let chain): return Array(chain)
    case .couldNotValidate(let failures):
      throw CertificateProblem(
        Self.reason(own, kind, roots, failures.map { "\($0.policyFailureReason)" }, now))
    }
  }

  private static func reason(
    _ own: Certificate, _ kind: CertificateKind, _ roots: [Certificate], _ failures: [String],
    _ now: Date
  ) -> String {
    guard own.isValid(at: now) else {
      return now > own.notValidAfter
        ? "it expired at \(own.notValidAfter.iso)"
        : "it is valid only from \(own.notValidBefore.iso), and here it is \(now.iso): see which clock is wrong"
    }
    if let failure = failures.first { return failure }
    // Not by the name: authorities may have the same.
    let isIssued = roots.contains { $0.publicKey.isValidSignature(own.signature, for: own) }
    guard isIssued else {
      return "it comes from another authority"
    }
    return "no chain leads from it to an authority that is believed"
  }
}

/// A certificate says itself what it may be used for: a client's is no server's.
private struct UsagePolicy: VerifierPolicy {
  let kind: CertificateKind
  var verifyingCriticalExtensions: [ASN1ObjectIdentifier] {
    [.X509ExtensionID.extendedKeyUsage, .X509ExtensionID.keyUsage]
  }

  mutating func chainMeetsPolicyRequirements(
    chain: UnverifiedCertificateChain
  ) -> PolicyEvaluationResult {
    let kind = kind
    if chain.leaf.mayServe(as: kind) { return .meetsPolicy }
    return .failsToMeetPolicy(reason: "it is not a \(kind)'s certificate")
  }
}

/// A server's certificate names the host that was called.
private struct HostPolicy: VerifierPolicy {
  let host: String?
  var verifyingCriticalExtensions: [ASN1ObjectIdentifier] {
    [.X509ExtensionID.subjectAlternativeName]
  }

  mutating func chainMeetsPolicyRequirements(
    chain: UnverifiedCertificateChain
  ) -> PolicyEvaluationResult {
    guard let host else { return .meetsPolicy }
    let isAddress = Certificate.addressBytes(host) != nil
    var policy = ServerIdentityPolicy(
      serverHostname: isAddress ? nil : host, serverIP: isAddress ? host : nil)
    switch policy.chainMeetsPolicyRequirements(chain: chain) {
    case .meetsPolicy: return .meetsPolicy
    case .failsToMeetPolicy:
      let names = (try? chain.leaf.extensions.subjectAlternativeNames).flatMap { $0 } ?? .init()
      let list = names.prefix(20).map(Self.text).joined(separator: ", ")
      return .failsToMeetPolicy(
        reason:
          "it is for \(list.isEmpty ? "no host" : list), not for \(host) (serve --host adds names)")
    }
  }

  private static func text(_ name: GeneralName) -> String {
    switch name {
    case .dnsName(let name): name
    case .ipAddress(let octets):
      octets.bytes.count == 4 ? octets.bytes.map(String.init).joined(separator: ".") : "an IPv6"
    default: "another name"
    }
  }
}
