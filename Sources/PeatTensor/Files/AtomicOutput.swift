import Foundation

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// Writes files and folders so that they are either there whole or not there.
///
/// A symbolic link is followed: what it points to is replaced, not the link.
public enum AtomicOutput {
  /// Writes a file beside its place, syncs it, and renames it over `url`.
  public static func write(to url: URL, _ body: (FileHandle) throws -> Void) throws {
    let place = try place(of: url)
    let partial = neighbour(of: place)
    guard FileManager.default.createFile(atPath: partial.path, contents: nil) else {
      throw PeatError.inputOutput(
        "Can't write '\(url.path)': \(String(cString: strerror(errno))). Check that its folder "
          + "exists and may be written.")
    }
    do {
      let handle = try FileHandle(forWritingTo: partial)
      try body(handle)
      try handle.synchronize()
      try handle.close()
      try rename(partial, to: place)
    } catch {
      try? FileManager.default.removeItem(at: partial)
      throw wrapped(error, url)
    }
  }

  public static func write(_ data: Data, to url: URL) throws {
    try write(to: url) { try $0.write(contentsOf: data) }
  }

  /// Fills a new folder beside its place and renames it to `url`.
  ///
  /// A folder that is already there is replaced only if everything in it, and in the folders in it, has a name that
  /// `replacing` accepts; otherwise nothing is touched and an error says so. What lies deeper is named with the folders
  /// above it: `best-round/config.json`.
  public static func folder(
    at url: URL, replacing isOurs: (String) -> Bool, _ body: (URL) throws -> Void
  ) throws {
    let files = FileManager.default
    try checkReplaceable(url, replacing: isOurs)
    let place = try place(of: url)
    let partial = neighbour(of: place)
    do {
      try files.createDirectory(at: partial, withIntermediateDirectories: true)
      try body(partial)
      if files.fileExists(atPath: place.path) {
        let old = neighbour(of: place)
        try rename(place, to: old)
        do { try rename(partial, to: place) } catch {
          try? rename(old, to: place)
          throw error
        }
        try? files.removeItem(at: old)
      } else {
        try rename(partial, to: place)
      }
    } catch {
      try? files.removeItem(at: partial)
      throw wrapped(error, url)
    }
  }

  /// Throws where `url` is a file, or a folder that holds something this project does not write.
  ///
  /// Call it before long work, so that the work is not lost at its end.
  public static func checkReplaceable(_ url: URL, replacing isOurs: (String) -> Bool) throws {
    try checkContents(of: url, isOurs)
    try checkPlace(place(of: url))
  }

  /// Throws where `url` is a file, or a folder that holds something with a name that `isOurs` does not accept.
  public static func checkContents(of url: URL, _ isOurs: (String) -> Bool) throws {
    let place = try place(of: url)
    var isFolder: ObjCBool = false
    guard FileManager.default.fileExists(atPath: place.path, isDirectory: &isFolder) else { return }
    guard isFolder.boolValue else {
      throw PeatError.inputOutput("'\(url.path)' is a file; a folder is to be written there.")
    }
    if let stranger = try stranger(in: place, below: "", isOurs) {
      throw PeatError.inputOutput(
        "The folder '\(url.path)' already holds '\(stranger)', which is not FedPEAT's. "
          + "Name another folder, or empty this one.")
    }
  }

  /// The first name in a folder, or in one of its folders, that is not accepted.
  ///
  /// - Parameter above: the names of the folders above it that were accepted, each with its slash.
  private static func stranger(
    in folder: URL, below above: String, _ isOurs: (String) -> Bool
  ) throws -> String? {
    let files = FileManager.default
    let names: [String]
    do { names = try files.contentsOfDirectory(atPath: folder.path).sorted() } catch {
      throw PeatError.inputOutput(
        "Can't see what the folder '\(folder.path)' holds: \(error.localizedDescription)",
        cause: error)
    }
    for name in names {
      guard isOurs(above + name) else { return above + name }
      let place = folder.appendingPathComponent(name)
      // Not through a link: what it leads to stays where it is.
      let type = try? files.attributesOfItem(atPath: place.path)[.type] as? FileAttributeType
      guard type == .typeDirectory else { continue }
      if let found = try stranger(in: place, below: above + name + "/", isOurs) { return found }
    }
    return nil
  }

