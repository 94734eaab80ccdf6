import PeatTensor

/// Lets so many downloads begin at a time, so that what is read from the disk for a hundred of them does not wait in memory for the network.
///
/// A turn ends with its transfer, or after a moment: one that takes longer is held back by its own link, and what waits for that is bounded by the link's window. So slow clients
/// do not keep others from theirs.
actor TransferTurns {
  private let patience: Duration
  private var free: Int
  private var turns: Set<Int> = []
  private var waiting: [(number: Int, continuation: CheckedContinuation<Void, any Error>)] = []
  private var count = 0

  /// - Parameters:
  ///   - limit: turns at a time.
  ///   - patience: how long a turn lasts at most.
  init(limit: Int = 16, patience: Duration = .milliseconds(250)) {
    free = limit
    self.patience = patience
  }

  /// Does a transfer when it is its turn. Throws `CancellationError` where it is cancelled while it waits.
  nonisolated func take<Result>(_ body: () async throws -> Result) async throws -> Result {
    let number = try await begin()
    let alarm = Task { [patience] in
      if (try? await Task.sleep(for: patience)) != nil { await self.end(number) }
    }
    do {
      let result = try await body()
      alarm.cancel()
      await end(number)
      return result
    } catch {
      alarm.cancel()
      await end(number)
      throw error
    }
  }

  private func begin() async throws -> Int {
    count += 1
    let number = count
    if free > 0 {
      free -= 1
      turns.insert(number)
      return number
    }
    try await withTaskCancellationHandler {
      try await withCheckedThrowingContinuation { continuation in
        if Task.isCancelled {
          continuation.resume(throwing: CancellationError())
        } else {
          waiting.append((number, continuation))
        }
      }
    } onCancel: {
      Task { await self.giveUp(number) }
    }
    return number
  }

  private func giveUp(_ number: Int) {
    guard let place = waiting.firstIndex(where: { $0.number == number }) else { return }
    waiting.remove(at: place).continuation.resume(throwing: CancellationError())
  }

  /// Ends a turn, once, and gives it to who waits longest.
  private func end(_ number: Int) {
    guard turns.remove(number) != nil else { return }
    guard !waiting.isEmpty else {
      free += 1
      return
    }
    let next = waiting.removeFirst()
    turns.insert(next.number)
    next.continuation.resume()
  }

  /// How many wait, for tests.
  var waitingCount: Int { waiting.count }
}
