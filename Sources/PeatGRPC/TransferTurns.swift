import PeatTensor

/// Lets so many transfers begin at a time, so that what is read from the disk for a hundred downloads does not wait in memory for the network, nor what a hundred clients send
/// for the disk.
///
/// A turn ends with its transfer, or after a moment: one that takes longer is held back by its own link, and what waits for that is bounded by the link's window. So slow clients
/// do not keep others from theirs.
package actor TransferTurns {
  private let patience: Duration
  private var free: Int
  private var turns: Set<Int> = []
  private var alarms: [Int: Task<Void, Never>] = [:]
  private var waiting: [(number: Int, continuation: CheckedContinuation<Void, any Error>)] = []
  private var count = 0

  /// - Parameters:
  ///   - limit: turns at a time.
  ///   - patience: how long a turn lasts at most.
  package init(limit: Int = 16, patience: Duration = .milliseconds(250)) {
    free = limit
    self.patience = patience
  }

  /// Does a transfer when it is its turn. Throws `CancellationError` where it is cancelled while it waits.
  package nonisolated func take<Result>(_ body: () async throws -> Result) async throws -> Result {
    let number = try await begin()
    do {
      let result = try await body()
      await end(number)
      return result
    } catch {
      await end(number)
      throw error
    }
  }

  /// Waits for a turn, which ends by `end`, or after a moment by itself.
  func begin() async throws -> Int {
    let number = try await next()
    alarms[number] = Task { [patience] in
      if (try? await Task.sleep(for: patience)) != nil { end(number) }
    }
    return number
  }

  private func next() async throws -> Int {
    count += 1
    let number = count
    if free > 0 {
      free -= 1
      turns.insert(number)
      return number
    }
    try await withTaskCancellationHandler {
      try await withCheckedThrowingContinuation {
        (continuation: CheckedContinuation<Void, any Error>) in
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
  func end(_ number: Int) {
    alarms.removeValue(forKey: number)?.cancel()
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
  package var waitingCount: Int { waiting.count }
}

/// The turns of uploads: one begins with the answer to an offer, before a byte was sent, and ends with the upload.
actor UploadTurns {
  private let turns = TransferTurns()
  private var numbers: [String: Int] = [:]
  /// So many may wait: with more, the last would wait longer than a call lasts.
  private static let mostWaiting = 600

  func wait(for ticket: String) async throws {
    guard numbers[ticket] == nil, await turns.waitingCount < Self.mostWaiting else { return }
    numbers[ticket] = try await turns.begin()
    // Who never sends anything is forgotten with its turn.
    if numbers.count > 2 * Self.mostWaiting { numbers.removeAll(keepingCapacity: true) }
  }

  func end(_ ticket: String) async {
    if let number = numbers.removeValue(forKey: ticket) { await turns.end(number) }
  }
}
