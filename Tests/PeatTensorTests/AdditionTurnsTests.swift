import Foundation
import PeatTensor
import Testing

@Suite("AdditionTurns") struct AdditionTurnsTests {
  /// What each place heard, in order.
  private final class Log: @unchecked Sendable {
    private var heard: [String: [String]] = [:]
    private let lock = NSLock()
    /// No lock while it is written, as with sums: the turns must keep writers apart.
    private var writers = 0
    private(set) var worstWriters = 0

    func write(_ text: String, at place: String) {
      lock.withLock {
        writers += 1
        worstWriters = max(worstWriters, writers)
      }
      Thread.sleep(forTimeInterval: 0.0002)
      lock.withLock {
        heard[place, default: []].append(text)
        writers -= 1
      }
    }

    subscript(place: String) -> [String] { lock.withLock { heard[place] ?? [] } }
  }

  /// Runs workers that each do their additions, later ones begun first.
  private func run(_ additions: [[String]]) -> Log {
    let turns = AdditionTurns<String>(workers: additions.count)
    let log = Log()
    let group = DispatchGroup()
    for worker in additions.indices.reversed() {
      let thread = Thread {
        for (number, place) in additions[worker].enumerated() {
          turns.add(to: place, by: worker) { log.write("\(worker).\(number)", at: place) }
        }
        turns.finish(worker)
        group.leave()
      }
      group.enter()
      thread.start()
      if worker % 2 == 1 { Thread.sleep(forTimeInterval: 0.002) }
    }
    #expect(group.wait(timeout: .now() + 60) == .success)
    return log
  }

  @Test func `each place hears the workers in their order, addition by addition`() {
    // The first place is added to twice by each, as the weights of a shared block are.
    for _ in 0..<20 {
      let log = run(Array(repeating: ["a", "b", "a", "c"], count: 3))
      #expect(log["a"] == ["0.0", "1.0", "2.0", "0.2", "1.2", "2.2"])
      #expect(log["b"] == ["0.1", "1.1", "2.1"])
      #expect(log["c"] == ["0.3", "1.3", "2.3"])
    }
  }

  @Test func `nobody waits for who adds nothing, or is done`() {
    for _ in 0..<20 {
      let log = run([["a", "a", "a"], [], ["a"]])
      #expect(log["a"].filter { $0.hasPrefix("0.") } == ["0.0", "0.1", "0.2"])
      #expect(log["a"].count == 4)
    }
  }

  @Test func `one place has one writer`() {
    let log = run(Array(repeating: Array(repeating: "a", count: 10), count: 4))
    #expect(log.worstWriters == 1)
    #expect(log["a"].count == 40)
  }
}
