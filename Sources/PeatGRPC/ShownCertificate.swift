import Foundation
import PeatSecurity
import X509

/// What a client showed of itself in a connection's handshake: little, as it is kept for as long as the connection stands.
struct ShownCertificate: Sendable {
  let name: String?
  let serial: String
  /// SubjectPublicKeyInfo in DER.
  let key: [UInt8]
  let begins: Date
  let ends: Date
  /// All of it, where no chain leads from it to an authority: for saying why.
  let unverified: Certificate?

  init(_ certificate: Certificate, isVerified: Bool) {
    name = certificate.commonName
    serial = certificate.serial
    key = certificate.publicKey.subjectPublicKeyInfo
    begins = certificate.notValidBefore
    ends = certificate.notValidAfter
    unverified = isVerified ? nil : certificate
  }

  func isValid(at date: Date) -> Bool { begins <= date && date <= ends }
}
