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

private actor Order {
  private(set) var all: [String] = []
  func add(_ name: String) { all.append(name) }
}

@Suite("Turns of transfers") struct TransferTurnsTests {
  @Test func `no more than the limit go on at a time, and all get their turn`() async throws {
    let turns = TransferTurns(limit: 3, patience: .seconds(60))
    let seen = Seen()
    try await withThrowingTaskGroup(of: Void.self) { group in
      for _ in 0..<20 {
        group.addTask {
          try await turns.take { _ in
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

  @Test func `one that waits for the other side does not keep others from their turn`() async throws
  {
    let turns = TransferTurns(limit: 1, patience: .milliseconds(20))
    let slow = try await turns.begin()
    turns.pause(slow)
    #expect(turns.turnCount == 1)
    try await turns.take { _ in }
    // It goes on when there is a turn again, before those that have not begun; and from now on it has one for a piece alone.
    let other = try await turns.begin()
    let order = Order()
    let resumed = Task {
      try await turns.resume(slow)
      await order.add("slow")
      turns.pause(slow)
    }
    while turns.returningCount < 1 { await Task.yield() }
    let third = Task {
      let number = try await turns.begin()
      await order.add("third")
      turns.end(number)
    }
    while turns.waitingCount < 1 { await Task.yield() }
    turns.end(other)
    try await resumed.value
    try await third.value
    #expect(await order.all == ["slow", "third"])
    turns.end(slow)
    #expect(turns.turnCount == 0)
  }

  @Test func `one that is at work itself keeps its turn, however long that takes`() async throws {
    let turns = TransferTurns(limit: 1, patience: .milliseconds(1))
    let busy = try await turns.begin()
    let other = Task { try await turns.take { _ in true } }
    while turns.waitingCount < 1 { await Task.yield() }
    try await Task.sleep(for: .milliseconds(20))
    #expect(turns.waitingCount == 1)
    turns.end(busy)
    #expect(try await other.value)
  }

  @Test func `one that is cancelled while it waits leaves the others theirs`() async throws {
    let turns = TransferTurns(limit: 1, patience: .seconds(600))
    let first = Task { try await turns.take { _ in try await Task.sleep(for: .seconds(600)) } }
    while turns.turnCount < 1 { await Task.yield() }
    let second = Task { try await turns.take { _ in } }
    let third = Task { try await turns.take { _ in true } }
    while turns.waitingCount < 2 { await Task.yield() }
    second.cancel()
    await #expect(throws: CancellationError.self) { try await second.value }
    first.cancel()
    #expect(try await third.value)
    #expect(turns.turnCount == 0)
  }
}
