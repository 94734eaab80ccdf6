import ArgumentParser
import FedPEAT
import Foundation

struct Reports: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Write a text of one's own to try things on: a small world of short reports.",
    discussion: """
      Example: fedpeat reports --out world

      The same world as the demo's, as JSON lines with the fields author and topic: owner.jsonl and owner-held-out.jsonl by \
      the model owner's authors; newcomers.jsonl and newcomers-held-out.jsonl by others who write as these do; people.jsonl \
      and people-held-out.jsonl by people of one valley, who write of the same things in other words and another order. What is held out tells of nothing that the other files tell of. Pretrain on \
      owner.jsonl, then tune on newcomers.jsonl, which is near to what the model knows, or on people.jsonl, which is not; \
      each author is a client.
      """)

  @Option(help: "The folder to write.")
  var out: String

  @Option(help: "Reports by the owner's authors.")
  var reports = 6000

  @Option(help: "People of the valley, and as many newcomers.")
  var people = 8

  @Option(help: "Reports by each of them.")
  var reportsPerPerson = 160

  @Option(help: "Reports held out by each of them, and five times as many by the owner's authors.")
  var heldOut = 40

  @OptionGroup var common: CommonOptions

  struct Report: Encodable {
    var folder: String
    /// Documents by file.
    var files: [String: Int]
  }

  func run() async throws {
    for (name, value, most) in [
      ("--reports", reports, 1_000_000), ("--people", people, 1000),
      ("--reports-per-person", reportsPerPerson, 10_000), ("--held-out", heldOut, 1000),
    ] where !(1...most).contains(value) {
      throw PeatError.usage("\(name) is \(value); it must be between 1 and \(most).")
    }
    let world = ReportWorld(seed: common.seedValue)
    let authors = (0..<people).map { world.person($0) }
    let newcomers = (0..<people).map { world.newcomer($0) }
    let texts = [
      "owner.jsonl": world.ownerReports(count: reports),
      "owner-held-out.jsonl": world.heldOutOwnerReports(count: 5 * heldOut),
      "newcomers.jsonl": newcomers.flatMap { world.reports(by: $0, count: reportsPerPerson) },
      "newcomers-held-out.jsonl": newcomers.flatMap {
        world.heldOutReports(by: $0, count: heldOut)
      },
      "people.jsonl": authors.flatMap { world.reports(by: $0, count: reportsPerPerson) },
      "people-held-out.jsonl": authors.flatMap { world.heldOutReports(by: $0, count: heldOut) },
    ]
    let target = URL(path: out)
    try AtomicOutput.folder(at: target, replacing: texts.keys.contains) { folder in
      for (name, documents) in texts {
        try documents.writeJSONLines(to: folder.appendingPathComponent(name))
      }
    }
    let report = Report(folder: target.relativePath, files: texts.mapValues(\.count))
    try common.report(
      report,
      text: Format.table(
        report.files.sorted { $0.key < $1.key }.map {
          [target.appendingPathComponent($0.key).relativePath, "\(Format.count($0.value)) reports"]
        }))
  }
}
