import FedPEAT
import Foundation

/// A page with a few tables, whole in itself.
struct HTMLReport {
  private var body = ""
  private let title: String

  init(_ title: String) { self.title = title }

  mutating func add(paragraph text: String) { body += "<p>\(Self.escaped(text))</p>\n" }

  /// - Parameter rows: the first is the header; all columns but the first are numbers.
  mutating func add(_ rows: [[String]], caption: String) {
    body += "<table>\n<caption>\(Self.escaped(caption))</caption>\n"
    for (number, row) in rows.enumerated() {
      let tag = number == 0 ? "th" : "td"
      body += "<tr>" + row.map { "<\(tag)>\(Self.escaped($0))</\(tag)>" }.joined() + "</tr>\n"
    }
    body += "</table>\n"
  }

  /// Whether a file is such a page, or another one: those may be replaced.
  static func isOne(_ url: URL) -> Bool {
    guard let file = try? FileHandle(forReadingFrom: url) else { return false }
    let beginning = (try? file.read(upToCount: 64)) ?? Data()
    try? file.close()
    return String(decoding: beginning, as: UTF8.self).hasPrefix("<!DOCTYPE html>")
  }

  func write(to url: URL) throws { try AtomicOutput.write(Data(text.utf8), to: url) }

  var text: String {
    """
    <!DOCTYPE html>
    <html lang="en">
    <head>
    <meta charset="utf-8">
    <title>\(Self.escaped(title))</title>
    <style>
    body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; color: #222; background: #fff }
    table { border-collapse: collapse; margin: 1.5rem 0; font-variant-numeric: tabular-nums }
    caption { text-align: left; font-weight: 600; padding-bottom: .4rem }
    th, td { padding: .25rem .8rem .25rem 0; text-align: right; border-bottom: 1px solid #ddd }
    th:first-child, td:first-child { text-align: left }
    @media (prefers-color-scheme: dark) { body { color: #ddd; background: #161616 } th, td { border-color: #444 } }
    </style>
    </head>
    <body>
    <h1>\(Self.escaped(title))</h1>
    \(body)</body>
    </html>

    """
  }

  private static func escaped(_ text: String) -> String {
    text.replacingOccurrences(of: "&", with: "&amp;").replacingOccurrences(of: "<", with: "&lt;")
      .replacingOccurrences(of: ">", with: "&gt;").replacingOccurrences(of: "\"", with: "&quot;")
  }
}
