import Foundation
import PeatTensor

/// How a run ends, and how its clients hear of it.
extension Coordinator {
  /// Stops without an end, as the end of the process would, where the run is kept: clients are told to try again, and find the coordinator that is started next.
  /// `run()` throws `interrupted`.
  public func suspend() {
    guard runStore != nil, machine.ending == nil, keepingFailure == nil else { return }
    logger.info("the coordinator is stopped; the run is kept")
    keepingFailure = PeatError(
      .interrupted,
      "The coordinator was asked to stop. The run '\(configuration.run)' is kept: the same command goes on with it, and clients that are still trying come back."
    )
    stopWaiting()
  }

  /// Stops as if it were killed, where the run is kept and something could not be written or read: the disk is full, for example. Nothing is wrong with the run, and its
  /// clients wait for the coordinator that is started next. Returns whether it does.
  func suspends(because error: any Error) -> Bool {
    guard runStore != nil, machine.ending == nil, error.isOfFiles else { return false }
    // It may be stopping already.
    guard keepingFailure == nil else { return true }
    let reason = failureReason(error)
    let end = reason.hasSuffix(".") ? "" : "."
    keepingFailure = PeatError(
      .inputOutput,
      "The run stops, as a file can't be written or read: \(reason)\(end) What was kept until now stays: mend it, and start the same command again.",
      cause: error)
    logger.error("the coordinator stops: \(reason)")
    stopWaiting()
    return true
  }

  /// Ends the run; clients are told.
  public func cancel(reason: String) { process(.cancelled(reason: reason)) }

  func finish(_ ending: RunEnding) {
    logger.info("the run ends", metadata: ["ending": "\(ending)"])
    seconds = earlierSeconds + watch.seconds
    switch ending {
    // Whoever has not come back since this coordinator was started is told too.
    case .completed, .stopped: unaware.formUnion(machine.awaited)
    default: break
    }
    onProgress(.runEnded(ending))
    for timer in timers.values { timer.cancel() }
    timers = [:]
    tasks = [:]
    withdrawn = [:]
    current = nil
    serverPart?.work.cancel()
    for job in jobs { job.cancel() }
    wakeAll()
    completion?.resume()
    completion = nil
  }

  /// Ends all that is under way, and tells nobody: what is kept is gone on with later.
  func stopWaiting() {
    for timer in timers.values { timer.cancel() }
    timers = [:]
    serverPart?.work.cancel()
    for job in jobs { job.cancel() }
    wakeAll()
    completion?.resume()
    completion = nil
  }

  func sayGoodbye() async {
    let timeout = Task { [clock, configuration] in
      // Whom it lost is given time to come back.
      try? await clock.sleep(for: configuration.farewell * (unaware.isEmpty ? 1 : 3))
    }
    let patience = Task {
      await timeout.value
      expirePatience()
    }
    while !patienceExpired, !unaware.isEmpty || stays.contains(where: hasToHear) {
      await waitForNews(timeout: nil)
    }
    timeout.cancel()
    await patience.value
    if runStore == nil || machine.ending == .completed { spool.removeAll() }
  }

  /// Whether a client is there, also one between two calls, and does not know yet that the run is over.
  private func hasToHear(_ client: ClientID, _ stay: Stay) -> Bool {
    !stay.heardTheEnd && (stay.attendances > 0 || machine.present.contains(client))
  }

  private func expirePatience() {
    patienceExpired = true
    wakeAll()
  }
}

extension Error {
  /// Whether a file could not be written or read, which says nothing of what it holds.
  fileprivate var isOfFiles: Bool {
    switch self {
    case let error as PeatError: error.code == .inputOutput
    case is POSIXError: true
    // What Foundation says of reading and writing files.
    case let error as CocoaError: (256..<1024).contains(error.code.rawValue)
    default: false
    }
  }
}
