import Crypto
import Foundation

/// The digest that the Hub names a file by, computed as the bytes come.
///
/// Large files are named by their SHA-256, small ones as git names a blob: the SHA-1 of `blob SIZE\0` and the content. SHA-1 is
/// what there is for those; it finds damage, not a determined forger.
struct BlobDigest {
  private enum Hash {
    case sha256(SHA256)
    case git(Insecure.SHA1)
  }

  private var hash: Hash

  /// `nil` where the tag is no digest.
  init?(for etag: String, size: Int) {
    guard HubName.isHexadecimal(etag) else { return nil }
    switch etag.utf8.count {
    case 64: hash = .sha256(SHA256())
    case 40:
      var start = Insecure.SHA1()
      start.update(data: Data("blob \(size)\0".utf8))
      hash = .git(start)
    default: return nil
    }
  }

  mutating func update(_ data: Data) {
    switch hash {
    case .sha256(var state):
      state.update(data: data)
      hash = .sha256(state)
    case .git(var state):
      state.update(data: data)
      hash = .git(state)
    }
  }

  func finish() -> String {
    let bytes: [UInt8]
    switch hash {
    case .sha256(let state): bytes = Array(state.finalize())
    case .git(let state): bytes = Array(state.finalize())
    }
    return bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
  }
}
