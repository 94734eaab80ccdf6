import Foundation
import PeatTensor

/// Keeps blocks of bytes under the SHA-256 digest of their content.
///
/// A blob that arrives in pieces is kept aside until it is complete and its digest is right; what has arrived of it
/// survives a lost connection and, in a folder, the end of the process.
public protocol BlobStore: Sendable {
  /// Whether the blob is here, complete.
  func has(_ digest: Digest) async -> Bool

  /// Size of a complete blob in bytes. Throws where it is not here.
  func size(of digest: Digest) async throws -> Int

  /// At most `count` bytes from `offset`; fewer at the end, none behind it. Throws where the blob is not here.
  func read(_ digest: Digest, at offset: Int, count: Int) async throws -> Data

  /// Keeps a blob and gives its digest.
  @discardableResult func put(_ data: Data) async throws -> Digest

  /// Keeps the content of a file and gives its digest.
  @discardableResult func put(contentsOf file: URL) async throws -> Digest

  /// How many bytes of an incomplete blob have arrived.
  func received(_ digest: Digest) async throws -> Int

  /// Adds the bytes that follow what has arrived. Throws where `offset` is not the number of bytes that are here.
  func append(_ data: Data, to digest: Digest, at offset: Int) async throws

  /// Declares the blob complete. Throws where its digest is another; what had arrived is then forgotten.
  func finish(_ digest: Digest) async throws

  /// Forgets an incomplete blob.
  func discard(_ digest: Digest) async throws

  /// Forgets a complete blob. Nothing happens where it is not here.
  func remove(_ digest: Digest) async throws
}

func missingBlob(_ digest: Digest) -> PeatError {
  .inputOutput("There is no blob \(digest.short)… here. It may have been replaced; ask anew.")
}

func misplacedPiece(_ digest: Digest, _ offset: Int, _ received: Int) -> PeatError {
  .badData(
    "A piece of blob \(digest.short)… begins at byte \(offset), but \(received) bytes are here.")
}

func wrongDigest(expected: Digest, found: Digest, bytes: Int) -> PeatError {
  .badData(
    "\(bytes) bytes arrived with digest \(found.short)…, expected \(expected.short)…. They were "
      + "changed on the way or at the source; they are dropped, to be fetched again.")
}
