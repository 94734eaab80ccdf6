import PeatTensor

/// How a file of documents is laid out.
public enum DataFormat: String, Sendable, Codable, CaseIterable {
  /// The whole file is one document.
  case text
  /// One JSON array of strings or records, or a single record.
  case json
  /// A JSON record or string on each line.
  case jsonLines = "jsonl"
  /// Turns of a play: a line `SPEAKER:`, the lines spoken, an empty line.
  case play
  /// Comma-separated values with a header line.
  case csv
  /// Values between tabs with a header line.
  case tsv

  /// Whether rows of columns are under a header.
  var isTable: Bool { self == .csv || self == .tsv }

  /// What the bytes look like, with the file's name as a hint for what the bytes leave open.
  ///
  /// JSON is recognised by how it begins: `[` or `{` followed by what JSON allows there. Prose that begins with a bracket
  /// stays prose. A play script or a table reads as text unless it is asked for, since both are text as well.
  static func sniffed(from bytes: [UInt8], fileExtension: String) -> DataFormat {
    switch fileExtension.lowercased() {
    case "jsonl", "ndjson": return .jsonLines
    case "json": return startsManyRecords(bytes) ? .jsonLines : .json
    case "csv": return .csv
    case "tsv", "tab": return .tsv
    default: break
    }
    var first: UInt8?
    var second: UInt8?
    for byte in bytes where !isJSONSpace(byte) {
      if first == nil {
        first = byte
      } else {
        second = byte
        break
      }
    }
    let quote = UInt8(ascii: "\"")
    let brace = UInt8(ascii: "{")
    switch (first, second) {
    case (UInt8(ascii: "["), quote), (UInt8(ascii: "["), brace),
      (UInt8(ascii: "["), UInt8(ascii: "]")):
      return .json
    case (brace, quote), (brace, UInt8(ascii: "}")):
      return startsManyRecords(bytes) ? .jsonLines : .json
    default:
      return .text
    }
  }

  /// Whether the first line is a whole JSON object and more lines follow.
  private static func startsManyRecords(_ bytes: [UInt8]) -> Bool {
    let start = bytes.firstIndex { !isJSONSpace($0) } ?? bytes.endIndex
    guard start < bytes.endIndex, bytes[start] == UInt8(ascii: "{"),
      let end = bytes[start...].firstIndex(of: UInt8(ascii: "\n")),
      bytes[end...].contains(where: { !isJSONSpace($0) })
    else { return false }
    var parser = JSONParser(bytes[start..<end], firstLine: 1)
    return (try? parser.parseWhole()) != nil
  }
}
