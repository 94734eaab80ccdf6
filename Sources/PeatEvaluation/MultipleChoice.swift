import PeatData
import PeatModels
import PeatTensor
import PeatTokenizers

/// How often a model finds the right one of several answers.
public struct ChoiceReport: Sendable, Codable, Equatable {
  /// Share of questions whose right answer is the most probable.
  public var accuracy: Double
  /// The same with each answer's log-probability divided by its length in bytes.
  public var normalizedAccuracy: Double
  public var questions: Int
}

/// Scores each answer as the continuation of its question.
public struct MultipleChoiceMeasure {
  private let model: TransformerModel
  private let tokenizer: any TextTokenizer
  private let addBegin: Bool
  private let tape = Tape()

  public init(_ model: TransformerModel, tokenizer: any TextTokenizer, addBegin: Bool) throws {
    guard !addBegin || tokenizer.beginToken != nil else {
      throw PeatError.usage("This tokenizer has no begin token (BOS). Leave it out with --no-bos.")
    }
    self.model = model
    self.tokenizer = tokenizer
    self.addBegin = addBegin
  }

  public func report(
    _ questions: [ChoiceQuestion], shouldStop: () -> Bool = { false },
    onProgress: (_ done: Int, _ of: Int) -> Void = { _, _ in }
  ) throws -> ChoiceReport {
    guard !questions.isEmpty else { throw PeatError.badData("There are no questions.") }
    var right = 0
    var rightNormalized = 0
    for (number, question) in questions.enumerated() {
      if shouldStop() { throw PeatError(.interrupted, "Interrupted.") }
      let scores = try question.choices.map { choice in
        let score = try logProbability(of: choice, after: question.prompt)
        return (plain: score, normalized: score / Double(max(choice.utf8.count, 1)))
      }
      let order = scores.indices
      if order.max(by: { scores[$0].plain < scores[$1].plain }) == question.answer { right += 1 }
      if order.max(by: { scores[$0].normalized < scores[$1].normalized }) == question.answer {
        rightNormalized += 1
      }
      onProgress(number + 1, questions.count)
    }
    let count = Double(questions.count)
    return ChoiceReport(
      accuracy: Double(right) / count, normalizedAccuracy: Double(rightNormalized) / count,
      questions: questions.count)
  }

  /// ln p(choice | prompt). The text is encoded in one piece; tokens that it shares with the prompt's own encoding are
  /// given, the others are scored. A text longer than the context loses its beginning.
  private func logProbability(of choice: String, after prompt: String) throws -> Double {
    let separator = prompt.last.map { $0.isWhitespace } ?? true ? "" : " "
    let begin = addBegin ? tokenizer.beginToken.map { [$0] } ?? [] : []
    let given = try begin + tokenizer.encode(prompt, addSpecialTokens: false)
    let whole = try begin + tokenizer.encode(prompt + separator + choice, addSpecialTokens: false)
    let shared = min(zip(given, whole).prefix { $0 == $1 }.count, whole.count - 1)
    guard whole.count >= 2 else {
      throw PeatError.badData(
        "A question and its answer '\(choice.prefix(40))' together have fewer than two tokens.")
    }
    if let token = whole.first(where: { $0 < 0 || $0 >= model.configuration.vocabularySize }) {
      throw PeatError.badData(
        "The tokenizer gives token \(token), the model knows \(model.configuration.vocabularySize)."
      )
    }
    let first = max(0, whole.count - 1 - model.contextLength)
    let inputs = Array(whole[first..<whole.count - 1])
    let targets = (first + 1..<whole.count).map { $0 < max(shared, 1) ? -1 : whole[$0] }
    let loss = inputs.withUnsafeBufferPointer { inputs in
      targets.withUnsafeBufferPointer { targets in
        model.loss(
          inputs, targets: targets, layout: SequenceLayout(lengths: [inputs.count]), on: tape)
      }
    }
    guard loss.sum.isFinite else {
      throw PeatError.badData(
        "The model's loss on a question is \(loss.sum): its weights, or the adapter's, hold values that are not "
          + "numbers or are far too large.")
    }
    return -loss.sum
  }
}
