import Foundation

/// A run that is interrupted, or fails, keeps the rounds that counted.
extension FederatedTuning {
  /// Writes what a run came to before it ended with an error.
  ///
  /// - Returns: the error to end with: the same, and where the rounds that counted are.
  func keeping(
    _ result: RunResult, _ split: ModelSplit, _ best: BestRound, after error: any Error
  ) async -> any Error {
    guard !result.report.rounds.isEmpty, let out = configuration.out else { return error }
    let folder = Self.placeOfRest(out)
    let result = result.endingEarly(after: error)
    let count = result.report.rounds.count
    let rounds = count == 1 ? "the round" : "the \(count) rounds"
    do {
      try CheckpointWriter.checkOutput(folder, isAdapter: true)
      try await writeResult(result, split, best, to: folder)
    } catch let problem {
      let why = (problem as? PeatError)?.message ?? "\(problem)"
      return Self.adding("What \(rounds) gave could not be kept: \(why)", to: error)
    }
    var text = "The adapter of \(rounds) that counted is in '\(folder.relativePath)'"
    if let best = result.best, !result.isBestTheLast {
      text += ", that of round \(best.round), the best, in its '\(Self.bestRoundFolder)'"
    }
    return Self.adding(text + ".", to: error)
  }

  /// Where a run that ended early is kept: an earlier run's result stays, and what is left of this one goes beside it.
  private static func placeOfRest(_ out: String) -> URL {
    let folder = URL(fileURLWithPath: out)
    let names = (try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []
    if names.isEmpty { return folder }
    return URL(fileURLWithPath: folder.relativePath + "-ended-early")
  }

  /// The error, with a sentence more; how the program ends is the same.
  public static func adding(_ text: String, to error: any Error) -> any Error {
    switch error {
    case is CancellationError: PeatError(.interrupted, "Interrupted. \(text)", cause: error)
    case let error as PeatError:
      PeatError(error.code, "\(error.message) \(text)", cause: error.cause)
    default: error
    }
  }
}

extension RunResult {
  /// What was measured, of a run that an error ended: plug-in, where it was measured after the last round that counted, and for the others why they are not
  /// there.
  fileprivate func endingEarly(after error: any Error) -> RunResult {
    var result = self
    let last = report.rounds.last
    if result.fiveNumbers.plugIn == nil { result.fiveNumbers.plugIn = last?.metrics["plugIn"] }
    result.noteMissing(
      "the run ended after round \(last?.round ?? 0) of \(configuration.rounds), before this was measured"
    )
    switch report.ending {
    case nil, .completed, .stopped: break
    case .failed, .cancelled: return result
    }
    // All rounds counted; something went wrong with what follows on them.
    result.report.ending =
      error.isInterruption
      ? .cancelled(reason: "Interrupted after the last round, while it was measured.")
      : .failed(reason: (error as? PeatError)?.message ?? "\(error)")
    return result
  }

  /// Says of numbers that are missing why; where it is known already, that stays.
  mutating func noteMissing(_ reason: String) {
    for name in FiveNumberName.allCases where !name.isOnRequest && fiveNumbers[name] == nil {
      if fiveNumbers.notMeasured[name.rawValue] == nil {
        fiveNumbers.notMeasured[name.rawValue] = reason
      }
    }
  }
}
