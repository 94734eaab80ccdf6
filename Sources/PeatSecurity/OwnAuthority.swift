import Foundation

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
    func folder(_ name: String) -> URL? {
      environment[name].flatMap {
        $0.isEmpty ? nil : URL(fileURLWithPath: ($0 as NSString).expandingTildeInPath)
      }
    }
    let base =
      folder("FEDPEAT_HOME")
      ?? (folder("XDG_STATE_HOME") ?? home.appendingPathComponent(".local/state"))
      .appendingPathComponent("fedpeat")
    return base.appendingPathComponent("ca")
  }
}
