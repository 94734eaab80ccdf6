import Crypto
import Foundation

/// A SHA-256 digest in lower-case hexadecimal: the name of a model, an adapter, a file's content.
public struct Digest: Sendable, Hashable, Codable, CustomStringConvertible {
  public let hex: String

  /// Checks that `hex` is 64 hexadecimal digits; `nil` if not.
  public init?(hex: String) {
    guard hex.utf8.count == 64,
      hex.utf8.allSatisfy({ (48...57).contains($0) || (97...102).contains($0) })
    else { return nil }
    self.hex = hex
  }

  /// The digest of plain bytes.
  public init(of data: some DataProtocol) {
    self.init(SHA256.hash(data: data))
  }

  /// The digest of a file's bytes, read in pieces.
  package init(contentsOf file: URL) throws {
    var digest = IncrementalDigest()
    _ = try digest.update(contentsOf: file)
    self = digest.finish()
  }

  /// The digest of a file's bytes; of a folder that of its files' names and bytes, by name, hidden ones left out.
  ///
  /// - Throws: `inputOutput` where it can't be read.
  public init(ofDataAt url: URL) throws {
    do {
      guard url.isFolder else {
        try self.init(contentsOf: url)
        return
      }
      let files =
        FileManager.default.enumerator(
          at: url, includingPropertiesForKeys: [.isRegularFileKey], options: .skipsHiddenFiles)?
        .compactMap { $0 as? URL } ?? []
      var digest = IncrementalDigest()
      for file in files.sorted(by: { $0.path < $1.path }) {
        let facts = try file.resourceValues(forKeys: [.isRegularFileKey])
        guard facts.isRegularFile == true else { continue }
        let name = file.path.dropFirst(url.path.count)
        digest.update(Data("\(name)\0".utf8))
        digest.update(Data(try Digest(contentsOf: file).hex.utf8))
      }
      self = digest.finish()
    } catch let error where !(error is PeatError) {
      throw PeatError.inputOutput(
        "'\(url.path)' can't be read: \(error.localizedDescription)", cause: error)
    }
  }

  fileprivate init(_ digest: SHA256.Digest) {
    hex = digest.map { byte in
      let text = String(byte, radix: 16)
      return byte < 16 ? "0" + text : text
    }.joined()
  }

  public init(from decoder: any Decoder) throws {
    let text = try decoder.singleValueContainer().decode(String.self)
    guard let digest = Digest(hex: text) else {
      throw PeatError.badData("A digest is 64 lower-case hexadecimal digits, found '\(text)'.")
    }
    self = digest
  }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    try container.encode(hex)
  }

  public var description: String { hex }
  /// The first 12 digits, for people.
  public var short: String { String(hex.prefix(12)) }
}

/// Digests content that arrives in pieces.
public struct IncrementalDigest {
  private var hash = SHA256()

  public init() {}
  public mutating func update(_ data: some DataProtocol) { hash.update(data: data) }
  package mutating func update(_ bytes: UnsafeRawBufferPointer) {
    hash.update(bufferPointer: bytes)
  }

  /// Adds what a file holds, read in pieces; gives how many bytes those were.
  package mutating func update(contentsOf file: URL) throws -> Int {
    let handle = try FileHandle(forReadingFrom: file)
    defer { try? handle.close() }
    var count = 0
    while let piece = try handle.read(upToCount: 1 << 20), !piece.isEmpty {
      hash.update(data: piece)
      count += piece.count
    }
    return count
  }

  public func finish() -> Digest { Digest(hash.finalize()) }

  /// Adds one tensor: name, dtype and shape, each ended by a zero byte, then the little-endian values.
  ///
  /// Called for tensors sorted by name (by UTF-8 bytes), this is the digest of a model, whatever files it lies in.
  package mutating func update(
    name: String, type: String, shape: [Int], bytes: UnsafeRawBufferPointer
  ) {
    let shape = shape.map(String.init).joined(separator: ",")
    update(Data("\(name)\0\(type)\0\(shape)\0".utf8))
    update(bytes)
  }
}

extension [String: Tensor] {
  /// The digest over all tensors, as float32: independent of order, files and sharding.
  public var digest: Digest {
    var digest = IncrementalDigest()
    for name in keys.sorted(by: { $0.utf8.lexicographicallyPrecedes($1.utf8) }) {
      guard let tensor = self[name] else { continue }
      tensor.withUnsafeBufferPointer {
        digest.update(
          name: name, type: StorageType.float32.rawValue, shape: tensor.shape,
          bytes: UnsafeRawBufferPointer($0))
      }
    }
    return digest.finish()
  }
}
