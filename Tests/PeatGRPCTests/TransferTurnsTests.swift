import PeatGRPC
import TestSupport
import Testing

/// How many go on.
private actor Seen {
  private(set) var now = 0
  private(set) var most = 0
  private(set) var done = 0

  func begin() {
    now += 1
    most = max(most, now)
  }

  func end() {
    now -= 1
    done += 1
  }
}

@Suite("Turns of transfers") struct TransferTurnsTests {
  @Test func `no more than the limit go on at a time, and all get their turn`() async throws {
    let turns = TransferTurns(limit: 3, patience: .seconds(60))
    let seen = Seen()
    try await withThrowingTaskGroup(of: Void.self) { group in
      for _ in 0..<20 {
        group.addTask {
          try await turns.take {
            await seen.begin()
            for _ in 0..<5 { await Task.yield() }
            await seen.end()
          }
        }
      }
      try await group.waitForAll()
    }
    #expect(await seen.most <= 3)
    #expect(await seen.done == 20)
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
