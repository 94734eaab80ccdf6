import FedPEAT
import Foundation
import TestSupport
import Testing

/// What the pages say is there.
@Suite("Documentation") struct DocumentationTests {
  /// README and the like, docs/ and the decisions.
  private static var pages: [URL] {
    let root = ProjectFolders.root
    let folders = ["", "docs", "docs/decisions"].map { root.appendingPathComponent($0) }
    return folders.flatMap { folder in
      ((try? FileManager.default.contentsOfDirectory(
        at: folder, includingPropertiesForKeys: nil)) ?? [])
        .filter { $0.pathExtension == "md" }.sorted { $0.path < $1.path }
    }
  }

  /// A page without its blocks of code.
  private func text(of page: URL) throws -> String {
    var isCode = false
    return try String(contentsOf: page, encoding: .utf8)
      .split(separator: "\n", omittingEmptySubsequences: false)
      .filter { line in
        guard line.hasPrefix("```") else { return !isCode }
        isCode.toggle()
        return false
      }.joined(separator: "\n")
  }

  /// The names of a page's headings, as links say them.
  private func anchors(of page: URL) throws -> Set<String> {
    Set(
      try text(of: page).split(separator: "\n").filter { $0.hasPrefix("#") }.map { line in
        line.drop { $0 == "#" }.trimmingCharacters(in: .whitespaces).lowercased()
          .filter { $0.isLetter || $0.isNumber || $0 == " " || $0 == "-" || $0 == "_" }
          .replacingOccurrences(of: " ", with: "-")
      })
  }

  @Test func `every link leads to something`() throws {
    let pages = Self.pages
    #expect(pages.count > 40)
    var count = 0
    for page in pages {
      for match in try text(of: page).matches(of: /\]\(([^)\s]+)\)/) {
        let target = String(match.1)
        guard !target.contains("://"), !target.hasPrefix("mailto:") else { continue }
        count += 1
        let parts = target.split(separator: "#", maxSplits: 1, omittingEmptySubsequences: false)
        let place =
          parts[0].isEmpty
          ? page : page.deletingLastPathComponent().appendingPathComponent(String(parts[0]))
        let name = "\(page.lastPathComponent): \(target)"
        guard FileManager.default.fileExists(atPath: place.standardizedFileURL.path) else {
          Issue.record("no such file: \(name)")
          continue
        }
        guard parts.count == 2, place.pathExtension == "md" else { continue }
        #expect(try anchors(of: place).contains(String(parts[1])), "no such heading: \(name)")
      }
    }
    #expect(count > 100)
  }

  @Test func `every key of a run file stands in its table`() throws {
    let page = try text(of: ProjectFolders.root.appendingPathComponent("docs/formats.md"))
    let section = try #require(page.range(of: "## Run file"))
    let end = try #require(page.range(of: "## Edge file"))
    let rows = page[section.upperBound..<end.lowerBound].split(separator: "\n")
      .filter { $0.hasPrefix("| ") }
      .compactMap { $0.split(separator: "|").first.map(String.init) }
      .joined(separator: " ")
    for key in RunConfiguration.CodingKeys.allCases {
      #expect(rows.contains("`\(key.rawValue)`"), "\(key.rawValue) is missing in docs/formats.md")
    }
  }

  @Test func `every planner and every strategy is named there`() throws {
    let page = try text(of: ProjectFolders.root.appendingPathComponent("docs/formats.md"))
    for name in RunConfiguration.plannerNames + Strategies.names {
      #expect(page.contains("`\(name)`"), "\(name) is missing in docs/formats.md")
    }
  }
}
