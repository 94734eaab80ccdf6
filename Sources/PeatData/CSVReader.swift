import PeatTensor

/// Reads comma-separated values after RFC 4180.
///
/// Fields may be quoted; inside quotes a comma, a line break and a doubled quote stand for themselves. Lines end with LF, CRLF or CR.
/// Blank lines are left out.
package enum CSVReader {
  package struct Row: Sendable, Equatable {
    /// The line the row starts on, counted from 1.
    package let line: Int
    package let fields: [String]
  }

  /// - Parameter name: how messages name the source.
  /// - Throws: `PeatError.badData` where a quote does not end, or text stands beside a quoted field.
  package static func rows(of bytes: [UInt8], name: String) throws -> [Row] {
    let quote = UInt8(ascii: "\"")
    let comma = UInt8(ascii: ",")
    let lineFeed: UInt8 = 0x0A
    let carriageReturn: UInt8 = 0x0D
    var rows: [Row] = []
    var fields: [String] = []
    var position = 0
    var line = 1
    var rowLine = 1

    while position < bytes.count {
      // One field, up to the comma or line end that follows it.
      var field: [UInt8] = []
      if bytes[position] == quote {
        let quoteLine = line
        position += 1
        var isOpen = true
        while position < bytes.count {
          let byte = bytes[position]
          position += 1
          if byte == quote {
            if position < bytes.count, bytes[position] == quote {
              field.append(quote)
              position += 1
            } else {
              isOpen = false
              break
            }
          } else {
            if byte == lineFeed { line += 1 }
            field.append(byte)
          }
        }
        if isOpen {
          throw PeatError.badData(
            "'\(name)', line \(quoteLine): a quoted field does not end. A quote inside quotes is written twice."
          )
        }
        if position < bytes.count, ![comma, lineFeed, carriageReturn].contains(bytes[position]) {
          throw PeatError.badData(
            """
            '\(name)', line \(line): text follows the closing quote of a field. \
            Expected a comma or the line's end; a quote inside quotes is written twice.
            """)
        }
      } else {
        while position < bytes.count, ![comma, lineFeed, carriageReturn].contains(bytes[position]) {
          field.append(bytes[position])
          position += 1
        }
      }
      fields.append(String(decoding: field, as: UTF8.self))

      if position < bytes.count, bytes[position] == comma {
        position += 1
        if position == bytes.count { fields.append("") }
        continue
      }
      if position < bytes.count, bytes[position] == carriageReturn { position += 1 }
      if position < bytes.count, bytes[position] == lineFeed { position += 1 }
      if fields != [""] { rows.append(Row(line: rowLine, fields: fields)) }
      fields = []
      line += 1
      rowLine = line
    }
    if !fields.isEmpty { rows.append(Row(line: rowLine, fields: fields)) }
    return rows
  }
}
