import Foundation
import PeatFederation
import PeatSecurity
import PeatTensor

extension Identity {
  /// Enrols with a token at a coordinator, and keeps the identity in a folder, where `init(in:)` finds it.
  ///
  /// The key is kept there before the token is used up: where the answer is lost, the same call asks for it again.
  public static func enrol(
    _ token: EnrolmentToken, as client: ClientID, at address: NetworkAddress,
    keepingIn folder: URL
  ) async throws -> Identity {
    let key = try newcomerKey(in: folder)
    let identity = try await GRPCConnection.enrol(token, as: client, key: key, at: address)
    try identity.write(to: folder)
    return identity
  }
}
