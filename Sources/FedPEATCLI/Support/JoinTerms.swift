import FedPEAT
import Foundation

/// Says what a run asks of a device and what leaves it, and asks whoever sits at the terminal, once for a run.
struct JoinTerms: Sendable {
  /// Whether to ask where somebody can answer.
  var isAsking: Bool
  /// Keeps to which runs the answer was yes.
  var note: URL

  func agree(_ terms: WorkTerms) async throws {
    for line in lines(terms) { Terminal.note(line) }
    let run = terms.task.run.name
    let agreed = (try? String(contentsOf: note, encoding: .utf8)) ?? ""
    guard isAsking, Terminal.canAsk, !agreed.split(separator: "\n").contains(Substring(run)) else {
      return
    }
    guard try await Terminal.ask("Take part in '\(run)'?") else {
      throw PeatError.usage(
        "You did not agree to take part. Nothing was downloaded; the coordinator was told this device's name, its free memory and how fast it is, and that it has left."
      )
    }
    try Data((agreed + run + "\n").utf8).write(to: note, options: .atomic)
  }

  func lines(_ terms: WorkTerms) -> [String] {
    let task = terms.task
    var download =
      terms.emulatorBytes > 0
      ? "an emulator of \(Format.bytes(terms.emulatorBytes)) once, and an adapter of "
      : "an adapter of "
    download += "\(Format.bytes(task.adapter.bytes)) in each of up to \(terms.rounds) rounds"
    if let rate = terms.rates.download, Double(terms.emulatorBytes) > rate {
      download += "; the emulator takes about \(Format.seconds(Double(terms.emulatorBytes) / rate))"
    }
    let method = [task.method, task.rank.map { "rank \($0)" }].compactMap { $0 }
      .joined(separator: ", ")
    let encoding = (try? task.encoding).map { $0 == .plain ? "" : ", as \($0)" } ?? ""
    return [
      "to download  \(download)",
      "what leaves  the tuned adapter (\(method))\(encoding), with how many examples you have, losses, times, bytes and memory; never your data itself",
    ]
  }
}
