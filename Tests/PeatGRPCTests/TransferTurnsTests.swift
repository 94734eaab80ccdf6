import PeatGRPC
import Synchronization
import TestSupport
import Testing

@Suite("Turns of transfers") struct TransferTurnsTests {
  @Test func `no more than the limit go on at a time, and all get their turn`() async throws {
    let turns = TransferTurns(limit: 3, patience: .seconds(60))
    let seen = Mutex((now: 0, most: 0, done: 0))
    try await withThrowingTaskGroup(of: Void.self) { group in
      for _ in 0..<20 {
        group.addTask {
          try await turns.take {
            seen.withLock {
              $0.now += 1
              $0.most = max($0.most, $0.now)
            }
            for _ in 0..<5 { await Task.yield() }
            seen.withLock {
              $0.now -= 1
              $0.done += 1
            }
          }
        }
      }
      try await group.waitForAll()
    }
    #expect(seen.withLock { $0.most } <= 3)
    #expect(seen.withLock { $0.done } == 20)
  }

  @Test func `one that takes long does not keep others from their turn`() async throws {
    let turns = TransferTurns(limit: 1, patience: .milliseconds(20))
    let slow = Task { try await turns.take { try await Task.sleep(for: .seconds(600)) } }
    try await turns.take {}
    slow.cancel()
    await #expect(throws: CancellationError.self) { try await slow.value }
  }

  @Test func `one that is cancelled while it waits leaves the others theirs`() async throws {
    let turns = TransferTurns(limit: 1, patience: .seconds(600))
    let first = Task { try await turns.take { try await Task.sleep(for: .seconds(600)) } }
    let second = Task { try await turns.take {} }
    let third = Task { try await turns.take { true } }
    while await turns.waitingCount < 2 { await Task.yield() }
    second.cancel()
    await #expect(throws: CancellationError.self) { try await second.value }
    first.cancel()
    #expect(try await third.value)
  }
}
