extension EdgeConfiguration {
  /// That choices of work together are foreseen to take all off the gap that a round can take, in words; `nil` where they are not. What each
  /// does alone was measured; together their factors are multiplied.
  public var cautionOfChoices: String? {
    guard let fidelity = levels.map(\.fidelity).max() else { return nil }
    var best = EdgeWork.own
    for steps in work.steps {
      for learningRate in work.learningRates {
        for rank in work.ranks {
          for bits in work.uploadBits {
            var choice = EdgeWork()
            (choice.steps, choice.learningRate) = (steps, learningRate)
            (choice.rank, choice.uploadBits) = (rank, bits)
            if learning.work.factor(choice) > learning.work.factor(best) { best = choice }
          }
        }
      }
    }
    let gap = learning.startGap
    let progress =
      learning.progress(share: 1, fidelity: fidelity, age: 0, gap: gap, work: best)
      * learning.togetherness(share: 1, coverage: 1, gap: gap)
    guard best != .own, progress >= LearningModel.mostOfARound else { return nil }
    return
      "With \(best.steps) times the local steps, \(best.learningRate) times the learning rate and \(best.rank) of the rank together a round of all is foreseen to take \(rounded(100 * progress)) % off the gap, of which \(rounded(100 * LearningModel.mostOfARound)) % count: what each does alone was measured, but not what they do together, and a controller will choose them together. Lower the run's own learning rate or local steps and calibrate again, or take choices out of the file's 'work'."
  }
}
