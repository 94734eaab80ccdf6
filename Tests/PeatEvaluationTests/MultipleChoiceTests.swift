import Foundation
import PeatData
import PeatEvaluation
import PeatTensor
import Testing

@Suite("Multiple choice") struct MultipleChoiceTests {
  /// After `a` a blank; after the blank `b` with 1/2, `a` with 1/4; `b` is followed by `b` with 1/8, `a` by `a` with 1.
  private func report(_ questions: [ChoiceQuestion], addBegin: Bool = false) throws -> ChoiceReport
  {
    try measure(addBegin: addBegin).report(questions)
  }

  private func measure(addBegin: Bool = false, context: Int? = nil) throws -> MultipleChoiceMeasure
  {
    let probabilities: [[Float]] = [
      [0.5, 0.0625, 0.0625, 0.25, 0.125],
      [0.25, 0.125, 0.125, 0.25, 0.25],
      [0.2, 0.2, 0.2, 0.2, 0.2],
      [0.25, 0.5, 0.125, 0.0625, 0.0625],
      [0.2, 0.2, 0.2, 0.2, 0.2],
    ]
    let model = try BigramModel.make(probabilities.map { $0.map { logf($0) } })
    return try MultipleChoiceMeasure(
      model, tokenizer: LetterTokenizer(), addBegin: addBegin, context: context)
  }

  @Test func `the most probable ending counts`() throws {
    let all = try report([
      ChoiceQuestion(prompt: "a", choices: ["a", "b", "c"], answer: 1),
      ChoiceQuestion(prompt: "a", choices: ["a", "b", "c"], answer: 0),
      ChoiceQuestion(prompt: "a", choices: ["c", "a"], answer: 1),
      ChoiceQuestion(prompt: "a", choices: ["c", "a"], answer: 0),
    ])
    #expect(all.accuracy == 0.5)
    #expect(all.normalizedAccuracy == 0.5)
    #expect(all.questions == 4)
  }

  @Test func `normalised by length, a longer ending may win`() throws {
    // c: 1/8, 3 bits on 1 byte. aaa: 1/4 · 1/2 · 1/2 = 1/16, 4 bits on 3 bytes.
    let one = try report([ChoiceQuestion(prompt: "a", choices: ["c", "aaa"], answer: 0)])
    #expect(one.accuracy == 1)
    #expect(one.normalizedAccuracy == 0)
    let other = try report([ChoiceQuestion(prompt: "a ", choices: ["c", "aaa"], answer: 1)])
    #expect(other.accuracy == 0)
    #expect(other.normalizedAccuracy == 1)
  }

  @Test func `an empty prompt needs the begin token`() throws {
    let question = ChoiceQuestion(prompt: "", choices: ["a", "bb"], answer: 0)
    #expect(throws: PeatError.self) { try report([question]) }
    // Both begin with 1/5; b is then followed by b with 1/8.
    #expect(try report([question], addBegin: true).accuracy == 1)
  }

  @Test func `a text longer than the context loses its beginning`() throws {
    let long = String(repeating: "abc", count: 9) + "a"
    let one = try report([ChoiceQuestion(prompt: long, choices: ["a", "b"], answer: 1)])
    #expect(one.accuracy == 1)
  }

  @Test func `which questions lost their beginning is said`() throws {
    let questions = ["abc", "abcabc"].map {
      ChoiceQuestion(prompt: $0, choices: ["a", "b"], answer: 0)
    }
    #expect(try measure().answers(to: questions).map(\.isShortened) == [false, false])
    // A blank and a letter more than the prompt, of which the last is no input.
    #expect(try measure(context: 4).answers(to: questions).map(\.isShortened) == [false, true])
  }

  /// A blank and three letters are four tokens, each of which one before it is read for.
  @Test func `a context that would cut an answer is refused, and one that just holds it is not`()
    throws
  {
    let question = ChoiceQuestion(prompt: "ab", choices: ["b", "aaa"], answer: 0)
    for context in 1...3 {
      let error = #expect(throws: PeatError.self) {
        try measure(context: context).report([question])
      }
      #expect(error?.code == .usage)
      let needed = context == 1 ? ("b", 2) : ("aaa", 4)
      #expect(
        error?.message.contains(
          "'\(needed.0)' needs a context of at least \(needed.1) tokens, and is cut by one of \(context)"
        )
          == true, "\(error?.message ?? "")")
    }
    let whole = try measure().answers(to: [question])
    let cut = try measure(context: 4).answers(to: [question])
    #expect(whole[0].logProbabilities == cut[0].logProbabilities)
    let longest = try measure().context
    let long = ChoiceQuestion(
      prompt: "a", choices: ["b", String(repeating: "a", count: longest)], answer: 0)
    let error = #expect(throws: PeatError.self) { try measure().report([long]) }
    #expect(error?.code == .badData && error?.message.contains("Shorten it") == true)
  }

  @Test func `a context beyond the model's is refused`() throws {
    let longest = try measure().context
    for context in [0, longest + 1] {
      let error = #expect(throws: PeatError.self) { try measure(context: context) }
      #expect(error?.message.contains("between 1 and \(longest), the longest") == true)
    }
  }

  @Test func `no questions are refused`() {
    #expect(throws: PeatError.self) { try report([]) }
  }
}
