import Foundation
import PeatTensor

/// A blob store in a folder: complete blobs under `blobs/`, incomplete ones under `partial/`, named by their digests.
///
/// A file in `blobs/` is complete and was checked: it is renamed into its place only then.
public actor FolderBlobStore: BlobStore {
  private nonisolated let blobs: URL
  private nonisolated let partial: URL

  /// Makes the folder where it is missing.
  public init(_ folder: URL) throws {
    blobs = folder.appendingPathComponent("blobs")
    partial = folder.appendingPathComponent("partial")
    do {
      for folder in [blobs, partial] {
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
      }
    } catch { throw Self.failure("make", folder, error) }
  }

  /// Where a complete blob lies, or would lie. The file must not be changed.
  public nonisolated func url(of digest: Digest) -> URL { blobs.appendingPathComponent(digest.hex) }
  private nonisolated func partialURL(_ digest: Digest) -> URL {
    partial.appendingPathComponent(digest.hex)
  }

  public func has(_ digest: Digest) -> Bool {
    FileManager.default.fileExists(atPath: url(of: digest).path)
  }

  public func size(of digest: Digest) throws -> Int {
    guard let size = Self.size(url(of: digest)) else { throw missingBlob(digest) }
    return size
  }

  /// Not on the actor: many clients read at the same time.
  public nonisolated func read(
    _ digest: Digest, at offset: Int, count: Int
  ) async throws -> Data {
    guard offset >= 0, count >= 0 else { return Data() }
    do { return try FilePieces.read(url(of: digest), at: offset, count: count) } catch let error
      as POSIXError where error.code == .ENOENT
    { throw missingBlob(digest) } catch { throw Self.failure("read", url(of: digest), error) }
  }

  public func put(_ data: Data) throws -> Digest {
    let digest = Digest(of: data)
    if !has(digest) { try AtomicOutput.write(data, to: url(of: digest)) }
    return digest
  }

  /// Links the file where the file system can, copies it otherwise.
  public func put(contentsOf file: URL) throws -> Digest {
    let digest = try Self.digest(of: file)
    if has(digest) { return digest }
    do {
      let source = file.resolvingSymlinksInPath()
      do { try FileManager.default.linkItem(at: source, to: url(of: digest)) } catch {
        let copy = partial.appendingPathComponent("\(digest.hex).copy")
        try? FileManager.default.removeItem(at: copy)
        try FileManager.default.copyItem(at: source, to: copy)
        try FileManager.default.moveItem(at: copy, to: url(of: digest))
      }
    } catch { throw Self.failure("keep", file, error) }
    return digest
  }

  public func received(_ digest: Digest) -> Int { Self.size(partialURL(digest)) ?? 0 }

  public func append(_ data: Data, to digest: Digest, at offset: Int) throws {
    let url = partialURL(digest)
    let received = Self.size(url) ?? 0
    guard offset == received else { throw misplacedPiece(digest, offset, received) }
    do {
      if received == 0, !FileManager.default.fileExists(atPath: url.path) {
        try Data().write(to: url)
      }
      let file = try FileHandle(forWritingTo: url)
      defer { try? file.close() }
      try file.seekToEnd()
      try file.write(contentsOf: data)
    } catch { throw Self.failure("write", url, error) }
  }

  public func finish(_ digest: Digest) throws {
    if has(digest) { return }
    let url = partialURL(digest)
    if Self.size(url) == nil { try append(Data(), to: digest, at: 0) }
    let found = try Self.digest(of: url)
    guard found == digest else {
      let bytes = Self.size(url) ?? 0
      try? FileManager.default.removeItem(at: url)
      throw wrongDigest(expected: digest, found: found, bytes: bytes)
    }
    do {
      let file = try FileHandle(forWritingTo: url)
      try file.synchronize()
      try file.close()
      try FileManager.default.moveItem(at: url, to: self.url(of: digest))
    } catch { throw Self.failure("keep", url, error) }
  }

  public func discard(_ digest: Digest) {
    try? FileManager.default.removeItem(at: partialURL(digest))
  }

  public func remove(_ digest: Digest) {
    try? FileManager.default.removeItem(at: url(of: digest))
  }

  /// The digest of a file, read in pieces.
  package static func digest(of file: URL) throws -> Digest {
    do { return try Digest(contentsOf: file) } catch { throw failure("read", file, error) }
  }

  /// Size of a file in bytes; `nil` where there is none.
  package static func size(_ file: URL) -> Int? {
    let attributes = try? FileManager.default.attributesOfItem(atPath: file.path)
    return (attributes?[.size] as? NSNumber)?.intValue
  }

  private static func failure(_ verb: String, _ file: URL, _ error: any Error) -> PeatError {
    .inputOutput("Can't \(verb) '\(file.path)': \(error.localizedDescription)", cause: error)
  }
}
