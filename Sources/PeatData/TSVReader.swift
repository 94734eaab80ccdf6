import PeatTensor

/// Reads values between tabs: a row per line, nothing quoted. Blank lines are left out.
///
/// Source: <https://www.iana.org/assignments/media-types/text/tab-separated-values>.
package enum TSVReader {
  package static func rows(of file: TextFile) -> [CSVReader.Row] {
    file.filledLines.map { line in
      CSVReader.Row(
        line: line.number,
        fields: line.bytes.split(separator: 0x09, omittingEmptySubsequences: false)
          .map { String(decoding: $0, as: UTF8.self) })
    }
  }
}
