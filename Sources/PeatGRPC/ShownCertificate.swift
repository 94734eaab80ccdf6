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
  /// All of it, where no chain leads from it to an authority: for saying why. A list, as one that is empty takes no memory.
  private let whole: [Certificate]
  var unverified: Certificate? { whole.first }

  init(_ certificate: Certificate, isVerified: Bool) {
    name = certificate.commonName
    serial = certificate.serial
    // What it was written into has room for more.
    key = certificate.publicKey.subjectPublicKeyInfo.withUnsafeBufferPointer { Array($0) }
    begins = certificate.notValidBefore
    ends = certificate.notValidAfter
    whole = isVerified ? [] : [certificate]
  }

  func isValid(at date: Date) -> Bool { begins <= date && date <= ends }
}
