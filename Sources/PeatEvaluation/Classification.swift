import PeatTensor

/// How well classes are told apart.
public struct ClassificationReport: Sendable, Codable, Equatable {
  /// One class: what was predicted as it, and what belongs to it.
  public struct Label: Sendable, Codable, Equatable {
    public var name: String
    /// Of what was predicted as this class, the share that is; of what belongs to it, the share that was found. 0 where there is nothing.
    public var precision: Double
    public var recall: Double
    /// 2 · precision · recall / (precision + recall).
    public var f1: Double
    /// How many examples belong to it.
    public var examples: Int
  }

  /// Share of examples whose class was found.
  public var accuracy: Double
  /// Mean F1 of the classes that are there or were predicted, each counting once.
  public var macroF1: Double
  public var examples: Int
  public var labels: [Label]
  /// `[C][C]`: examples of a row's class that were predicted as a column's.
  public var confusion: [[Int]]

  /// - Parameters:
  ///   - answers: pairs of the right class and the predicted one, as numbers of `labels`.
  ///   - labels: the classes' names.
  /// - Throws: `badData` where there are no answers.
  /// - Precondition: all numbers are of `labels`.
  public init(_ answers: [(right: Int, predicted: Int)], labels names: [String]) throws {
    guard !answers.isEmpty else {
      throw PeatError.badData("There are no examples to measure classes on.")
    }
    var confusion = Array(
      repeating: Array(repeating: 0, count: names.count), count: names.count)
    for answer in answers { confusion[answer.right][answer.predicted] += 1 }
    let labels = names.indices.map { label in
      let found = Double(confusion[label][label])
      let belonging = confusion[label].reduce(0, +)
      let predicted = confusion.reduce(0) { $0 + $1[label] }
      return Label(
        name: names[label], precision: predicted == 0 ? 0 : found / Double(predicted),
        recall: belonging == 0 ? 0 : found / Double(belonging),
        f1: belonging + predicted == 0 ? 0 : 2 * found / Double(belonging + predicted),
        examples: belonging)
    }
    let known = names.indices.filter { label in
      labels[label].examples > 0 || confusion.contains { $0[label] > 0 }
    }
    self.labels = labels
    accuracy =
      Double(names.indices.reduce(0) { $0 + confusion[$1][$1] }) / Double(answers.count)
    macroF1 = known.reduce(0) { $0 + labels[$1].f1 } / Double(known.count)
    examples = answers.count
    self.confusion = confusion
  }
}
