import Foundation
import Synchronization

/// Looks at a run's rounds as they end, and says what its owner should know: each thing once.
public final class RunWatch: Sendable {
  /// Since a client last delivered.
  private struct Client {
    /// Rounds that it was there in, and was asked in.
    var there = 0
    var asked = 0
    var reason: String?
  }

  private struct State {
    var warnings: [String] = []
    var said: Set<Topic> = []
    /// Clients whose updates were out of line.
    var outOfLine: Set<ClientID> = []
    /// Rounds in which anybody was asked, and how many were, in all.
    var rounds = 0
    var asked = 0
    var clients: [ClientID: Client] = [:]
    var skippedInARow = 0
    var addedInARow = 0
    var best: (round: Int, plugIn: Double)?
    /// The full model's perplexity as it came, and the rounds that were measured since.
    var untouched: Double?
    var measured = 0
    /// Measured since the best.
    var worse: [Double] = []
  }

  private enum Topic {
    case strategyCautions, takesNoPart, plugInIsWorse, worseThanUntouched, nobodyAsked,
      plannerAsksNobody, givesNoNumbers
  }

  private let configuration: RunConfiguration
  private let state = Mutex(State())

  public init(_ configuration: RunConfiguration) { self.configuration = configuration }

  /// All that was said.
  public var warnings: [String] { state.withLock { $0.warnings } }

  /// Perplexity of the full model as it came, where it was measured.
  public var untouched: Double? {
    get { state.withLock { $0.untouched } }
    set { state.withLock { $0.untouched = newValue } }
  }

  /// Takes a round that counted; returns what is to be said now.
  public func take(_ record: RoundRecord) -> [String] {
    state.withLock { state in
      let new = [
        strategyCautions(record, &state), takesNoPart(record, &state),
        plugInIsWorse(record, &state),
        worseThanUntouched(record, &state), nobodyAsked(record, &state),
        plannerAsksNobody(record, &state), outOfLine(record, &state),
        givesNoNumbers(record, &state),
      ].compactMap { $0 }
      state.warnings += new
      return new
    }
  }

  // MARK: Strategies that do not do what they are for

  private func strategyCautions(_ record: RoundRecord, _ state: inout State) -> String? {
    guard record.plan.skipped == nil,
      let rule = try? configuration.aggregation,
      let caution = rule.caution(updates: record.delivered.count) ?? lossOfTopK(by: rule),
      state.said.insert(.strategyCautions).inserted
    else { return nil }
    return caution
  }

  /// Where factors are made anew, a client can't add to its next update what it did not send.
  private func lossOfTopK(by rule: any AggregationStrategy) -> String? {
    guard !rule.keepsFactors, (try? configuration.uploadEncoding)?.share != nil else { return nil }
    return
      "by the strategy '\(rule.name)' what top-k leaves out of an update is lost for good, as A and B are made anew in each round; 'fedavg' keeps it for the next, and int4 takes little more than a tenth of f32's bytes"
  }

  // MARK: Updates that are unlike all others

  /// So many times as far as the middle one an update is out of line.
  private static let outOfLine = 100.0

  /// How far each update went, the furthest first.
  private func distances(_ record: RoundRecord) -> [(client: ClientID, by: Double)] {
    record.outcomes.compactMap { outcome in outcome.distance.map { (outcome.client, $0) } }
      .sorted { $0.1 > $1.1 }
  }

  private func outOfLine(_ record: RoundRecord, _ state: inout State) -> String? {
    let all = distances(record)
    guard all.count >= 3 else { return nil }
    let middle = all[all.count / 2].by
    // Each is named once.
    let strange = all.filter {
      middle > 0 && $0.by > Self.outOfLine * middle && !state.outOfLine.contains($0.client)
    }
    guard !strange.isEmpty else { return nil }
    state.outOfLine.formUnion(strange.map(\.client))
    let shown = strange.prefix(5)
    let rest = strange.count > shown.count ? " and \(strange.count - shown.count) more" : ""
    let isOne = strange.count == 1
    return String(
      format:
        "The %@ of %@%@ in round %ld %@ %@ away from where the round began, that of the middle client %.3g: %@",
      isOne ? "update" : "updates", shown.map { "'\($0.client)'" }.joined(separator: ", "), rest,
      record.round, isOne ? "is" : "are",
      shown.map { String(format: "%.3g", $0.by) }.joined(separator: ", "), middle,
      "see whether \(isOne ? "that device is what it" : "those devices are what they") should be. 'updateNormLimit' refuses such updates, the strategies norm-bound, median, trimmed-mean and multi-krum bear them, 'ca revoke' keeps a device out."
    )
  }

  private func givesNoNumbers(_ record: RoundRecord, _ state: inout State) -> String? {
    guard let plugIn = record.metrics["plugIn"], !plugIn.isFinite,
      state.said.insert(.givesNoNumbers).inserted
    else { return nil }
    let whose = distances(record).first.map {
      String(format: " The update of '%@' went furthest, %.3g.", $0.client.name, $0.by)
    }
    return
      "With the adapter of round \(record.round) the full model gives no numbers any more, and no device can train on from there.\(whose ?? "") Stop the run, go back with 'fedpeat runs rollback', and see that it does not happen again: a lower learning rate, a robust strategy, 'updateNormLimit', or 'ca revoke' where a device means harm."
  }

  // MARK: Data that takes no part

