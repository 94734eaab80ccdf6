import FedPEAT
import Foundation
import TestSupport
import Testing

@Suite("Margin") struct MarginTests {
  @Test func `an emulator has model privacy where no measurement says otherwise`() {
    for (least, forAttacker, isPrivate) in [
      (0.1, nil, true), (0, nil, false), (0.1, 0.05, true), (0.1, 0, false), (-0.1, 0.2, false),
    ] as [(Double, Double?, Bool)] {
      let facts = MarginFacts(
        margin: 0.2, afterAttack: 0.2, leastAfterAttack: least, leastForAttacker: forAttacker,
        publicTokens: 0, runs: 2)
      #expect(facts.hasModelPrivacy == isPrivate)
      #expect(facts.least == min(least, forAttacker ?? least))
    }
  }

  @Test func `attacks of records from before they had a number of steps are read`() throws {
    let old = try JSONDecoder().decode(
      MarginReport.Attack.self,
      from: Data(#"{"tokens": 5, "epochs": 2, "learningRate": 0.5}"#.utf8))
    #expect((old.tokens, old.epochs, old.learningRate, old.ownSteps) == (5, 2, 0.5, 100))
    let now = try JSONDecoder().decode(
      MarginReport.Attack.self, from: JSONEncoder().encode(MarginReport.Attack()))
    #expect(now == MarginReport.Attack() && now.ownSteps == 400)
    for change: (inout MarginReport.Attack) -> Void in [
      { $0.tokens = -1 }, { $0.epochs = 0 }, { $0.learningRate = .nan }, { $0.ownSteps = 0 },
    ] {
      var attack = MarginReport.Attack()
      change(&attack)
      expectError(.usage, "An attack needs") { try attack.validate() }
    }
  }
}
