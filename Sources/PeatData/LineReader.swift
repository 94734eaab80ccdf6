import Foundation
import PeatTensor

/// The lines of a file, one at a time, read in pieces: however large the file is, only a piece and a line are in memory.
struct LineReader: ~Copyable {
  /// Bytes of a line at most; what has none so long is no text.
  static let lineLimit = 1 << 28

  private let pieces: PieceReader
  private var name: String { pieces.name }
  private var piece: [UInt8] = []
  private var position = 0
  private var isAtEnd = false
  private(set) var lineNumber = 0
  /// Whether a line break stood behind the last line that was read.
  private(set) var hasBreak = false

  init(_ url: URL, pieceBytes: Int = 1 << 20) throws {
    pieces = try PieceReader(url, pieceBytes: pieceBytes)
  }

  /// The next line without its end, which is LF or CRLF; `nil` after the last.
  ///
  /// - Throws: `badData` where a line is too long or no UTF-8.
  mutating func next() throws -> [UInt8]? {
    var line: [UInt8] = []
    var hasMore = false
    hasBreak = false
    while true {
      if position == piece.count {
        guard try refill() else { break }
      }
      hasMore = true
      let end = piece[position...].firstIndex(of: 0x0A)
      line += piece[position..<(end ?? piece.count)]
      guard line.count <= LineReader.lineLimit else {
        throw PeatError.badData(
          "'\(name)', line \(lineNumber + 1) has more than \(LineReader.lineLimit >> 20) MB. Expected lines of text or JSON."
        )
      }
      position = end.map { $0 + 1 } ?? piece.count
      if end != nil {
        hasBreak = true
        break
      }
    }
    guard hasMore else { return nil }
    lineNumber += 1
    if lineNumber == 1, line.starts(with: [0xEF, 0xBB, 0xBF]) { line.removeFirst(3) }
    if line.last == 0x0D { line.removeLast() }
    guard !line.contains(0), String(validating: line, as: UTF8.self) != nil else {
      throw PeatError.badData(
        "'\(name)', line \(lineNumber) is no UTF-8 text. Save the file as UTF-8, or check that it is a text file."
      )
    }
    return line
  }

  /// Reads the next piece; false at the end.
  private mutating func refill() throws -> Bool {
    guard !isAtEnd else { return false }
    piece = try pieces.next()
    position = 0
    isAtEnd = piece.isEmpty
    return !isAtEnd
  }
}
