import Foundation
import PeatTensor
import Synchronization

/// A blob that is on its way: `blobs/ETAG.incomplete`, which a later pull goes on with, until its digest is right.
///
/// Whoever makes one holds the blob's lock.
final class PartialBlob: Sendable {
  private struct State {
    var handle: FileHandle
    var digest: BlobDigest
    var count = 0
  }

  private let url: URL
  private let etag: String
  private let size: Int
  private let state: Mutex<State>
  /// Bytes that were there from an earlier pull.
  let found: Int

  /// Where a blob lies until it is whole.
  static func place(of blob: URL) -> URL { URL(fileURLWithPath: blob.path + ".incomplete") }

  /// Opens the file, and reads what an earlier pull left in it.
  init(of blob: URL, etag: String, size: Int) throws {
    url = Self.place(of: blob)
    self.etag = etag
    self.size = size
    try HubCache.makeFolder(url.deletingLastPathComponent())
    let descriptor = open(url.path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o644)
    guard descriptor >= 0, var digest = BlobDigest(for: etag, size: size) else {
      throw PeatError.inputOutput("Can't write '\(url.path)': \(String(cString: strerror(errno))).")
    }
    let handle = FileHandle(fileDescriptor: descriptor, closeOnDealloc: true)
    var count = 0
    do {
      while let piece = try handle.read(upToCount: 1 << 20), !piece.isEmpty {
        try Task.checkCancellation()
        digest.update(piece)
        count += piece.count
        guard count <= size else { break }
      }
      if count > size {
        try handle.truncate(atOffset: 0)
        count = 0
        digest = BlobDigest(for: etag, size: size) ?? digest
      }
    } catch let error where !(error is CancellationError) {
      throw PeatError.inputOutput(
        "Can't read '\(url.path)': \(error.localizedDescription)", cause: error)
    }
    found = count
    state = Mutex(State(handle: handle, digest: digest, count: count))
  }

  var count: Int { state.withLock { $0.count } }

  /// Begins again.
  func restart() throws {
    try state.withLock { state in
      guard state.count > 0 else { return }
      do { try state.handle.truncate(atOffset: 0) } catch { throw failure(error) }
      state.count = 0
      state.digest = BlobDigest(for: etag, size: size) ?? state.digest
    }
  }

  /// Throws where more comes than the file has, and where the disk is full.
  func append(_ data: Data) throws {
    try state.withLock { state in
      guard state.count + data.count <= size else {
        throw PeatError.badData(
          "More than the \(size) bytes come that the server said the file has. What has come is thrown away."
        )
      }
      do { try state.handle.write(contentsOf: data) } catch { throw failure(error) }
      state.digest.update(data)
      state.count += data.count
    }
  }

  /// Whether the whole content is the one that the digest names.
  var isRight: Bool { state.withLock { $0.count == size && $0.digest.finish() == etag } }

  /// Gives the whole, checked content its place.
  func finish(as blob: URL) throws {
    try state.withLock { state in
      do { try state.handle.synchronize() } catch { throw failure(error) }
    }
    try AtomicOutput.rename(url, to: blob)
  }

  /// Takes it away: nothing that is wrong stays.
  func remove() { try? FileManager.default.removeItem(at: url) }

  private func failure(_ error: any Error) -> PeatError {
    PeatError.inputOutput(
      "Can't write '\(url.path)': \(error.localizedDescription) What has come is kept.",
      cause: error)
  }
}
