import PeatTensor

extension Coordinator {
  /// The coordinator's own training in a round.
  struct ServerPart {
    var round: Int
    var work: Task<Void, Never>
    /// Its adapter, or why there is none; `nil` while it trains.
    var result: Result<NamedTensors, any Error>?
    var isMixedIn = false

    var failure: (any Error)? {
      if case .failure(let error) = result { error } else { nil }
    }
  }

  func startServerPart(_ round: Int, _ attempt: Int) {
    guard let server, server.weight > 0, serverPart?.round != round else { return }
    var task = task(for: .server, round, attempt, .init(), level: 0, Package(files: []))
    if strategy.keepsFactors { task.countedRound = lastCountedPart }
    let carried = serverCarried.rest(for: task)
    serverPart = ServerPart(
      round: round,
      work: Task { [sent, task] in
        do {
          let trained = try await server.trainer.train(
            task, adapter: sent, carried: carried, unfinished: nil
          ) { _ in }
          if !trained.carried.isEmpty {
            try serverCarried.keep(trained.carried, before: carried, of: task)
          }
          endServerPart(round, .success(trained.tensors))
        } catch { endServerPart(round, .failure(error)) }
      })
  }

  /// The last round that the server's own part was mixed into.
  private var lastCountedPart: Int {
    rounds.last { $0.serverWeight > 0 }?.round ?? 0
  }

  /// Reads what the server's own training carries on, where an earlier process left it.
  func restoreServerPart() {
    do { try serverCarried.restore() } catch {
      let text = "what the server's own training carried on is lost: \(failureReason(error))"
      logger.warning("\(text)")
      tell(.caution(text))
      try? serverCarried.forget()
    }
  }

  func endServerPart(_ round: Int, _ result: Result<NamedTensors, any Error>) {
    guard serverPart?.round == round, serverPart?.result == nil else { return }
    serverPart?.result = result
    wake(of: nil)
  }

  /// What the server's own part gave, once it has ended. As with a client, it may fail or be late, and the round goes on without it.
  func serversOwn(_ round: Int) async throws -> NamedTensors? {
    guard serverPart?.round == round else { return nil }
    while serverPart?.result == nil {
      try Task.checkCancellation()
      let left = configuration.rules.deadline - roundWatch.elapsed
      if left <= .zero {
        serverPart?.work.cancel()
        endServerPart(
          round,
          .failure(PeatError.unavailable("It was still at work when the round's time was over.")))
      } else {
        await waitForNews(timeout: left)
      }
    }
    do { return try serverPart?.result?.get() } catch {
      goOnWithoutServer(round, error)
      return nil
    }
  }

  func noteServerPart(_ round: Int) {
    if serverPart?.round == round { serverPart?.isMixedIn = true }
  }

  func goOnWithoutServer(_ round: Int, _ error: any Error) {
    let reason = failureReason(error)
    serverPart?.result = .failure(error)
    logger.warning("round \(round) goes on without the server's own part: \(reason)")
    tell(.serverFailed(round: round, reason: reason))
  }
}
