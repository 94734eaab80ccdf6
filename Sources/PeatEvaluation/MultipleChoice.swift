import PeatData
import PeatModels
import PeatTensor
import PeatTokenizers

/// How often a model finds the right one of several answers.
public struct ChoiceReport: Sendable, Codable, Equatable {
  /// Share of questions whose right answer is the most probable.
  public var accuracy: Double
  /// The same with each answer's log-probability divided by its length in characters (Unicode scalars).
  public var normalizedAccuracy: Double
  public var questions: Int
}

/// Scores each answer as the continuation of its question, as lm-evaluation-harness does.
///
/// A blank stands between them, unless the question ends in white space. White space at the question's end belongs to the answer when
/// tokens are cut apart; of equal scores the first counts. `accuracy` is the harness's `acc`, `normalizedAccuracy` its `acc_norm`, which
/// divides by the number of characters that Python counts.
///
/// Source: Gao et al., <https://github.com/EleutherAI/lm-evaluation-harness>: `process_results` in `lm_eval/api/task.py`, `_encode_pair` in
/// `lm_eval/api/model.py`.
public struct MultipleChoiceMeasure {
  private let model: TransformerModel
  private let tokenizer: any TextTokenizer
  private let addBegin: Bool
  /// Tokens of a question and its answer that are read, at most: those at the end.
  public let context: Int
  private let tape = Tape()

  /// - Parameter context: all that the model reads, if not given.
  /// - Throws: `usage` where the model does not predict each next token, has no begin token to add, or reads no such context.
  public init(
    _ model: TransformerModel, tokenizer: any TextTokenizer, addBegin: Bool, context: Int? = nil
  ) throws {
    try model.configuration.requireNextTokenHead(for: "Scoring answers as continuations")
    if let context { try model.checkContext(context) }
    self.context = context ?? model.contextLength
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
    let answers = try answers(to: questions, shouldStop: shouldStop, onProgress: onProgress)
    return ChoiceReport(answers, to: questions)
  }

  /// What the model makes of one question.
  public struct Answer: Sendable, Equatable {
    /// ln p(choice | question), for each choice.
    public var logProbabilities: [Double]
    /// The most probable choice, and the one that is most probable by its length.
    public var choice: Int
    public var normalizedChoice: Int
    /// Whether the question was longer than the context with one of the choices, and lost its beginning.
    public var isShortened: Bool
  }

  /// ln p(choice | question), and whether the question lost its beginning.
  private typealias Score = (logProbability: Double, isShortened: Bool)

  /// The model's answers, one by one.
  ///
  /// - Throws: `badData` where there are no questions, or the model or tokenizer can't read one; `usage` where the context cuts an answer.
  public func answers(
    to questions: [ChoiceQuestion], shouldStop: () -> Bool = { false },
    onProgress: (_ done: Int, _ of: Int) -> Void = { _, _ in }
  ) throws -> [Answer] {
    guard !questions.isEmpty else { throw PeatError.badData("There are no questions.") }
    return try questions.enumerated().map { number, question in
      if shouldStop() { throw PeatError(.interrupted, "Interrupted.") }
      let scores = try question.choices.map { try score(of: $0, after: question.prompt) }
      let plain = scores.map(\.logProbability)
      let normalized = zip(plain, question.choices).map {
        $0 / Double(max($1.unicodeScalars.count, 1))
      }
      defer { onProgress(number + 1, questions.count) }
      return Answer(
        logProbabilities: plain, choice: plain.placeOfLargest,
        normalizedChoice: normalized.placeOfLargest,
        isShortened: scores.contains(where: \.isShortened))
    }
  }

