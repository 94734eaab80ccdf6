import FedPEAT
import Foundation
import Synchronization

/// Tells of a federation while it runs.
final class RunProgress: Sendable {
  private struct State {
    var start = ContinuousClock.now
    var firstRound: ContinuousClock.Instant?
    var plugIn: [Int: Double] = [:]
    /// What numbers are numbers of.
    var metric = Metric.perplexity
    /// Of the round under way, in its simulated cell.
    var lost = 0
  }

  private let rounds: Int
  private let state = Mutex(State())

  init(rounds: Int) { self.rounds = rounds }

  func report(_ event: FederatedTuning.Event) {
    switch event {
    case .opened(let model, let parameters, let blocks, let metric):
      state.withLock { $0.metric = metric }
      Terminal.note(
        "model        \(model): \(Format.count(parameters)) parameters in \(blocks) blocks")
    case .compressed(let level, let recipe, let kept, let bytes, let full, let exposure):
      Terminal.note(
        "emulator \(level)   \(recipe): blocks \(kept.map(String.init).joined(separator: " ")), "
          + "\(Format.bytes(bytes)) beside \(Format.bytes(full)), exposes \(Format.percent(exposure)) of the middle"
      )
    case .measuring(let name, let emulator):
      Terminal.status("measuring \(Self.term(name, emulator)) …")
    case .measured(let name, let emulator, let value):
      let shown = Format.measure(value, state.withLock { $0.metric })
      Terminal.note("measured     \(Self.term(name, emulator)): \(shown)")
    case .measuringClient(let name, let number, let count):
      Terminal.status("measuring \(name), client \(number) of \(count) …")
    case .comparing(let name, let step, let steps, let rate, let unit, let left):
      Terminal.status(
        "\(name.term): step \(step) of \(steps), \(Format.number(rate, digits: 0)) \(unit.perSecond), \(Format.time(left)) left"
      )
    case .roundMeasured(let round, let value): state.withLock { $0.plugIn[round] = value }
    case .roundLost(let lost): report(lost)
    case .caution(let text): Terminal.caution(text)
    case .warning(let text): Terminal.warning(text)
    case .realigning(let level): Terminal.status("distilling emulator \(level) again …")
    case .realigned(let level, let before, let after):
      Terminal.note(
        "realigned    emulator \(level): fidelity \(Format.number(before, digits: 3)) to \(Format.number(after, digits: 3))"
      )
    case .fidelity(let level, let now, let made, let bound):
      Terminal.note(
        "fidelity     emulator \(level): \(Format.number(now, digits: 3)), \(Format.number(made, digits: 3)) when it was made; realigned below \(Format.number(bound, digits: 3))"
      )
    case .realignedInVain(let level, let before, let after):
      Terminal.note(
        "not better   emulator \(level), distilled again: fidelity \(Format.number(before, digits: 3)) to \(Format.number(after, digits: 3)); it stays as it was"
      )
    case .goesOn(let round, let rounds, let taken):
      Terminal.note(
        "goes on      after \(round) of \(rounds) rounds\(taken > 0 ? "; \(taken) updates of the next were taken" : "")"
      )
    case .coordinator(let progress): report(progress)
    }
  }

  private func report(_ progress: CoordinatorProgress) {
    switch progress {
    case .clientJoined(let client): Terminal.note("joined       \(client)")
    case .clientLost(let client, let reason): Terminal.note("lost         \(client): \(reason)")
    case .roundBegan(let round, let attempt, let plan):
      state.withLock { if $0.firstRound == nil { $0.firstRound = .now } }
      let again = attempt > 1 ? " (attempt \(attempt))" : ""
      guard plan.skipped == nil else { break }
      Terminal.status(
        "round \(round) of \(rounds)\(again): \(plan.participants.count == 1 ? "a client is" : "\(plan.participants.count) clients are") tuning …"
      )
    case .roundGoesOn(let round, let attempt, let plan):
      state.withLock { if $0.firstRound == nil { $0.firstRound = .now } }
      Terminal.note(
        "goes on      round \(round)\(attempt > 1 ? ", attempt \(attempt)" : ""), with \(plan.participants.count) clients"
      )
    case .updateArrived(let client, let round, _):
      Terminal.status("round \(round): update from \(client)")
    case .updateRefused(let client, let round, let refusal):
      Terminal.note("refused      \(client) in round \(round): \(refusal.message)")
    case .clientFailed(let client, let round, let reason):
      Terminal.note("failed       \(client) in round \(round): \(reason)")
    case .serverFailed(let round, let reason):
      Terminal.note("no part      of the coordinator's own in round \(round): \(reason)")
    case .caution(let text): Terminal.caution(text)
    case .aggregating(let round, let clients):
      guard !clients.isEmpty else { break }
      Terminal.status("round \(round): aggregating \(clients.count) updates")
    case .levelRenewed(let level, let round, let bytes):
      Terminal.note(
        "new          emulator \(level), \(Format.bytes(bytes)), from round \(round) on")
    case .roundEnded(let record):
      tellLostRounds(before: record)
      Terminal.note(line(record))
    case .roundRepeated(let record, let reason):
      Terminal.note(
        "lost         round \(record.round), attempt \(record.attempt): \(reason)\(missing(record)); it is tried again"
      )
    case .roundGivenUp(let record, let reason):
      Terminal.note(
        "lost         round \(record.round), attempt \(record.attempt): \(reason)\(missing(record)); it was the last"
      )
    case .roundWaits(let record, let reason):
      Terminal.note("waiting      for round \(record.round): \(reason)")
    case .waitsForClients(let round, let present, let needed, let time):
      Terminal.note(
        "waiting      for clients, \(Format.time(time)) at most: \(present == 1 ? "1 is" : "\(present) are") there, round \(round) needs \(needed)"
      )
    case .waitsForLost(let round, let clients, let time):
      Terminal.note(
        "waiting      for \(names(clients)) to come back to round \(round), \(Format.time(time)) at most"
      )
    case .waitsForOthers(let round, let pause):
      Terminal.note(
        "waiting      for others than those who failed in round \(round), \(Format.seconds(pause.seconds)) at most"
      )
    case .runEnded: break
    }
  }

