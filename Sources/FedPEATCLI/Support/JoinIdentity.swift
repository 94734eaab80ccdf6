import FedPEAT
import Foundation

/// Who a client is on the network, and where that comes from: PEM files, an identity that its folder keeps, a token, or, on this machine, the
/// user's own authority.
struct JoinIdentity {
  let configuration: Join.Configuration
  let address: NetworkAddress
  /// Where an identity is kept.
  let folder: URL

  /// The place in a client's folder.
  static let folderName = "identity"

  func resolve() async throws -> (client: ClientID, security: ClientSecurity) {
    let own = [configuration.certificate, configuration.key, configuration.trust]
    if configuration.insecure {
      guard own.allSatisfy({ $0 == nil }), configuration.token == nil else {
        throw PeatError.usage(
          "--insecure does without certificates: leave --token, --certificate, --key and --trust out."
        )
      }
      return (try ClientID(configuration.name ?? randomName), .plaintext)
    }
    if let certificate = configuration.certificate, let key = configuration.key,
      let trust = configuration.trust
    {
      return try use(
        Identity(
          certificate: URL(path: certificate), key: URL(path: key), trust: URL(path: trust)),
        from: certificate)
    }
    guard own.allSatisfy({ $0 == nil }) else {
      throw PeatError.usage("--certificate, --key and --trust belong together.")
    }
    let place = folder.appendingPathComponent(Self.folderName)
    let kept = try Identity(in: place)
    if let text = configuration.token {
      let token = try EnrolmentToken(try Self.read(text))
      if let kept {
        guard try kept.trust.contains(where: { try $0.fingerprint == token.ca }) else {
          throw PeatError.usage(
            "'\(place.relativePath)' keeps an identity of another authority than the token's. Give another --folder."
          )
        }
        return try use(kept, from: place.relativePath)
      }
      return try use(try await enrol(token, in: place), from: place.relativePath)
    }
    if let kept { return try use(kept, from: place.relativePath) }
    guard address.isLoopback else {
      throw PeatError.usage(
        "Nothing says who you are to \(address): give --token, which its owner makes (fedpeat ca token), or --certificate, --key and --trust."
      )
    }
    return try use(
      .ofThisUser(as: ClientID(configuration.name ?? randomName)),
      from: "the user's own authority")
  }

  private func use(
    _ identity: Identity, from place: String
  ) throws -> (client: ClientID, security: ClientSecurity) {
    try identity.check(as: .client)
    let client = try identity.client
    if let name = configuration.name, name != client.name {
      throw PeatError.usage(
        "The certificate from \(place) is that of '\(client)', not '\(name)'. Leave --name out, or use another folder."
      )
    }
    return (client, .mutualTLS(identity))
  }

  private var randomName: String { "client-" + UUID().uuidString.prefix(8).lowercased() }

  /// A token itself, or what a file holds.
  private static func read(_ text: String) throws -> String {
    guard !text.hasPrefix("fedpeat"), FileManager.default.fileExists(atPath: URL(path: text).path)
    else { return text }
    return String(
      decoding: try Data(contentsOf: URL(path: text), options: .mappedIfSafe).prefix(8192),
      as: UTF8.self)
  }

  /// Enrols, with the same patience as a client that joins.
  private func enrol(_ token: EnrolmentToken, in place: URL) async throws -> Identity {
    if configuration.folder == nil {
      Terminal.caution(
        "without --folder the certificate that the token is worth is gone with this process, and the token is used up"
      )
    }
    let client = try ClientID(configuration.name ?? randomName)
    let policy = RetryPolicy(attempts: configuration.retries)
    var random = SeededRandom(seed: configuration.seed, "enrolment of \(client)")
    for attempt in 1... {
      do {
        let identity = try await Identity.enrol(
          token, as: client, at: address, keepingIn: place)
        Terminal.note(
          "enrolled     \(client), certificate \(identity.certificate.serial), until \(identity.certificate.notValidAfter.formatted(.iso8601))"
        )
        return identity
      } catch let error as PeatError where error.code == .unavailable {
        guard attempt < policy.attempts else {
          throw PeatError.unavailable(
            "The coordinator (\(address)) can't be reached after \(attempt) \(attempt == 1 ? "try" : "tries"): \(error.message) Check that it runs, and its address."
          )
        }
        let wait = policy.delay(after: attempt, using: &random)
        Terminal.note(
          "The coordinator can't be reached: \(error.message) Trying again in \(Format.number(wait.seconds, digits: 1)) s (\(attempt + 1) of \(policy.attempts))"
        )
        try await Task.sleep(for: wait)
      }
    }
    throw CancellationError()
  }
}
