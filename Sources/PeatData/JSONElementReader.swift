import Foundation
import PeatTensor

/// The elements of a JSON array in a file, one at a time: however large the file is, only a piece and an element are in memory.
final class JSONElementReader {
  /// Bytes of an element at most.
  static let elementLimit = 1 << 28

  private let pieces: PieceReader
  private var piece: [UInt8] = []
  private var position = 0
  private var isAtEnd = false
  /// How far the array was read.
  private enum Place { case start, elements, end }
  private var place = Place.start
  private var currentLine = 1
  /// The line on which the element begins that was read last, counted from 1.
  private(set) var lineNumber = 1

  init(_ url: URL, pieceBytes: Int = 1 << 20) throws {
    pieces = try PieceReader(url, pieceBytes: pieceBytes)
  }

  /// Whether what a file holds begins as an array does.
  static func isArray(_ url: URL) -> Bool {
    guard let reader = try? JSONElementReader(url, pieceBytes: 1 << 12) else { return false }
    return (try? reader.skipToContent()) == UInt8(ascii: "[")
  }

  /// The next element; `nil` behind the last.
  ///
  /// - Throws: `badData` where the file is no array, or the element too long or no UTF-8. What the element holds is not looked at.
  func next() throws -> [UInt8]? {
    if place == .start {
      guard try skipToContent() == UInt8(ascii: "[") else {
        throw PeatError.badData("'\(pieces.name)' is no JSON array: it does not begin with '['.")
      }
      position += 1
      place = .elements
      if try skipToContent() == UInt8(ascii: "]") { return try end() }
    }
    guard place == .elements else { return nil }
    _ = try skipToContent()
    lineNumber = currentLine
    return try element()
  }

  /// The bytes up to the comma behind an element, or to the end of the array, which is noted.
  private func element() throws -> [UInt8] {
    var bytes: [UInt8] = []
    var depth = 0
    var (isString, isEscaped) = (false, false)
    while let byte = try peek() {
      if isString {
        if isEscaped {
          isEscaped = false
        } else if byte == UInt8(ascii: "\\") {
          isEscaped = true
        } else if byte == UInt8(ascii: "\"") {
          isString = false
        }
      } else {
        switch byte {
        case UInt8(ascii: "\""): isString = true
        case UInt8(ascii: "{"), UInt8(ascii: "["): depth += 1
        case UInt8(ascii: "}"), UInt8(ascii: "]"):
          if depth == 0, byte == UInt8(ascii: "]") {
            _ = try end()
            return try checked(bytes)
          }
          depth -= 1
        case UInt8(ascii: ","):
          if depth == 0 {
            position += 1
            return try checked(bytes)
          }
        default: break
        }
      }
      bytes.append(byte)
      if byte == 0x0A { currentLine += 1 }
      position += 1
      guard bytes.count <= Self.elementLimit else {
        throw PeatError.badData(
          "'\(pieces.name)', line \(lineNumber): an element of the array has more than \(Self.elementLimit >> 20) MB."
        )
      }
    }
    throw PeatError.badData(
      "'\(pieces.name)', line \(lineNumber): malformed JSON: the text ends before the array does. The file was cut off, or a bracket or a quote is missing."
    )
  }

  private func checked(_ bytes: [UInt8]) throws -> [UInt8] {
    guard !bytes.contains(0), String(validating: bytes, as: UTF8.self) != nil else {
      throw PeatError.badData(
        "'\(pieces.name)', line \(lineNumber) is no UTF-8 text. Save the file as UTF-8, or check that it is a text file."
      )
    }
    return bytes
  }

  /// The end of the array, behind which nothing may stand.
  private func end() throws -> [UInt8]? {
    position += 1
    place = .end
    guard try skipToContent() == nil else {
      throw PeatError.badData(
        "'\(pieces.name)', line \(currentLine): malformed JSON: there is more text after the end of the array."
      )
    }
    return nil
  }

  /// Skips white space, and a byte order mark at the beginning; the byte behind it, or `nil` at the end.
  private func skipToContent() throws -> UInt8? {
    if place == .start, position == 0, try peek() != nil, piece.starts(with: [0xEF, 0xBB, 0xBF]) {
      position = 3
    }
    while let byte = try peek() {
      guard isJSONSpace(byte) else { return byte }
      if byte == 0x0A { currentLine += 1 }
      position += 1
    }
    return nil
  }

  private func peek() throws -> UInt8? {
    if position < piece.count { return piece[position] }
    guard !isAtEnd else { return nil }
    piece = try pieces.next()
    position = 0
    isAtEnd = piece.isEmpty
    return piece.first
  }
}
