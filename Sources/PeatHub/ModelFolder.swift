import Foundation
import PeatTensor

/// Finds the folder that a person means by MODEL or ADAPTER: a path, or the name of a model or an adapter in the Hub's cache.
public enum ModelFolder {
  /// What is looked for.
  public enum Kind: String, Sendable { case model, adapter }

  /// A folder that is there, if `text` is its path; else the cache's of `ORG/NAME[@revision]`, or of `NAME` alone where only one owner's
  /// model of that name is there. What is no such name stays the path that it is.
  ///
  /// - Throws: `inputOutput` where neither is there, or a part of the model is missing, and says how to get it; `usage` for a name that
  ///   stands for several models.
  public static func url(
    _ text: String, of kind: Kind = .model, cache: HubCache = HubCache()
  ) throws -> URL {
    let path = URL(fileURLWithPath: (text as NSString).expandingTildeInPath)
    if FileManager.default.fileExists(atPath: path.path) { return path }
    guard let name = try? HubName(text) else { return path }
    let found = try cachedName(name, cache)
    guard let folder = cache.snapshot(of: found) else {
      let isKnown = cache.repositories().contains(found.repository)
      guard !isKnown || cache.hasWholeRevision(of: found) else {
        throw PeatError.inputOutput(
          "The Hub's cache '\(cache.folder.path)' has only the beginning of '\(found)', of a pull that was not finished. 'fedpeat pull \(found)' gets the rest."
        )
      }
      throw PeatError.inputOutput(
        "There is no \(kind) folder '\(text)', and the Hub's cache '\(cache.folder.path)' has no \(kind) of that name.\(isKnown ? " Another revision of it is in the cache." : "") If it is one "
          + "on the Hub, 'fedpeat pull \(text)' gets it.")
    }
    if let missing = HubSnapshot.missing(from: folder) {
      throw PeatError.inputOutput(
        "The Hub's cache has only a part of '\(found)': \(missing), in '\(folder.path)'. 'fedpeat pull \(found)' gets the rest."
      )
    }
    return folder
  }

  /// A path from the root on, if a folder is there; else the text as it is. For configurations that are read elsewhere.
  public static func word(_ text: String) -> String {
    let path = URL(fileURLWithPath: (text as NSString).expandingTildeInPath).path
    let isName = (try? HubName(text)) != nil
    return isName && !FileManager.default.fileExists(atPath: path) ? text : path
  }

  /// The name itself, or the only one in the cache that ends in it.
  private static func cachedName(_ name: HubName, _ cache: HubCache) throws -> HubName {
    let repositories = cache.repositories()
    guard !name.repository.contains("/"), !repositories.contains(name.repository) else {
      return name
    }
    let owners = repositories.filter { $0.hasSuffix("/\(name.repository)") }
    guard owners.count <= 1 else {
      throw PeatError.usage(
        "'\(name.repository)' may be any of \(owners.joined(separator: ", ")) in the Hub's cache. Say which."
      )
    }
    return try owners.first.map { try HubName(repository: $0, revision: name.revision) } ?? name
  }
}
