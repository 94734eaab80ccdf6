import FedPEAT

/// A trained controller beside planners that need no training, on the same episodes: whether it is worth having.
struct ControllerComparison {
  /// Another planner, and by how much the controller returns more than it on the same episodes.
  struct Rival: Encodable {
    var planner: String
    var episodes: Int
    var meanReturn: Double
    var standardError: Double
    var difference: Double
    var differenceError: Double
  }

  enum Verdict: String, Encodable {
    /// It selects nobody.
    case idle
    /// By two standard errors of the difference and more; where it is behind one of them that counts.
    case behindHeuristic, behindLookahead
    case aheadOfHeuristic, aheadOfLookahead
    /// Less than two standard errors lie between it and the strongest that it is not behind.
    case levelWithHeuristic, levelWithLookahead
  }

  let returns: ReturnStatistics
  let selectedPerRound: Double
  let devices: Int
  /// Whether the controller also decides what the searches leave as the run has it.
  let choosesWork: Bool
  private(set) var rivals: [Rival] = []

  init(_ played: PlayedEpisodes, devices: Int, choosesWork: Bool) {
    returns = played.statistics
    selectedPerRound = played.selectedPerRound
    self.devices = devices
    self.choosesWork = choosesWork
  }

  mutating func add(_ name: String, _ other: PlayedEpisodes, beside own: PlayedEpisodes) {
    let (theirs, difference) = (
      other.statistics, ReturnStatistics(zip(own.returns, other.returns).map { $0 - $1 })
    )
    rivals.append(
      Rival(
        planner: name, episodes: theirs.episodes, meanReturn: theirs.mean,
        standardError: theirs.standardError, difference: difference.mean,
        differenceError: difference.standardError))
  }

  /// -1 where the controller is behind a planner, 1 where it is ahead, 0 in between; `nil` where that was not played.
  private func standing(beside name: String) -> Int? {
    guard let rival = rivals.first(where: { $0.planner == name }) else { return nil }
    let margin = 2 * rival.differenceError
    return rival.difference < -margin ? -1 : rival.difference > margin ? 1 : 0
  }

  var verdict: Verdict {
    if selectedPerRound == 0 { return .idle }
    let (heuristic, search) = (standing(beside: "heuristic"), standing(beside: "lookahead"))
    if heuristic == -1 { return .behindHeuristic }
    switch search {
    case 1: return .aheadOfLookahead
    case 0: return .levelWithLookahead
    default:
      if heuristic == 1 { return search == nil ? .aheadOfHeuristic : .behindLookahead }
      return .levelWithHeuristic
    }
  }

  var rows: [[String]] {
    [
      ["takes part", "\(Format.significant(selectedPerRound)) of \(devices) devices per round"],
      [
        "mean return",
        "\(Format.mean(returns.mean, returns.standardError)) (\(returns.episodes) episodes)",
      ],
    ]
      + rivals.map { rival in
        let difference = Format.mean(abs(rival.difference), rival.differenceError)
        return [
          rival.planner,
          "\(Format.mean(rival.meanReturn, rival.standardError)): the controller is \(difference) \(rival.difference < 0 ? "behind" : "ahead")",
        ]
      }
  }

  var sentence: String? {
    switch verdict {
    case .idle:
      "The controller does nothing: it selected nobody in any of \(returns.episodes) episodes. A run with it would never make a round."
    case .behindHeuristic:
      "The controller is worse than the heuristic, which needs no training: better plan with --planner heuristic or lookahead than with this."
    case .levelWithHeuristic:
      "The controller is no better than the heuristic, which needs no training."
    case .behindLookahead:
      "The controller is better than the heuristic, but worse than the search that looks ahead (--planner lookahead), which needs no training."
    case .aheadOfLookahead where choosesWork:
      "The controller also decides local steps, learning rate, rank and bits, which the search leaves as the run has them: that it is ahead of the search says little of how good it is. Train with another --seed or two, and take the one with the highest return."
    case .aheadOfHeuristic, .levelWithLookahead, .aheadOfLookahead: nil
    }
  }

  /// What to try; `nil` where nothing speaks against the controller.
  func advice(_ configuration: ControllerTrainingConfiguration, steps: Int) -> String? {
    guard sentence != nil, verdict != .aheadOfLookahead else { return nil }
    var words: [String] = []
    if configuration.cloning == nil {
      words.append("--cloning 8, to begin with what the search would do")
    }
    if steps < 2_000_000 {
      words.append("more --steps than \(Format.count(steps)) (2,000,000 are usual)")
    }
    if verdict == .idle { words.append("more --entropy (0.01), so that it tries more") }
    if configuration.network.kind == .shared, configuration.network.exchanges < 2 {
      words.append("--exchanges 2 --minibatch 1600")
    }
    words.append("another --seed")
    return "Try: " + words.joined(separator: "; ") + "."
  }
}
