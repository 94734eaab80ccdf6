import Foundation
import PeatTensor

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// Files that nobody but their owner may read, written whole or not at all and never over another.
package enum PrivateFiles {
  /// Throws `inputOutput` where something has the name already, or the file can't be written.
  ///
  /// - Parameter mode: who may read it; 0600, its owner alone, if not given.
  package static func write(_ data: Data, to url: URL, mode: mode_t = 0o600) throws {
    let partial = url.deletingLastPathComponent()
      .appendingPathComponent(".\(url.lastPathComponent).partial-\(UUID().uuidString)")
    let descriptor = open(partial.path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode)
    guard descriptor >= 0 else { throw problem("write", url) }
    let handle = FileHandle(fileDescriptor: descriptor, closeOnDealloc: true)
    defer { unlink(partial.path) }
    do {
      try handle.write(contentsOf: data)
      try handle.synchronize()
      try handle.close()
    } catch {
      throw PeatError.inputOutput(
        "Can't write '\(url.path)': \(error.localizedDescription)", cause: error)
    }
    // A link, unlike a renaming, fails where the name is taken.
    guard link(partial.path, url.path) == 0 else {
      guard errno != EEXIST else {
        throw PeatError.inputOutput(
          "'\(url.path)' is there already and is left as it is. Choose another name, or move it away."
        )
      }
      throw problem("write", url)
    }
  }

  /// Makes a folder that nobody but its owner may look into. One that is there already must be so, and be this user's.
  package static func makeFolder(_ url: URL) throws {
    var above = url.deletingLastPathComponent().path
    if above.isEmpty { above = "." }
    do {
      try FileManager.default.createDirectory(
        atPath: above, withIntermediateDirectories: true)
    } catch {
      throw PeatError.inputOutput(
        "Can't make the folder '\(url.path)': \(error.localizedDescription)", cause: error)
    }
    if mkdir(url.path, 0o700) == 0 { return }
    guard errno == EEXIST else { throw problem("make the folder", url) }
    try check(url)
  }

  /// Throws where a file or folder belongs to somebody else, or others may read or change it.
  package static func check(_ url: URL) throws {
    var status = stat()
    guard stat(url.path, &status) == 0 else { throw problem("read", url) }
    guard status.st_uid == geteuid() || geteuid() == 0 else {
      throw PeatError.inputOutput(
        "'\(url.path)' belongs to another user (number \(status.st_uid)); keys are kept where nobody else has a hand in."
      )
    }
    guard status.st_mode & 0o077 == 0 else {
      throw PeatError.inputOutput(
        "Others may read or change '\(url.path)', which holds keys. Take that away: chmod go= '\(url.path)'."
      )
    }
  }

  package static func read(_ url: URL, limit: Int = 1 << 20) throws -> Data {
    do {
      let handle = try FileHandle(forReadingFrom: url)
      defer { try? handle.close() }
      let data = try handle.read(upToCount: limit + 1) ?? Data()
      guard data.count <= limit else {
        throw PeatError.badData("'\(url.path)' has more than \(limit) bytes: it is no such file.")
      }
      return data
    } catch let error as PeatError { throw error } catch {
      throw PeatError.inputOutput(
        "Can't read '\(url.path)': \(error.localizedDescription)", cause: error)
    }
  }

  private static func problem(_ verb: String, _ url: URL) -> PeatError {
    .inputOutput("Can't \(verb) '\(url.path)': \(String(cString: strerror(errno))).")
  }
}
