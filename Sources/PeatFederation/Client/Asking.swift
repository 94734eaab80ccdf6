import Synchronization

/// Whether a client's call for work is open. That is a sign of life by itself: the client attends only while none is.
package final class Asking: Sendable {
  private struct State {
    var isAsking = true
    var waiting: [Int: CheckedContinuation<Void, Never>] = [:]
    var count = 0
  }

  private let state = Mutex(State())

  /// Of a client that is about to ask.
  package init() {}

  /// Calls for work. Where it is given some, or does not reach the coordinator, it is not asking any more.
  package func ask(
    _ connection: any CoordinatorConnection, _ caller: Caller
  ) async throws -> TaskReply {
    state.withLock { $0.isAsking = true }
    do {
      let reply = try await connection.nextTask(caller)
      switch reply {
      case .train, .rejoin: end()
      case .wait, .leftOut, .superseded, .finished: break
      }
      return reply
    } catch {
      end()
      throw error
    }
  }

  private func end() {
    let waiting = state.withLock { state in
      state.isAsking = false
      defer { state.waiting = [:] }
      return state.waiting
    }
    for continuation in waiting.values { continuation.resume() }
  }

  /// Returns when the client is not asking.
  package func waitUntilDone() async throws {
    let number = state.withLock { state in
      state.count += 1
      return state.count
    }
    await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        let isDone = state.withLock { state in
          if !state.isAsking || Task.isCancelled { return true }
          state.waiting[number] = continuation
          return false
        }
        if isDone { continuation.resume() }
      }
    } onCancel: {
      state.withLock { $0.waiting.removeValue(forKey: number) }?.resume()
    }
    try Task.checkCancellation()
  }
}