  /// The text is encoded in one piece; of its tokens as many are given as the prompt's own encoding has, the
  /// others are scored. A text longer than the context loses its beginning, but nothing of the answer.
  private func score(of choice: String, after prompt: String) throws -> Score {
    if model.configuration.hasEncoder { return try scoreOfTarget(choice, prompt) }
    let separator = prompt.last.map { $0.isWhitespace } ?? true ? "" : " "
    let begin = addBegin ? tokenizer.beginToken.map { [$0] } ?? [] : []
    let question = prompt.replacing(/\s+$/, with: "")
    let given =
      question.isEmpty ? begin : try begin + tokenizer.encode(question, addSpecialTokens: false)
    let whole = try begin + tokenizer.encode(prompt + separator + choice, addSpecialTokens: false)
    let shared = min(given.count, whole.count - 1)
    guard whole.count >= 2 else {
      throw PeatError.badData(
        "A question and its answer '\(choice.prefix(40))' together have fewer than two tokens.")
    }
    // The first token that is scored, which one at least stands before.
    let start = max(shared, 1)
    let first = max(0, whole.count - 1 - context)
    if first >= start { throw tooLong(choice, count: whole.count - start) }
    let inputs = Array(whole[first..<whole.count - 1])
    let targets = (first + 1..<whole.count).map { $0 < start ? -1 : whole[$0] }
    return (
      try logProbability(inputs, targets, SequenceLayout(lengths: [inputs.count])), first > 0
    )
  }

  /// - Parameter count: tokens that it takes.
  private func tooLong(_ choice: String, count: Int) -> PeatError {
    let answer = "The answer '\(choice.prefix(40))' needs a context of at least \(count) tokens"
    return context < model.contextLength
      ? .usage("\(answer), and is cut by one of \(context). Give a --context of \(count) or more.")
      : .badData("\(answer), and the model reads \(context). Shorten it.")
  }

  /// The same of a model whose encoder reads the prompt, with what the tokenizer puts around it; a prompt longer than the context loses its beginning.
  /// The end of the answer is not scored.
  private func scoreOfTarget(_ choice: String, _ prompt: String) throws -> Score {
    var source = try tokenizer.encode(prompt, addSpecialTokens: true)
    if let end = tokenizer.endToken, source.last != end { source.append(end) }
    let target = try tokenizer.encode(choice, addSpecialTokens: false)
    guard !source.isEmpty, !target.isEmpty else {
      throw PeatError.badData("A question or its answer '\(choice.prefix(40))' has no tokens.")
    }
    // One token of the question at least.
    guard target.count < context else { throw tooLong(choice, count: target.count + 1) }
    let room = context - target.count
    let isShortened = source.count > room
    source = source.suffix(room)
    return (
      try logProbability(
        source + [model.configuration.decoderStart] + target.dropLast(),
        Array(repeating: -1, count: source.count) + target,
        SequenceLayout(lengths: [source.count + target.count], sources: [source.count])),
      isShortened
    )
  }

  private func logProbability(
    _ inputs: [Int32], _ targets: [Int32], _ layout: SequenceLayout
  ) throws -> Double {
    let known = model.configuration.vocabularySize
    if let token = (inputs + targets).first(where: { $0 < -1 || $0 >= known }) {
      throw PeatError.badData("The tokenizer gives token \(token), the model knows \(known).")
    }
    let loss = inputs.withUnsafeBufferPointer { inputs in
      targets.withUnsafeBufferPointer { targets in
        model.loss(inputs, targets: targets, layout: layout, on: tape)
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

extension ChoiceReport {
  /// Counts the answers that are right.
  ///
  /// - Precondition: there is an answer to each question, and at least one.
  public init(_ answers: [MultipleChoiceMeasure.Answer], to questions: [ChoiceQuestion]) {
    precondition(!answers.isEmpty && answers.count == questions.count, "answers to questions")
    let count = Double(questions.count)
    accuracy = Double(zip(answers, questions).count { $0.choice == $1.answer }) / count
    normalizedAccuracy =
      Double(zip(answers, questions).count { $0.normalizedChoice == $1.answer }) / count
    self.questions = questions.count
  }
}

extension [Double] {
  /// Where the largest stands, the first of several; 0 where there is none.
  fileprivate var placeOfLargest: Int {
    indices.reduce(0) { self[$1] > self[$0] ? $1 : $0 }
  }
}
