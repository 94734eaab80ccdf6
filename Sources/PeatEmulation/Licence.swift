import Foundation
import PeatTensor

/// Finds out under which licence a model folder is, where it says so.
public enum Licence {
  /// `license:` in the front matter of README.md, as model cards state it; `nil` if there is none.
  public static func stated(in folder: URL) throws -> String? {
    let url = folder.appendingPathComponent("README.md")
    guard FileManager.default.fileExists(atPath: url.path) else { return nil }
    let lines = String(decoding: try JSONFile.bytes(of: url), as: UTF8.self)
      .split(separator: "\n", omittingEmptySubsequences: false)
    guard lines.first == "---" else { return nil }
    for line in lines.dropFirst() {
      if line == "---" { return nil }
      if line.hasPrefix("license:") {
        let value = line.dropFirst("license:".count).trimmingCharacters(in: .whitespaces)
        return value.isEmpty ? nil : value
      }
    }
    return nil
  }
}
