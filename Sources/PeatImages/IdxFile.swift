import Foundation
import PeatTensor

/// An array as MNIST and its kin are published: a header of type and sizes, then values, the first byte the most significant.
///
/// Also packed with gzip. Source: <http://yann.lecun.com/exdb/mnist/>, "the IDX file format".
public struct IdxFile: Sendable, Equatable {
  /// What one value is.
  public enum Kind: UInt8, Sendable {
    case uint8 = 0x08
    case int8 = 0x09
    case int16 = 0x0B
    case int32 = 0x0C
    case float32 = 0x0D
    case float64 = 0x0E

    var byteCount: Int {
      switch self {
      case .uint8, .int8: 1
      case .int16: 2
      case .int32, .float32: 4
      case .float64: 8
      }
    }
  }

  public let kind: Kind
  public let shape: [Int]
  /// As they are stored.
  public let bytes: [UInt8]

  /// Bytes of all values at most.
  static let byteLimit = 1 << 32

  public init(contentsOf url: URL) throws {
    try self.init([UInt8](JSONFile.bytes(of: url)), name: url.path)
  }

  /// Whether a file begins as one: with two zeros, or, packed, with gzip's mark.
  public static func isOne(_ url: URL) -> Bool {
    guard let file = try? FileHandle(forReadingFrom: url) else { return false }
    defer { try? file.close() }
    let begin = [UInt8]((try? file.read(upToCount: 2)) ?? Data())
    return begin == [0, 0] || Gunzip.isPacked(begin)
  }

  package init(_ stored: [UInt8], name: String) throws {
    var bytes = stored
    if Gunzip.isPacked(bytes) {
      bytes = try Gunzip.unpacked(bytes, name: name) { begin in
        guard begin.count >= 4 else { return 4 }
        // Enough for the longest header, until that is there.
        guard begin.count >= 4 + 4 * Int(begin[3]) else { return 4 + 4 * 255 + (1 << 16) }
        let header = try Header(begin, name)
        return header.size + header.valueBytes
      }
    }
    let header = try Header(bytes, name)
    guard bytes.count == header.size + header.valueBytes else {
      throw PeatError.badData(
        "'\(name)' has \(bytes.count - header.size) bytes of values; its header says \(header.shape) of \(header.kind), which are "
          + "\(header.valueBytes).")
    }
    kind = header.kind
    shape = header.shape
    self.bytes = Array(bytes[header.size...])
  }

  private struct Header {
    let kind: Kind
    let shape: [Int]
    var size: Int { 4 + 4 * shape.count }
    let valueBytes: Int

    init(_ bytes: [UInt8], _ name: String) throws {
      guard bytes.count >= 4, bytes[0] == 0, bytes[1] == 0, let kind = Kind(rawValue: bytes[2]),
        (1...8).contains(bytes[3]), bytes.count >= 4 + 4 * Int(bytes[3])
      else {
        throw PeatError.badData(
          "'\(name)' is no idx file: it must begin with two zeros, a type (8, 9 or 11 to 14) and the number of sizes, from 1 to 8."
        )
      }
      self.kind = kind
      shape = (0..<Int(bytes[3])).map { number in
        bytes[(4 + 4 * number)..<(8 + 4 * number)].reduce(0) { $0 << 8 | Int($1) }
      }
      var product = kind.byteCount
      for side in shape {
        let (next, overflows) = product.multipliedReportingOverflow(by: side)
        guard !overflows, next <= IdxFile.byteLimit else {
          throw PeatError.badData("'\(name)' says it has \(shape) values, which are too many.")
        }
        product = next
      }
      valueBytes = product
    }
  }
}
