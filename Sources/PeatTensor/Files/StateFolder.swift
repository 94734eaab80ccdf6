import Foundation

/// Where the program keeps what it needs again, for one user: `FEDPEAT_HOME`, else `fedpeat` in `XDG_STATE_HOME` or `~/.local/state`.
public enum StateFolder {
  public static func url(
    environment: [String: String] = ProcessInfo.processInfo.environment,
    home: URL = FileManager.default.homeDirectoryForCurrentUser
  ) -> URL {
    func folder(_ name: String) -> URL? {
      environment[name].flatMap {
        $0.isEmpty ? nil : URL(fileURLWithPath: ($0 as NSString).expandingTildeInPath)
      }
    }
    return folder("FEDPEAT_HOME")
      ?? (folder("XDG_STATE_HOME") ?? home.appendingPathComponent(".local/state"))
      .appendingPathComponent("fedpeat")
  }
}