  /// As many rounds that were lost before one that counts are told of one by one.
  private static let mostLost = 3

  private func report(_ lost: LostRound) {
    let count = state.withLock { state in
      state.lost += 1
      return state.lost
    }
    guard count <= Self.mostLost else { return }
    let late = lost.asked.filter { !lost.delivered.contains($0) }
    let isCutOff = lost.seconds >= lost.deadline
    let end =
      "\(isCutOff ? ", the edge's deadline of" : " of at most") \(Format.number(lost.deadline, digits: 1)) s"
    Terminal.note(
      "lost         round \(lost.round), attempt \(lost.attempt) in the simulated cell: \(lost.delivered.count) of the \(lost.needed) updates it needs arrived after \(Format.number(lost.seconds, digits: 1)) s\(end)"
        + " (\(names(late)) did not deliver); \(lost.isLast ? "it was the last" : "it is tried again")"
    )
  }

  private func tellLostRounds(before record: RoundRecord) {
    let count = state.withLock { state in
      defer { state.lost = 0 }
      return state.lost
    }
    if count > Self.mostLost {
      Terminal.note(
        "lost         \(count) attempts at round \(record.round) in all in the simulated cell")
    }
  }

  /// " (a was late, b failed)" of those who did not deliver.
  private func missing(_ record: RoundRecord) -> String {
    let late = record.outcomes.filter { $0.result == .late }.map(\.client)
    let surplus = record.outcomes.count { $0.result == .surplus }
    let parts = [
      late.isEmpty ? nil : "late: \(names(late))",
      surplus == 0 ? nil : "\(surplus) not waited for",
    ].compactMap { $0 }
    return parts.isEmpty ? "" : " (\(parts.joined(separator: "; ")))"
  }

  private func names(_ clients: [ClientID]) -> String {
    let shown = clients.prefix(4).map(\.name).joined(separator: ", ")
    return clients.count > 4 ? shown + " and \(clients.count - 4) more" : shown
  }

  private func line(_ record: RoundRecord) -> String {
    let (plugIn, start, metric) = state.withLock {
      ($0.plugIn[record.round], $0.firstRound ?? $0.start, $0.metric)
    }
    let losses = record.outcomes.compactMap { $0.metrics["loss"] }
    let loss =
      losses.isEmpty ? "–" : Format.number(losses.reduce(0, +) / Double(losses.count), digits: 3)
    let perRound = (ContinuousClock.now - start).seconds / Double(record.round)
    let left = Duration.seconds(perRound * Double(rounds - record.round))
    let down = record.outcomes.reduce(0) { $0 + $1.bytesDown }
    let absent = record.plan.assignments.count - record.plan.participants.count
    let up = record.outcomes.reduce(0) { $0 + $1.bytesUp }
    let measured = plugIn.map { "  plug-in \(Format.measure($0, metric))" } ?? ""
    let isOff = record.aggregationError >= 0.0005
    let off = isOff ? "  \(Format.percent(record.aggregationError)) off the exact mean" : ""
    let cut =
      record.aggregation["clipped"].map {
        "  \(Int(rounding: $0)) of \(record.delivered.count) cut to the norm bound"
      } ?? ""
    if let reason = record.plan.skipped {
      return "round \(record.round) of \(rounds)  passes without clients (\(reason))" + measured
    }
    return
      "round \(record.round) of \(rounds)  \(record.delivered.count) of \(record.outcomes.count) delivered"
      + missing(record) + (absent > 0 ? ", \(absent) left out" : "") + "  loss \(loss)"
      + measured + off + cut
      + "  \(Format.bytes(down)) down, \(Format.bytes(up)) up  \(Format.time(left)) left"
  }

  /// A number's name, and of which emulator it is where there are several.
  private static func term(_ name: FiveNumberName, _ emulator: String?) -> String {
    emulator.map { "\(name.term) (\($0))" } ?? name.term
  }
}
