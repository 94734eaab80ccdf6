import PeatTensor
import Synchronization

/// Lets so many transfers go on at a time, so that what is read from the disk for a hundred downloads does not wait in memory for the network, nor what a hundred clients send
/// for the disk.
///
/// A turn ends with its transfer, or when that has waited for the other side for `patience` in all and others wait for a turn: nothing of it is in memory while it waits. From then on it takes
/// one for each piece, before those that have not begun. So slow clients do not keep others from theirs, and a machine that is slow itself does not let more begin.
package final class TransferTurns: Sendable {
  private typealias Turn = CheckedContinuation<Void, any Error>
  private typealias Waiting = (number: Int, turn: Turn)

  private struct State {
    var free: Int
    var count = 0
    /// Those that have a turn.
    var turns: Set<Int> = []
    /// How long each transfer has waited for the other side, and since when those do that wait.
    var waited: [Int: Duration] = [:]
    var pauses: [Int: ContinuousClock.Instant] = [:]
    var waiting: [Waiting] = []
    /// Those that have begun, and had to give their turn away.
    var returning: [Waiting] = []
    var isWatching = false
  }

  private let patience: Duration
  private let clock = ContinuousClock()
  private let state: Mutex<State>

  /// - Parameters:
  ///   - limit: turns at a time.
  ///   - patience: how long a transfer may wait for the other side in all before it loses its turn.
  package init(limit: Int = 16, patience: Duration = .milliseconds(250)) {
    self.patience = patience
    state = Mutex(State(free: limit))
  }

  /// Does a transfer when it is its turn. Throws `CancellationError` where it is cancelled while it waits.
  ///
  /// - Parameter body: gets the transfer's number, for `pause` and `resume`.
  package func take<Result>(_ body: (Int) async throws -> Result) async throws -> Result {
    let number = try await begin()
    defer { end(number) }
    return try await body(number)
  }

  /// Waits for a turn, which `end` ends, and gives its number.
  package func begin() async throws -> Int {
    let number = state.withLock { state in
      state.count += 1
      state.waited[state.count] = .zero
      return state.count
    }
    do { try await take(number, hasBegun: false) } catch {
      end(number)
      throw error
    }
    return number
  }

  /// The transfer waits for the other side from now on.
  package func pause(_ number: Int) {
    let now = clock.now
    let next = state.withLock { state -> Turn? in
      guard let before = state.waited[number], state.pauses[number] == nil else { return nil }
      state.pauses[number] = now
      return before < patience ? nil : release(number, &state)
    }
    next?.resume()
  }

  /// The transfer goes on: at once where it still has its turn.
  package func resume(_ number: Int) async throws {
    let now = clock.now
    let hasTurn = state.withLock { state in
      guard let since = state.pauses.removeValue(forKey: number) else { return true }
      state.waited[number, default: .zero] += now - since
      return state.turns.contains(number)
    }
    if !hasTurn { try await take(number, hasBegun: true) }
  }

  private func take(_ number: Int, hasBegun: Bool) async throws {
    let isFree = state.withLock { state in
      guard state.free > 0 else { return false }
      state.free -= 1
      state.turns.insert(number)
      return true
    }
    if isFree { return }
    try await withTaskCancellationHandler {
      try await withCheckedThrowingContinuation { (turn: Turn) in
        let watches = state.withLock { state in
          if hasBegun {
            state.returning.append((number, turn))
          } else {
            state.waiting.append((number, turn))
          }
          defer { state.isWatching = true }
          return !state.isWatching
        }
        // One may have ended meanwhile, or this one may have been cancelled.
        giveWhatIsFree()
        if Task.isCancelled { giveUp(number) }
        if watches { watch() }
      }
    } onCancel: {
      giveUp(number)
    }
  }

  /// As long as anybody waits, takes turns from those that wait for the other side for too long.
  private func watch() {
    Task {
      while true {
        try? await Task.sleep(for: patience / 8)
        let now = clock.now
        let (next, isOver) = state.withLock { state in
          let slow = state.turns.filter { number in
            guard let since = state.pauses[number] else { return false }
            return state.waited[number, default: .zero] + (now - since) >= patience
          }
          let next = slow.compactMap { release($0, &state) }
          let isOver = state.waiting.isEmpty && state.returning.isEmpty
          if isOver { state.isWatching = false }
          return (next, isOver)
        }
        for turn in next { turn.resume() }
        if isOver { return }
      }
    }
  }

  private func giveWhatIsFree() {
    let next = state.withLock { state -> Turn? in
      guard state.free > 0, let next = popFirst(&state) else { return nil }
      state.free -= 1
      state.turns.insert(next.number)
      return next.turn
    }
    next?.resume()
  }

  private func giveUp(_ number: Int) {
    let turn = state.withLock { state -> Turn? in
      if let place = state.waiting.firstIndex(where: { $0.number == number }) {
        return state.waiting.remove(at: place).turn
      }
      guard let place = state.returning.firstIndex(where: { $0.number == number }) else {
        return nil
      }
      return state.returning.remove(at: place).turn
    }
    turn?.resume(throwing: CancellationError())
  }

  /// The transfer is over.
  package func end(_ number: Int) {
    let next = state.withLock { state in
      state.waited[number] = nil
      state.pauses[number] = nil
      return release(number, &state)
    }
    next?.resume()
  }

  /// Gives a turn, where there is one, to who waits longest: first of those that have begun.
  private func release(_ number: Int, _ state: inout State) -> Turn? {
    guard state.turns.remove(number) != nil else { return nil }
    guard let next = popFirst(&state) else {
      state.free += 1
      return nil
    }
    state.turns.insert(next.number)
    return next.turn
  }

  private func popFirst(_ state: inout State) -> Waiting? {
    if !state.returning.isEmpty { return state.returning.removeFirst() }
    return state.waiting.isEmpty ? nil : state.waiting.removeFirst()
  }

  /// How many wait to begin.
  package var waitingCount: Int { state.withLock { $0.waiting.count } }

  /// How many have begun and wait to go on, for tests.
  package var returningCount: Int { state.withLock { $0.returning.count } }

  /// How many have a turn, for tests.
  package var turnCount: Int { state.withLock { $0.turns.count } }
}

