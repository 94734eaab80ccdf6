import Foundation
import PeatTensor

#if canImport(CPeatImages)
  import CPeatImages
#endif

/// Unpacks gzip piece by piece, so that nobody has to believe how large it will be.
enum Gunzip {
  static func isPacked(_ bytes: [UInt8]) -> Bool { bytes.starts(with: [0x1F, 0x8B]) }

  #if canImport(CPeatImages)
    /// The unpacked bytes.
    ///
    /// - Parameters:
    ///   - limit: is asked, with what has come so far, how many bytes there may be.
    /// - Throws: `badData` where the bytes are damaged, end early, or are more.
    static func unpacked(
      _ bytes: [UInt8], name: String, limit: ([UInt8]) throws -> Int
    ) throws -> [UInt8] {
      var stream = z_stream()
      // 16: with gzip's header; 15: the largest window.
      guard
        inflateInit2_(&stream, 16 + 15, zlibVersion(), Int32(MemoryLayout<z_stream>.size)) == Z_OK
      else { throw PeatError.inputOutput("zlib does not start.") }
      defer { inflateEnd(&stream) }
      var input = bytes
      var result: [UInt8] = []
      var piece = [UInt8](repeating: 0, count: 1 << 16)
      try input.withUnsafeMutableBufferPointer { input in
        stream.next_in = input.baseAddress
        // zlib counts in 32 bits.
        guard let count = UInt32(exactly: input.count) else {
          throw PeatError.badData("'\(name)' has more than 4 GB.")
        }
        stream.avail_in = count
        var status = Z_OK
        while status != Z_STREAM_END {
          status = piece.withUnsafeMutableBufferPointer {
            stream.next_out = $0.baseAddress
            stream.avail_out = UInt32($0.count)
            return inflate(&stream, Z_NO_FLUSH)
          }
          guard status == Z_OK || status == Z_STREAM_END else {
            throw PeatError.badData("'\(name)' is damaged, or not whole: gzip can't be unpacked.")
          }
          result += piece[..<(piece.count - Int(stream.avail_out))]
          guard result.count <= (try limit(result)) else {
            throw PeatError.badData("'\(name)' unpacks to more bytes than its header says.")
          }
        }
      }
      return result
    }
  #else
    static func unpacked(
      _ bytes: [UInt8], name: String, limit: ([UInt8]) throws -> Int
    ) throws -> [UInt8] {
      throw PeatError.usage("'\(name)': this build unpacks no gzip. Unpack the file first.")
    }
  #endif
}
