import PeatTensor

/// How often a request is tried, and how long is waited between tries.
public struct HubPatience: Sendable {
  /// Tries without any progress before giving up.
  public var tries: Int
  /// Before the second try; doubled for each further one.
  public var firstWait: Duration
  public var longestWait: Duration
  /// How long a server may say nothing.
  public var silence: Duration
  /// Waits; tests put their own here.
  public var sleep: @Sendable (Duration) async throws -> Void

  public init(
    tries: Int = 6, firstWait: Duration = .seconds(1), longestWait: Duration = .seconds(60),
    silence: Duration = .seconds(30),
    sleep: @escaping @Sendable (Duration) async throws -> Void = { try await Task.sleep(for: $0) }
  ) {
    precondition(tries > 0, "at least one try")
    self.tries = tries
    self.firstWait = firstWait
    self.longestWait = longestWait
    self.silence = silence
    self.sleep = sleep
  }

  /// Repeats what fails in passing.
  ///
  /// - Parameters:
  ///   - what: for the error, such as "The file 'config.json' of openai-community/gpt2".
  ///   - progress: a number that grows as the work does; tries are counted anew when it has.
  /// - Throws: `unavailable` when tries are used up.
  func repeated<Result>(
    _ what: String, progress: () -> Int = { 0 }, onWaiting: (String) -> Void,
    _ body: () async throws -> Result
  ) async throws -> Result {
    var failures = 0
    var reached = progress()
    while true {
      do { return try await body() } catch let failure as PassingFailure {
        try Task.checkCancellation()
        if progress() > reached { failures = 0 }
        reached = progress()
        failures += 1
        guard failures < tries else {
          throw PeatError.unavailable(
            "\(what) could not be fetched: \(failure.reason), \(tries) times. What has come is kept; the same command goes "
              + "on from there.", cause: failure)
        }
        let wait = min(
          max(firstWait * (1 << min(failures - 1, 16)), failure.wait ?? .zero), longestWait)
        onWaiting("\(failure.reason); trying again in \(max(wait.components.seconds, 1)) s")
        try await sleep(wait)
      }
    }
  }
}
