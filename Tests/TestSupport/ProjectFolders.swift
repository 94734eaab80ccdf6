import Foundation
import Testing

/// Where the project's own folders lie, found from this source file.
public enum ProjectFolders {
  /// The project's root.
  public static let root = URL(fileURLWithPath: #filePath)
    .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

  /// The golden files that Tools/golden made.
  public static let golden = root.appendingPathComponent("Tests/ParityTests/Golden")

  /// Real models and corpora, not part of the project: `FEDPEAT_ASSETS`, or `../shared/assets` beside the project.
  public static let assets: URL = {
    if let path = ProcessInfo.processInfo.environment["FEDPEAT_ASSETS"], !path.isEmpty {
      return URL(fileURLWithPath: path)
    }
    return root.deletingLastPathComponent().appendingPathComponent("shared/assets")
  }()

  /// A file or folder of the assets, such as "models/stories260K"; `nil` if it is not there.
  public static func asset(_ path: String) -> URL? {
    let url = assets.appendingPathComponent(path)
    return FileManager.default.fileExists(atPath: url.path) ? url : nil
  }
}

extension Trait where Self == ConditionTrait {
  /// Skips the test, and says why, where one of these files or folders of the assets is absent.
  public static func needsAssets(_ paths: String...) -> Self {
    let missing = paths.filter { ProjectFolders.asset($0) == nil }
    return .enabled(
      if: missing.isEmpty,
      "not in the assets folder: \(missing.joined(separator: ", ")). Set FEDPEAT_ASSETS to a folder that has it."
    )
  }
}
