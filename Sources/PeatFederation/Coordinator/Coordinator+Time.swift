import PeatTensor

/// What is waited for: timers, and calls that are answered when something happened.
extension Coordinator {
  func start(_ timer: RoundTimer, _ duration: Duration) {
    timers[timer]?.cancel()
    // The run's time is also what it took before the coordinator was started again.
    let duration =
      timer.purpose == .budget ? max(duration - .seconds(earlierSeconds), .zero) : duration
    let alarm = clock.alarm(in: duration)
    timers[timer] = Task {
      guard (try? await alarm()) != nil else { return }
      process(.timerFired(timer))
    }
  }

  /// Wakes every call that waits for something to happen.
  func wakeAll() { waiters.wakeAll() }

  /// Wakes the calls that wait for something to happen to this client; `nil`: the coordinator's own.
  func wake(of client: ClientID?) { waiters.wake(of: client) }

  /// Returns when something happened, the time is over or the task was cancelled; the caller looks again.
  ///
  /// - Parameter client: whose affairs are waited for, beside what concerns all; `nil`: the coordinator's own.
  func waitForNews(of client: ClientID? = nil, timeout: Duration?) async {
    let number = waiters.number()
    if let timeout { set(.call(number), after: timeout) }
    await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        if Task.isCancelled {
          continuation.resume()
        } else {
          waiters.add(number, for: client, continuation)
        }
      }
    } onCancel: {
      Task { await self.wake(number) }
    }
  }

  func wake(_ number: Int) { waiters.wake(number) }
}

extension Clock where Duration == Swift.Duration {
  /// Waits until a time that is counted from now on, not from when somebody begins to wait.
  fileprivate func alarm(in duration: Duration) -> @Sendable () async throws -> Void {
    let end = now.advanced(by: duration)
    return { try await self.sleep(until: end, tolerance: nil) }
  }
}