  /// Throws `inputOutput` where a file can't be written, or something else than what this project writes would be lost.
  ///
  /// - Parameters:
  ///   - what: what the file is, such as "controller".
  ///   - isOurs: whether a file that is there already may be replaced.
  public static func checkFile(_ url: URL, _ what: String, isOurs: (URL) -> Bool) throws {
    let folder = url.standardizedFileURL.deletingLastPathComponent()
    var isFolder: ObjCBool = false
    guard FileManager.default.fileExists(atPath: folder.path, isDirectory: &isFolder),
      isFolder.boolValue
    else {
      throw PeatError.inputOutput("There is no folder '\(folder.path)' to write into.")
    }
    guard FileManager.default.isWritableFile(atPath: folder.path) else {
      throw PeatError.inputOutput(
        "Can't write '\(url.path)': its folder '\(folder.path)' may not be written.")
    }
    guard FileManager.default.fileExists(atPath: url.path, isDirectory: &isFolder) else { return }
    if isFolder.boolValue {
      throw PeatError.inputOutput("'\(url.path)' is a folder; a file is to be written there.")
    }
    guard isOurs(url) else {
      throw PeatError.inputOutput(
        "'\(url.path)' is there already and is no \(what); it is left as it is. Choose another name."
      )
    }
  }

  /// Where `url` leads: itself, or what it points to as a symbolic link.
  private static func place(of url: URL) throws -> URL {
    let files = FileManager.default
    guard let target = try? files.destinationOfSymbolicLink(atPath: url.path) else { return url }
    guard files.fileExists(atPath: url.path) else {
      throw PeatError.inputOutput(
        "Can't write '\(url.path)': it is a symbolic link to '\(target)', which does not exist. Remove the link, or "
          + "make what it points to.")
    }
    return url.resolvingSymlinksInPath()
  }

  /// Throws where a folder can't be put at `url`: the nearest folder above it that exists must be one that may be
  /// written.
  private static func checkPlace(_ url: URL) throws {
    var above = url.standardizedFileURL.deletingLastPathComponent()
    var isFolder: ObjCBool = false
    while !FileManager.default.fileExists(atPath: above.path, isDirectory: &isFolder),
      above.path != "/"
    {
      _ = try place(of: above)
      above = above.deletingLastPathComponent()
    }
    guard isFolder.boolValue, FileManager.default.isWritableFile(atPath: above.path) else {
      throw PeatError.inputOutput(
        "Can't write '\(url.path)': '\(above.path)' "
          + (isFolder.boolValue ? "may not be written." : "is a file, not a folder."))
    }
  }

  private static func neighbour(of url: URL) -> URL {
    let name = ".\(url.lastPathComponent).partial-\(getpid())-\(UInt32.random(in: 0 ... .max))"
    return url.standardizedFileURL.deletingLastPathComponent().appendingPathComponent(name)
  }

  /// Gives a file another name on the same disk, in the place of what has it.
  package static func rename(_ source: URL, to target: URL) throws {
    #if canImport(Glibc)
      let result = Glibc.rename(source.path, target.path)
    #else
      let result = Darwin.rename(source.path, target.path)
    #endif
    guard result == 0 else {
      throw PeatError.inputOutput(
        "Can't write '\(target.path)': \(String(cString: strerror(errno))).")
    }
  }

  private static func wrapped(_ error: any Error, _ url: URL) -> any Error {
    if error is PeatError || error is CancellationError { return error }
    return PeatError.inputOutput(
      "Can't write '\(url.path)': \(error.localizedDescription)", cause: error)
  }
}
