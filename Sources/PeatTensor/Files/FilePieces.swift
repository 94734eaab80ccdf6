import Foundation

/// Pieces of files, by place. A file is open for the moment alone: of a thousand transfers none holds a descriptor between its pieces.
package enum FilePieces {
  /// Up to `count` bytes from a place on; fewer at the file's end.
  ///
  /// - Throws: `POSIXError`.
  package static func read(_ file: URL, at offset: Int, count: Int) throws -> Data {
    let descriptor = try opened(file, O_RDONLY)
    defer { close(descriptor) }
    var data = Data(count: count)
    var done = 0
    while done < count {
      let read = data.withUnsafeMutableBytes {
        pread(descriptor, $0.baseAddress?.advanced(by: done), count - done, off_t(offset + done))
      }
      if read < 0, errno == EINTR { continue }
      guard read >= 0 else { throw lastError() }
      if read == 0 { break }
      done += read
    }
    return done == count ? data : data.prefix(done)
  }

  /// Writes bytes to a place. What the file holds from there on is gone; at place 0 it is made where it is missing.
  ///
  /// - Throws: `POSIXError`; then a part of the bytes may be there.
  package static func write(_ data: Data, to file: URL, at offset: Int) throws {
    let descriptor = try opened(file, offset == 0 ? O_WRONLY | O_CREAT : O_WRONLY)
    defer { close(descriptor) }
    guard ftruncate(descriptor, off_t(offset)) == 0 else { throw lastError() }
    var done = 0
    while done < data.count {
      let written = data.withUnsafeBytes {
        pwrite(
          descriptor, $0.baseAddress?.advanced(by: done), data.count - done, off_t(offset + done))
      }
      if written < 0, errno == EINTR { continue }
      guard written > 0 else { throw lastError() }
      done += written
    }
  }

  private static func opened(_ file: URL, _ flags: Int32) throws -> Int32 {
    let descriptor = open(file.path, flags | O_CLOEXEC, 0o644)
    guard descriptor >= 0 else { throw lastError() }
    return descriptor
  }

  private static func lastError() -> POSIXError { POSIXError(.init(rawValue: errno) ?? .EIO) }
}
