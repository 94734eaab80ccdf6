import Foundation
import PeatFederation
import PeatTensor
import X509

import enum Crypto.P256

extension Identity {
  /// What a coordinator answered to a newcomer, checked: it is for this key and this name, and of the token's authority.
  ///
  /// - Parameters:
  ///   - certificates: in DER, the own one first.
  ///   - authorities: in DER.
  package init(
    enrolled certificates: [[UInt8]], authorities: [[UInt8]], key: P256.Signing.PrivateKey,
    client: ClientID, token: EnrolmentToken
  ) async throws {
    let wrong = PeatError.badData(
      "The coordinator's answer to the token is not a certificate for '\(client)' and its key.")
    guard (1...8).contains(certificates.count), (1...8).contains(authorities.count),
      let chain = try? certificates.map({ try Certificate(derEncoded: $0) }),
      let known = try? authorities.map({ try Certificate(derEncoded: $0) }), let own = chain.first,
      own.publicKey == Certificate.PublicKey(key.publicKey), own.commonName == client.name,
      let trusted = known.first(where: { (try? $0.fingerprint) == token.ca })
    else { throw wrong }
    do { _ = try await CertificateVerifier(.authorities([trusted])).verify(chain) } catch {
      throw PeatError.badData("\(wrong.message) Of its certificate: \(error).", cause: error)
    }
    self.init(chain: chain, key: key.pemRepresentation + "\n", trust: [trusted])
  }
}
