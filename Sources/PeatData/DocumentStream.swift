import Foundation
import PeatTensor

/// The documents of a file that may be larger than memory, one at a time.
///
/// JSON lines give a document per line, as `DocumentReader` reads it. Text gives pieces of whole lines, of about `pieceBytes` each; put one after
/// the other they are the file (a tokenizer may cut tokens at their borders otherwise than in the whole). Other formats have to be read whole: `DocumentReader` does.
public struct DocumentStream: ~Copyable {
  private var lines: LineReader
  private let format: DataFormat
  /// Whether its documents are pieces of one text.
  package var isOneText: Bool { format == .text }
  private let name: String
  private let pieceBytes: Int

  /// - Parameters:
  ///   - format: `text` or `jsonLines`; `nil` goes by the file's name.
  ///   - pieceBytes: of text, what a document has at least, but for the last.
  /// - Throws: `usage` for a format that has no lines, `inputOutput` where the file can't be read.
  public init(_ url: URL, as format: DataFormat? = nil, pieceBytes: Int = 1 << 16) throws {
    precondition(pieceBytes > 0, "DocumentStream: pieces of \(pieceBytes) bytes")
    let known: DataFormat =
      ["jsonl", "ndjson"].contains(url.pathExtension.lowercased()) ? .jsonLines : .text
    self.format = format ?? known
    name = url.path(percentEncoded: false)
    self.pieceBytes = pieceBytes
    guard [.text, .jsonLines].contains(self.format) else {
      throw PeatError.usage(
        "'\(name)' can't be read piece by piece as \(self.format.rawValue). Make JSON lines of it.")
    }
    lines = try LineReader(url)
  }

  /// The next document; `nil` after the last.
  ///
  /// - Throws: `badData` for a line that is damaged, with its number.
  public mutating func next() throws -> Document? {
    if format == .text { return try nextPiece() }
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

  private mutating func nextPiece() throws -> Document? {
    var piece: [UInt8] = []
    while piece.count < pieceBytes, let line = try lines.next() {
      piece += line
      if lines.hasBreak { piece.append(0x0A) }
    }
    return piece.isEmpty ? nil : Document(String(decoding: piece, as: UTF8.self))
  }
}
