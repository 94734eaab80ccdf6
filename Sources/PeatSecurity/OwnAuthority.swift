import Foundation
import PeatFederation
import PeatTensor

extension CertificateAuthority {
  /// Where the user's own authority lies, which coordinators use that are given no other: `ca` in `FEDPEAT_HOME`, else in
  /// `fedpeat` in `XDG_STATE_HOME` or `~/.local/state`.
  ///
  /// Who may read that folder is this user, so clients of the same user on the same machine take their certificates there
  /// themselves and need no token.
  public static func ownFolder(
    environment: [String: String] = ProcessInfo.processInfo.environment,
    home: URL = FileManager.default.homeDirectoryForCurrentUser
  ) -> URL {
    StateFolder.url(environment: environment, home: home).appendingPathComponent("ca")
  }
}

extension Identity {
  /// A client's identity of the user's own authority, for this process: what a coordinator of the same user on the same machine lets in
  /// without a token. The authority is made where it is missing.
  public static func ofThisUser(as client: ClientID) throws -> Identity {
    try CertificateAuthority.openOrCreate(at: CertificateAuthority.ownFolder())
      .issueForThisProcess(.client, name: client.name)
  }
}