/// The turns of uploads: one begins with the answer to an offer, before a byte was sent, and ends with the upload.
final class UploadTurns: Sendable {
  private let turns = TransferTurns()
  private let numbers = Mutex<[String: Int]>([:])
  /// So many may wait: with more, the last would wait longer than a call lasts.
  private static let mostWaiting = 600

  /// Waits for the upload's turn to begin.
  ///
  /// - Throws: `RPCError` where so many wait that it is to ask again later.
  func wait(for ticket: String) async throws {
    guard number(of: ticket) == nil else { return }
    guard turns.waitingCount < Self.mostWaiting else {
      throw Admission.exhausted("\(Self.mostWaiting) uploads that wait", .seconds(2))
    }
    let number = try await turns.begin()
    keep(number, for: ticket)
    // It waits for the first piece.
    turns.pause(number)
  }

  /// Waits for the upload's turn to go on, after `pause` or before its first piece.
  func resume(_ ticket: String) async throws {
    if let number = number(of: ticket) { return try await turns.resume(number) }
    keep(try await turns.begin(), for: ticket)
  }

  /// The upload waits for its client.
  func pause(_ ticket: String) {
    if let number = number(of: ticket) { turns.pause(number) }
  }

  func end(_ ticket: String) {
    if let number = numbers.withLock({ $0.removeValue(forKey: ticket) }) { turns.end(number) }
  }

  private func number(of ticket: String) -> Int? { numbers.withLock { $0[ticket] } }

  private func keep(_ number: Int, for ticket: String) {
    let superfluous = numbers.withLock { numbers -> [Int] in
      // Two calls may have come with one ticket.
      if numbers[ticket] != nil { return [number] }
      // Who never sends anything is forgotten.
      var forgotten: [Int] = []
      if numbers.count > 4 * Self.mostWaiting {
        forgotten = Array(numbers.values)
        numbers.removeAll(keepingCapacity: true)
      }
      numbers[ticket] = number
      return forgotten
    }
    for number in superfluous { turns.end(number) }
  }
}
