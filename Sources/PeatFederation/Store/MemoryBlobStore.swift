import Foundation
import PeatTensor

/// A blob store in memory.
public actor MemoryBlobStore: BlobStore {
  private var blobs: [Digest: Data] = [:]
  private var partial: [Digest: Data] = [:]

  public init() {}

  public func has(_ digest: Digest) -> Bool { blobs[digest] != nil }

  public func size(of digest: Digest) throws -> Int {
    guard let blob = blobs[digest] else { throw missingBlob(digest) }
    return blob.count
  }

  public func read(_ digest: Digest, at offset: Int, count: Int) throws -> Data {
    guard let blob = blobs[digest] else { throw missingBlob(digest) }
    guard offset >= 0, count >= 0, offset < blob.count else { return Data() }
    let start = blob.startIndex + offset
    return Data(blob[start..<min(start + min(count, blob.count), blob.endIndex)])
  }

  public func put(_ data: Data) -> Digest {
    let digest = Digest(of: data)
    blobs[digest] = data
    partial[digest] = nil
    return digest
  }

  public func put(contentsOf file: URL) throws -> Digest {
    do { return put(try Data(contentsOf: file)) } catch {
      throw PeatError.inputOutput(
        "Can't read '\(file.path)': \(error.localizedDescription)", cause: error)
    }
  }

  public func received(_ digest: Digest) -> Int { partial[digest]?.count ?? 0 }

  public func append(_ data: Data, to digest: Digest, at offset: Int) throws {
    let received = partial[digest]?.count ?? 0
    guard offset == received else { throw misplacedPiece(digest, offset, received) }
    partial[digest, default: Data()].append(data)
  }

  public func finish(_ digest: Digest) throws {
    if blobs[digest] != nil { return }
    let data = partial.removeValue(forKey: digest) ?? Data()
    let found = Digest(of: data)
    guard found == digest else {
      throw wrongDigest(expected: digest, found: found, bytes: data.count)
    }
    blobs[digest] = data
  }

  public func discard(_ digest: Digest) { partial[digest] = nil }

  public func remove(_ digest: Digest) { blobs[digest] = nil }
}
