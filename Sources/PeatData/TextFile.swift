import Foundation
import PeatTensor

/// The bytes of a text file: read whole, known to be UTF-8 without NULs, and without a byte order mark.
package struct TextFile: Sendable {
  /// How messages name the file.
  package let name: String
  package let fileExtension: String
  package let bytes: [UInt8]

  /// Reads a file.
  ///
  /// - Throws: `PeatError.inputOutput` where the file is missing, a folder, not a plain file or not readable;
  ///   `PeatError.badData` where it is empty or binary.
  package init(_ url: URL) throws {
    let path = url.path(percentEncoded: false)
    var isFolder: ObjCBool = false
    guard FileManager.default.fileExists(atPath: path, isDirectory: &isFolder) else {
      throw PeatError.inputOutput("'\(path)' does not exist. Check the path to the data file.")
    }
    if isFolder.boolValue {
      throw PeatError.inputOutput(
        "'\(path)' is a folder, a data file is expected. Name a file inside it.")
    }
    let resolved = url.resolvingSymlinksInPath().path(percentEncoded: false)
    let kind =
      try? FileManager.default.attributesOfItem(atPath: resolved)[.type] as? FileAttributeType
    if let kind, kind != .typeRegular {
      throw PeatError.inputOutput(
        "'\(path)' is not a plain file (\(kind.rawValue)). Name a data file.")
    }
    let data: Data
    do {
      data = try Data(contentsOf: url)
    } catch {
      throw PeatError.inputOutput(
        "'\(path)' can't be read. Check that you have the right to read it.", cause: error)
    }
    try self.init(name: path, fileExtension: url.pathExtension, bytes: [UInt8](data))
  }

  /// Checks bytes that are already in memory.
  package init(name: String, fileExtension: String, bytes raw: [UInt8]) throws {
    self.name = name
    self.fileExtension = fileExtension
    let hasMark = raw.starts(with: [0xEF, 0xBB, 0xBF])
    let bytes = hasMark ? Array(raw.dropFirst(3)) : raw
    let offset = hasMark ? 3 : 0
    if raw.starts(with: [0xFF, 0xFE]) || raw.starts(with: [0xFE, 0xFF]) {
      throw PeatError.badData(
        "'\(name)' seems to be UTF-16 text (it begins with that byte order mark). Save it as UTF-8."
      )
    }
    if let zero = bytes.firstIndex(of: 0) {
      throw PeatError.badData(
        "'\(name)' is not text: byte \(zero + offset) is NUL. Expected UTF-8 text, JSON or JSON lines."
      )
    }
    if let wrong = Self.firstInvalidByte(of: bytes) {
      let value = String(bytes[wrong], radix: 16, uppercase: true)
      throw PeatError.badData(
        """
        '\(name)' is not UTF-8 text: byte \(wrong + offset) (0x\(value)) fits no character. \
        Save the file as UTF-8, or check that it is a text file.
        """)
    }
    if !bytes.contains(where: { !isJSONSpace($0) }) {
      throw PeatError.badData("'\(name)' is empty. Expected text, JSON or JSON lines.")
    }
    self.bytes = bytes
  }

  /// The whole text.
  package var text: String { String(decoding: bytes, as: UTF8.self) }

  /// The lines that are not blank, with their numbers counted from 1 and without LF or CRLF.
  package var filledLines: [(number: Int, bytes: ArraySlice<UInt8>)] {
    var lines: [(number: Int, bytes: ArraySlice<UInt8>)] = []
    var number = 0
    for line in bytes.split(separator: 0x0A, omittingEmptySubsequences: false) {
      number += 1
      let body = line.last == 0x0D ? line.dropLast() : line
      if body.contains(where: { !isJSONSpace($0) }) { lines.append((number, body)) }
    }
    return lines
  }

  /// What is made of each JSON value of the file: of the elements of an array, or of one value per line. One value is in memory at a time, with what is made of them.
  ///
  /// - Parameter body: takes a value and the line it starts on; what it makes `nil` of is left out.
  /// - Returns: what was made, and how many values there are.
  package func mapJSON<Result>(
    _ format: DataFormat, _ body: (ParsedJSON, _ line: Int) throws -> Result?
  ) throws -> (results: [Result], count: Int) {
    var results: [Result] = []
    var count = 0
    func add(_ value: ByteJSON, _ line: Int) throws {
      count += 1
      if let result = try body(ParsedJSON(value), line) { results.append(result) }
    }
    if format == .jsonLines {
      var number = 0
      for line in bytes.split(separator: 0x0A, omittingEmptySubsequences: false) {
        number += 1
        let text = line.last == 0x0D ? line.dropLast() : line
        guard text.contains(where: { !isJSONSpace($0) }) else { continue }
        try add(
          try wellFormed(format) { () throws(JSONFault) in
            var parser = JSONParser(text, firstLine: number)
            return try parser.parseWhole()
          }, number)
      }
    } else {
      var parser = JSONParser(bytes[...])
      while let element = try wellFormed(
        format, { () throws(JSONFault) in try parser.nextElement() })
      {
        try add(element.value, element.line)
      }
    }
    return (results, count)
  }

  private func wellFormed<Value>(
    _ format: DataFormat, _ parse: () throws(JSONFault) -> Value
  ) throws -> Value {
    do { return try parse() } catch {
      let what = format == .jsonLines ? "JSON lines" : "JSON"
      throw PeatError.badData(
        """
        '\(name)', line \(error.line): malformed \(what): \(error.reason). \
        Mend the line, or name the format if the file is not \(what).
        """)
    }
  }

  /// Where the first byte stands that is not part of a UTF-8 character (RFC 3629), or nil.
  static func firstInvalidByte(of bytes: [UInt8]) -> Int? {
    if String(validating: bytes, as: UTF8.self) != nil { return nil }
    var decoder = Unicode.UTF8.ForwardParser()
    var iterator = bytes.makeIterator()
    var position = 0
    while true {
      switch decoder.parseScalar(from: &iterator) {
      case .valid(let character): position += character.count
      case .error: return position
      case .emptyInput: return nil
      }
    }
  }
}
