import Foundation
import PeatNN
import TestSupport
import Testing

@Suite("LearningRateSchedule") struct LearningRateScheduleTests {
  @Test func `rates agree with transformers' at every step`() throws {
    struct Golden: Decodable {
      struct Case: Decodable {
        let schedule: LearningRateSchedule.Course
        let warmUpSteps: Int
        let rates: [Double]
      }
      let learningRate: Double
      let steps: Int
      let cases: [Case]
    }
    let url = ProjectFolders.golden.appendingPathComponent("operations/schedules.json")
    let golden = try JSONDecoder().decode(Golden.self, from: Data(contentsOf: url))
    #expect(golden.cases.count == 6)
    for expected in golden.cases {
      let schedule = LearningRateSchedule(expected.schedule, warmUpSteps: expected.warmUpSteps)
      for (step, rate) in expected.rates.enumerated() {
        let found = golden.learningRate * Double(schedule.factor(at: step, of: golden.steps))
        #expect(
          abs(found - rate) <= 2e-7 * golden.learningRate,
          "\(expected.schedule), warm-up \(expected.warmUpSteps), step \(step): \(found), \(rate)")
      }
    }
  }

  @Test(arguments: LearningRateSchedule.Course.allCases)
  func `factors stay between 0 and 1, also beyond the last step`(
    course: LearningRateSchedule.Course
  ) {
    for warmUp in [0, 1, 7, 50] {
      for steps in [1, 7, 10] {
        for step in 0..<30 {
          let factor = LearningRateSchedule(course, warmUpSteps: warmUp).factor(at: step, of: steps)
          #expect((0...1).contains(factor), "\(course) \(warmUp) \(step)/\(steps): \(factor)")
        }
      }
    }
  }
}
