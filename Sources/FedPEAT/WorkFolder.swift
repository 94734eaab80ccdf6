import Foundation

/// A folder to work in: one that was named and stays, or a temporary one that is gone after `remove()`.
public struct WorkFolder: Sendable {
  public let url: URL
  private let isTemporary: Bool

  /// A temporary folder for some purpose, which becomes part of its name.
  public init(temporary purpose: String) throws {
    url = FileManager.default.temporaryDirectory.appendingPathComponent(
      "fedpeat-\(purpose)-\(UUID().uuidString)")
    isTemporary = true
    try make()
  }

  /// The named folder, made where it is missing.
  public init(_ url: URL) throws {
    self.url = url
    isTemporary = false
    try make()
  }

  private func make() throws {
    do { try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true) } catch
    {
      throw PeatError.inputOutput(
        "Can't make the folder '\(url.path)': \(error.localizedDescription)", cause: error)
    }
  }

  /// Deletes a temporary folder.
  public func remove() {
    if isTemporary { try? FileManager.default.removeItem(at: url) }
  }
}
