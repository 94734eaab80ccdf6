/// Lets a limited number of jobs work at the same time; the others wait in line.
///
/// For many clients in one process that share its cores and memory.
public actor WorkGate {
  private var free: Int
  private var line: [CheckedContinuation<Void, Never>] = []

  public init(limit: Int) {
    precondition(limit > 0, "WorkGate: a limit of \(limit) lets nobody work")
    free = limit
  }

  /// Waits for a place, does the job, and gives the place on.
  public nonisolated func run<Result: Sendable>(
    _ job: @Sendable () async throws -> Result
  ) async throws -> Result {
    await enter()
    do {
      try Task.checkCancellation()
      let result = try await job()
      await leave()
      return result
    } catch {
      await leave()
      throw error
    }
  }

  private func enter() async {
    if free > 0 {
      free -= 1
    } else {
      await withCheckedContinuation { line.append($0) }
    }
  }

  private func leave() {
    if line.isEmpty { free += 1 } else { line.removeFirst().resume() }
  }
}