  private func takesNoPart(_ record: RoundRecord, _ state: inout State) -> String? {
    guard record.plan.skipped == nil else { return nil }
    state.rounds += 1
    state.asked += record.outcomes.count
    let delivered = Set(record.delivered)
    let asked = Set(record.outcomes.map(\.client))
    for (client, assignment) in record.plan.assignments {
      if delivered.contains(client) {
        state.clients[client] = Client()
        continue
      }
      state.clients[client, default: Client()].there += 1
      state.clients[client]?.asked += asked.contains(client) ? 1 : 0
      state.clients[client]?.reason = assignment.reason
    }
    // A planner that draws gets to everybody.
    guard !Planners.samplers.contains(configuration.planner), state.asked > 0 else { return nil }
    // Long enough that all could have had their turn twice.
    let turns = 2 * state.clients.count * state.rounds / state.asked
    let enough = min(max(5, turns), max(configuration.rounds, 3))
    let absent = state.clients.filter { $0.value.there >= enough }.sorted { $0.key < $1.key }
    guard !absent.isEmpty, state.said.insert(.takesNoPart).inserted else { return nil }
    let shown = absent.prefix(3).map { client, own in
      let why =
        own.asked > 0
        ? "asked in \(own.asked) of them, delivered in none" : own.reason ?? "not asked"
      return "\(client) (\(why))"
    }
    let rest = absent.count > shown.count ? " and \(absent.count - shown.count) more" : ""
    let isOne = absent.count == 1
    return
      "\(isOne ? "A client was" : "\(absent.count) clients were") there in the last \(enough) rounds or more, and nothing was learned from \(isOne ? "its" : "their") data: \(shown.joined(separator: ", "))\(rest), of \(state.clients.count) in all. "
      + "Where that data should count, have every round need more updates (minimumUpdates), or choose the planner 'everyone' or 'random'."
  }

  // MARK: Plug-in gets worse

  private func plugInIsWorse(_ record: RoundRecord, _ state: inout State) -> String? {
    guard let plugIn = record.metrics["plugIn"] else { return nil }
    guard let best = state.best,
      configuration.metric.isAsGood(best.plugIn, as: plugIn) || !plugIn.isFinite
    else {
      state.best = (record.round, plugIn)
      state.worse = []
      return nil
    }
    // Where nothing changed, nothing got worse.
    if plugIn == best.plugIn { return nil }
    state.worse.append(plugIn)
    guard state.worse.count >= 3, state.said.insert(.plugInIsWorse).inserted else { return nil }
    let place =
      configuration.out.map {
        URL(fileURLWithPath: $0).appendingPathComponent(FederatedTuning.bestRoundFolder)
          .relativePath
      }
    return
      "Plug-in \(configuration.metric.rawValue) was \(said(best.plugIn)) after round \(best.round) and has been \(configuration.metric.higherIsBetter ? "below" : "above") that since: \(state.worse.map(said).joined(separator: ", ")). "
      + (place.map { "The adapter of the best round will be in '\($0)'. " }
        ?? "With --out the adapter of the best round is kept. ")
      + "Fewer rounds, fewer local steps, a lower learning rate, or more clients in each round may help."
  }

  /// Asked after `plugInIsWorse`, which notes what is best.
  private func worseThanUntouched(_ record: RoundRecord, _ state: inout State) -> String? {
    guard record.metrics["plugIn"] != nil, let untouched = state.untouched, let best = state.best
    else { return nil }
    state.measured += 1
    // Said of no number, too: that is no better.
    guard state.measured >= 3, untouched.isFinite,
      !configuration.metric.isAsGood(best.plugIn, as: untouched),
      state.said.insert(.worseThanUntouched).inserted
    else { return nil }
    return
      "After \(state.measured) measured rounds plug-in \(configuration.metric.rawValue) is \(said(best.plugIn)) at best (round \(best.round)), worse than the \(said(untouched)) of the model as it came: this run harms it so far. "
      + "A lower learning rate, fewer local steps, an emulator that is nearer to the model ('fedpeat compare-emulators'), or data that is more like the text that is measured on may help."
  }

  private func said(_ value: Double) -> String { String(format: "%.2f", value) }

  // MARK: Nobody is asked

  private func nobodyAsked(_ record: RoundRecord, _ state: inout State) -> String? {
    guard let reason = record.plan.skipped else {
      state.skippedInARow = 0
      return nil
    }
    state.skippedInARow += 1
    guard state.skippedInARow >= 3, state.said.insert(.nobodyAsked).inserted else { return nil }
    let what =
      configuration.participate
      ? "only the coordinator itself tunes" : "the adapter stays as it was"
    return
      "Nobody was asked in \(state.skippedInARow) rounds in a row (\(reason)): \(what). That is a baseline; to tune, choose another planner."
  }

  /// A planner that asks nobody is not obeyed, as a round needs updates.
  private func plannerAsksNobody(_ record: RoundRecord, _ state: inout State) -> String? {
    let chosen = record.plan.participants.compactMap { record.plan.assignments[$0] }
    guard !chosen.isEmpty, chosen.allSatisfy(\.isAdded) else {
      state.addedInARow = 0
      return nil
    }
    state.addedInARow += 1
    guard state.addedInARow >= 3, state.said.insert(.plannerAsksNobody).inserted else { return nil }
    return
      "In \(state.addedInARow) rounds in a row the planner '\(configuration.planner)' asked nobody; as a round needs \(configuration.minimumUpdates) \(configuration.minimumUpdates == 1 ? "update" : "updates"), the quickest took part. "
      + "By its measure this run is not worth its time: look at what it believes with 'fedpeat estimate', choose another planner, or set minimumUpdates to the number of clients that you want in each round."
  }
}
