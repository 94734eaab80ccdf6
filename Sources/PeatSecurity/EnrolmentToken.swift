import Foundation
import PeatFederation
import PeatTensor

import enum Crypto.P256

/// An invitation to a run: whoever has it may enrol once, until it expires.
///
/// As text: `fedpeat1.` and base64url of a JSON object {ca, run, id, secret, expires}. `ca` is the SHA-256 of the authority's
/// certificate, by which a newcomer knows the coordinator at first contact.
public struct EnrolmentToken: Sendable, Equatable, Codable {
  public let ca: Fingerprint
  public let run: RunID
  /// Which token it is; no secret.
  public let id: String
  let secret: String
  /// Seconds since 1970.
  let expires: Int

  static let prefix = "fedpeat1."

  init(ca: Fingerprint, run: RunID, id: String, secret: String, expires: Int) {
    self.ca = ca
    self.run = run
    self.id = id
    self.secret = secret
    self.expires = expires
  }

  private enum CodingKeys: String, CodingKey { case ca, run, id, secret, expires }

  public init(from decoder: any Decoder) throws {
    let container = try decoder.container(keyedBy: CodingKeys.self)
    guard let ca = Fingerprint(hex: try container.decode(String.self, forKey: .ca)) else {
      throw PeatError.usage("The token's fingerprint is none.")
    }
    self.init(
      ca: ca, run: try container.decode(RunID.self, forKey: .run),
      id: try container.decode(String.self, forKey: .id),
      secret: try container.decode(String.self, forKey: .secret),
      expires: try container.decode(Int.self, forKey: .expires))
  }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode(ca.hex, forKey: .ca)
    try container.encode(run, forKey: .run)
    try container.encode(id, forKey: .id)
    try container.encode(secret, forKey: .secret)
    try container.encode(expires, forKey: .expires)
  }

  /// Reads a token as it was handed over. Throws `usage` where it is none.
  public init(_ text: String) throws {
    let text = text.trimmingCharacters(in: .whitespacesAndNewlines)
    let lines = text.split(whereSeparator: \.isNewline)
    if lines.count > 1, lines.allSatisfy({ $0.hasPrefix(Self.prefix) }) {
      throw PeatError.usage(
        "There are \(lines.count) enrolment tokens here, one a line, each for one client: give one of them."
      )
    }
    guard text.hasPrefix(Self.prefix), text.utf8.count <= 4096,
      let data = Data(base64URL: String(text.dropFirst(Self.prefix.count))),
      let token = try? JSONDecoder().decode(Self.self, from: data)
    else {
      throw PeatError.usage(
        "This is no enrolment token, or not all of it: one begins with '\(Self.prefix)'. Copy it whole, or ask for another."
      )
    }
    self = token
  }

  public var text: String {
    get throws {
      let encoder = JSONEncoder()
      encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
      return Self.prefix + (try encoder.encode(self)).base64URL
    }
  }

  public var expiry: Date { Date(timeIntervalSince1970: Double(expires)) }

  /// What the coordinator keeps in the secret's place.
  static func hash(_ secret: String) -> String {
    Fingerprint(of: Data("fedpeat enrolment \(secret)".utf8)).hex
  }

  /// What a newcomer sends.
  public var proof: EnrolmentRequest.Proof { .init(token: id, secret: secret) }
}

extension EnrolmentToken: CustomStringConvertible, CustomDebugStringConvertible {
  /// Without the secret.
  public var description: String { "token \(id) for '\(run)', until \(expiry.iso)" }
  public var debugDescription: String { description }
}

/// A newcomer's wish.
public struct EnrolmentRequest: Sendable {
  public struct Proof: Sendable {
    public var token: String
    public var secret: String

    public init(token: String, secret: String) {
      self.token = token
      self.secret = secret
    }
  }

  public var proof: Proof
  /// Under which name it wants to take part.
  public var client: ClientID
  /// The run that it believes to enrol in.
  public var run: RunID

  public init(proof: Proof, client: ClientID, run: RunID) {
    self.proof = proof
    self.client = client
    self.run = run
  }
}

extension Data {
  var base64URL: String {
    base64EncodedString().replacingOccurrences(of: "+", with: "-")
      .replacingOccurrences(of: "/", with: "_").replacingOccurrences(of: "=", with: "")
  }

  init?(base64URL text: String) {
    let text = text.replacingOccurrences(of: "-", with: "+")
      .replacingOccurrences(of: "_", with: "/")
    self.init(base64Encoded: text + String(repeating: "=", count: (4 - text.count % 4) % 4))
  }

  /// Of the system's own randomness.
  static func random(_ count: Int) -> Data {
    var generator = SystemRandomNumberGenerator()
    return Data((0..<count).map { _ in UInt8.random(in: .min ... .max, using: &generator) })
  }
}
