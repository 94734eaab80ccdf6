import PeatFederation
import PeatTensor
import Testing

@Suite("RetryPolicy") struct RetryPolicyTests {
  @Test func `waits twice as long each time, up to the maximum`() {
    let policy = RetryPolicy(
      initial: .seconds(1), multiplier: 2, maximum: .seconds(5), jitter: 0)
    var random = SeededRandom(seed: 1)
    let waits = (1...5).map { policy.delay(after: $0, using: &random) }
    #expect(waits == [.seconds(1), .seconds(2), .seconds(4), .seconds(5), .seconds(5)])
  }

  @Test func `spreads the waits, the same way for the same seed`() {
    let policy = RetryPolicy(initial: .seconds(10), multiplier: 1, jitter: 0.2)
    var first = SeededRandom(seed: 1)
    var second = SeededRandom(seed: 1)
    let waits = (0..<50).map { _ in policy.delay(after: 1, using: &first) }
    #expect(waits == (0..<50).map { _ in policy.delay(after: 1, using: &second) })
    #expect(Set(waits).count > 40)
    #expect(waits.allSatisfy { $0 >= .seconds(8) && $0 <= .seconds(12) })
  }
}

@Suite("WorkGate") struct WorkGateTests {
  private actor Count {
    var now = 0
    var most = 0
    func enter() {
      now += 1
      most = max(most, now)
    }
    func leave() { now -= 1 }
  }

  @Test func `lets no more than the limit work at once, and everybody in the end`() async throws {
    let gate = WorkGate(limit: 2)
    let count = Count()
    let results = try await withThrowingTaskGroup(of: Int.self) { group in
      for i in 0..<20 {
        group.addTask {
          try await gate.run {
            await count.enter()
            for _ in 0..<10 { await Task.yield() }
            await count.leave()
            return i
          }
        }
      }
      return try await group.reduce(into: Set<Int>()) { $0.insert($1) }
    }
    #expect(results.count == 20)
    #expect(await count.most <= 2)
  }

  @Test func `a job that fails gives its place on`() async throws {
    let gate = WorkGate(limit: 1)
    struct Failure: Error {}
    await #expect(throws: Failure.self) { try await gate.run { throw Failure() } }
    #expect(try await gate.run { 7 } == 7)
  }
}
