import Foundation
import PeatData
import PeatEvaluation
import PeatModels
import PeatTensor
import PeatTokenizers
import TestSupport
import Testing

/// Golden/choices: multiple choice as lm-evaluation-harness defines it, computed by transformers.
@Suite("Multiple choice, parity with lm-evaluation-harness") struct ChoiceParityTests {
  private struct Expected: Decodable {
    struct Answer: Decodable {
      var logProbabilities: [Double]
      var acc: Int
      var accNorm: Int

      enum CodingKeys: String, CodingKey {
        case logProbabilities, acc
        case accNorm = "acc_norm"
      }
    }

    var acc: Double
    var accNorm: Double
    var answers: [Answer]

    enum CodingKeys: String, CodingKey {
      case acc, answers
      case accNorm = "acc_norm"
    }
  }

  /// Absolute, in sums of up to thirty logarithms computed in float32; the golden file's closest call is 0.0085 apart.
  private let tolerance = 2e-3

  @Test func `200 questions get the same scores, and so the same accuracies`() throws {
    let folder = ProjectFolders.golden.appendingPathComponent("choices")
    let expected = try JSONFile.read(
      Expected.self, from: folder.appendingPathComponent("expected.json"))
    let questions = try ChoiceQuestion.read(folder.appendingPathComponent("items.jsonl"))
    #expect(questions.count == 200)
    let tokenizer = try Tokenizer(
      folder: ProjectFolders.root.appendingPathComponent(
        "Tests/PeatTokenizersTests/Golden/gpt2-style"))
    let model = try Checkpoint(folder: folder.appendingPathComponent("model")).model()
    let measure = try MultipleChoiceMeasure(model, tokenizer: tokenizer, addBegin: false)
    let answers = try measure.answers(to: questions)
    for (number, (own, other)) in zip(answers, expected.answers).enumerated() {
      for (a, b) in zip(own.logProbabilities, other.logProbabilities) {
        #expect(abs(a - b) < tolerance, "question \(number + 1): \(a), harness \(b)")
      }
      #expect(own.choice == other.acc && own.normalizedChoice == other.accNorm)
    }
    let report = try measure.report(questions)
    #expect(report.accuracy == expected.acc)
    #expect(report.normalizedAccuracy == expected.accNorm)
  }
}
