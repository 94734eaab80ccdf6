import Foundation
import PeatTensor

/// The documents of a file that may be larger than memory, one at a time.
///
/// JSON lines give a document per line and a JSON array one per element, as `DocumentReader` reads them. Text gives pieces of whole lines, of about `pieceBytes` each; put one after
/// the other they are the file (a tokenizer may cut tokens at their borders otherwise than in the whole). Other formats have to be read whole: `DocumentReader` does.
public struct DocumentStream: ~Copyable {
  private var lines: LineReader
  /// Of an array.
  private let elements: JSONElementReader?
  private let format: DataFormat
  /// Of a text, what a document has at least where nothing is said.
  public static let usualPieceBytes = 1 << 16

  /// Whether its documents are pieces of one text.
  package var isOneText: Bool { format == .text }
  private let name: String
  private let pieceBytes: Int

  /// - Parameters:
  ///   - format: `text` or `jsonLines`; `nil` goes by the file's name.
  ///   - pieceBytes: of text, what a document has at least, but for the last.
  /// - Throws: `usage` for a format that has no lines, `inputOutput` where the file can't be read.
  public init(_ url: URL, as format: DataFormat? = nil, pieceBytes: Int = usualPieceBytes) throws {
    precondition(pieceBytes > 0, "DocumentStream: pieces of \(pieceBytes) bytes")
    let format = format ?? DocumentStream.format(of: url) ?? .text
    let name = url.path(percentEncoded: false)
    guard [.text, .jsonLines, .json].contains(format) else {
      throw PeatError.usage(
        "'\(name)' can't be read piece by piece as \(format.rawValue). Make JSON lines of it.")
    }
    let elements = format == .json ? try JSONElementReader(url) : nil
    lines = try LineReader(url)
    self.elements = elements
    self.format = format
    self.name = name
    self.pieceBytes = pieceBytes
  }

  /// How a file can be read piece by piece, by its name and, of JSON, by how it begins; `nil` where it has to be read whole.
  package static func format(of url: URL) -> DataFormat? {
    switch url.pathExtension.lowercased() {
    case "jsonl", "ndjson": .jsonLines
    case "txt", "text", "md", "": .text
    case "json": JSONElementReader.isArray(url) ? .json : nil
    default: nil
    }
  }

  /// The next document; `nil` after the last.
  ///
  /// - Throws: `badData` for a line that is damaged, with its number.
  public mutating func next() throws -> Document? {
    if format == .text { return try nextPiece() }
    if let elements { return try nextElement(of: elements) }
    while let line = try lines.next() {
      guard line.contains(where: { !isJSONSpace($0) }) else { continue }
      let place = "'\(name)', line \(lines.lineNumber)"
      let value: ByteJSON
      do {
        var parser = JSONParser(line[...], firstLine: lines.lineNumber)
        value = try parser.parseWhole()
      } catch {
        throw PeatError.badData("\(place): malformed JSON lines: \(error.reason). Mend the line.")
      }
      if let document = try DocumentReader.document(ParsedJSON(value), at: place) {
        return document
      }
    }
    return nil
  }

  private func nextElement(of elements: JSONElementReader) throws -> Document? {
    while let bytes = try elements.next() {
      let place = "'\(name)', line \(elements.lineNumber)"
      let value: ByteJSON
      do {
        var parser = JSONParser(bytes[...], firstLine: elements.lineNumber)
        value = try parser.parseWhole()
      } catch {
        throw PeatError.badData(
          "'\(name)', line \(error.line): malformed JSON: \(error.reason). Mend the line.")
      }
      if let document = try DocumentReader.document(ParsedJSON(value), at: place) {
        return document
      }
    }
    return nil
  }

  private mutating func nextPiece() throws -> Document? {
    var piece: [UInt8] = []
    while piece.count < pieceBytes, let line = try lines.next() {
      piece += line
      if lines.hasBreak { piece.append(0x0A) }
    }
    return piece.isEmpty ? nil : Document(String(decoding: piece, as: UTF8.self))
  }
}
