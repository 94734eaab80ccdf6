import Foundation
import PeatFederation
import PeatTensor

extension PrometheusText {
  /// What there is to see of a run and of the process that serves it.
  public init(_ status: CoordinatorStatus, connections: Int, started: Date) {
    self.init()
    let run = ["run": status.run.name]
    add("fedpeat_round", .gauge, "The round that is under way, from 1.", run, Double(status.round))
    add("fedpeat_rounds", .gauge, "How many rounds the run has.", run, Double(status.rounds))
    add(
      "fedpeat_round_attempt", .gauge, "The attempt at the round, from 1.", run,
      Double(status.attempt))
    add(
      "fedpeat_rounds_ended_total", .counter, "Rounds that counted.", run,
      Double(status.roundsEnded))
    add(
      "fedpeat_attempts_failed_total", .counter, "Attempts at rounds that did not count.", run,
      Double(status.attemptsFailed))
    add(
      "fedpeat_round_seconds_total", .counter, "Time of the rounds that counted, in seconds.", run,
      status.roundSecondsTotal)
    add(
      "fedpeat_last_round_seconds", .gauge, "Time of the last round that counted, in seconds.", run,
      status.lastRoundSeconds)
    add(
      "fedpeat_round_age_seconds", .gauge, "Time since the round that is under way began.", run,
      status.roundSeconds)
    add(
      "fedpeat_clients", .gauge,
      "Clients: present now, working on a task, known over the whole run.",
      [
        ("present", status.clientsPresent), ("working", status.clientsWorking),
        ("known", status.clientsKnown),
      ].map { (run.merging(["state": $0.0]) { $1 }, Double($0.1)) })
    add(
      "fedpeat_round_updates", .gauge, "Updates of the round that is under way that were taken.",
      run, Double(status.updatesOfRound))
    add("fedpeat_uploads", .gauge, "Uploads that are under way.", run, Double(status.uploads))
    add(
      "fedpeat_updates_accepted_total", .counter,
      "Updates that were taken since the coordinator was started.", run,
      Double(status.updatesAccepted))
    add(
      "fedpeat_updates_refused_total", .counter,
      "Updates that were refused since the coordinator was started, by reason.",
      status.updatesRefused.sorted { $0.key.rawValue < $1.key.rawValue }.map {
        (run.merging(["reason": $0.key.rawValue]) { $1 }, Double($0.value))
      })
    add(
      "fedpeat_transfer_bytes_total", .counter, "Bytes that clients fetched and sent.",
      [("down", status.traffic.bytesDown), ("up", status.traffic.bytesUp)].map {
        (run.merging(["direction": $0.0]) { $1 }, Double($0.1))
      })
    add(
      "fedpeat_evaluation", .gauge, "What the last round's evaluation gave.",
      status.metrics.sorted { $0.key < $1.key }.map {
        (run.merging(["metric": $0.key]) { $1 }, $0.value)
      })
    add(
      "fedpeat_run_ended", .gauge, "1 where the run has ended.", run,
      status.ending == nil ? 0 : 1)
    add("fedpeat_connections", .gauge, "Connections that are open.", [:], Double(connections))
    add(
      "process_resident_memory_bytes", .gauge, "Resident memory, in bytes.", [:],
      Double(ProcessMeasurement.memoryBytes))
    add(
      "process_cpu_seconds_total", .counter, "Processor time, in seconds.", [:],
      ProcessMeasurement.processorSeconds)
    add(
      "process_start_time_seconds", .gauge, "When the process was started, in seconds since 1970.",
      [:], started.timeIntervalSince1970)
  }
}
