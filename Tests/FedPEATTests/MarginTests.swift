import FedPEAT
import Foundation
import TestSupport
import Testing

@Suite("Margin") struct MarginTests {
  private func strength(
    _ change: (inout MarginFacts.Strength) -> Void = { _ in }
  ) -> MarginFacts.Strength {
    var strength = MarginFacts.Strength(
      learningRates: [1e-3, 1e-2], epochs: 4, steps: 300, grows: true, context: 160,
      tuningSteps: 100)
    change(&strength)
    return strength
  }

  private func facts(
    _ least: Double, _ forAttacker: Double?, tokens: Int = 100_000,
    _ attack: MarginFacts.Strength?
  ) -> MarginFacts {
    MarginFacts(
      margin: 0.2, afterAttack: 0.2, leastAfterAttack: least, leastForAttacker: forAttacker,
      publicTokens: tokens, runs: 2, attack: attack)
  }

  @Test func `an emulator has model privacy where no measurement says otherwise`() {
    for (least, forAttacker, isPrivate) in [
      (0.1, nil, true), (0, nil, false), (0.1, 0.05, true), (0.1, 0, false), (-0.1, 0.2, false),
    ] as [(Double, Double?, Bool)] {
      let facts = facts(least, forAttacker, strength())
      #expect(facts.hasModelPrivacy == isPrivate)
      #expect(facts.doubt == nil)
      #expect(facts.least == min(least, forAttacker ?? least))
    }
  }

  @Test
  func `a feeble attack shows no model privacy, and says why, but may show that there is none`() {
    let feeble: [(MarginFacts, String)] = [
      (facts(0.1, nil, nil), "one learning rate"),
      (facts(0.1, nil, tokens: 9_999, strength()), "9999 tokens"),
      (facts(0.1, nil, strength { $0.learningRates = [1e-2] }), "several learning rates"),
      (facts(0.1, nil, strength { $0.learningRates = [1e-5, 1e-6] }), "several learning rates"),
      (facts(0.1, nil, strength { $0.steps = 3 }), "3 steps"),
      (facts(0.1, nil, strength { $0.grows = false }), "depth"),
      (facts(0.1, nil, strength { $0.tuningSteps = 3 }), "tuned for 3 steps"),
      (facts(0.1, nil, strength { $0.context = 1 }), "1 tokens"),
    ]
    for (facts, reason) in feeble {
      #expect(facts.hasModelPrivacy == nil)
      #expect(facts.doubt?.contains(reason) == true, "\(facts.doubt ?? "no doubt")")
      var gone = facts
      gone.leastAfterAttack = -0.1
      #expect(gone.hasModelPrivacy == false)
    }
  }

  @Test func `margins from before attacks were written down are read`() throws {
    let old = try JSONDecoder().decode(
      MarginFacts.self,
      from: Data(
        #"{"margin": 0.2, "afterAttack": 0.1, "leastAfterAttack": 0.1, "publicTokens": 100000, "runs": 5}"#
          .utf8))
    #expect(old.attack == nil && old.hasModelPrivacy == nil && old.least == 0.1)
    let now = facts(0.1, nil, strength())
    #expect(try JSONDecoder().decode(MarginFacts.self, from: JSONEncoder().encode(now)) == now)
  }

  @Test func `attacks of records from before they had a number of steps are read`() throws {
    let old = try JSONDecoder().decode(
      MarginReport.Attack.self,
      from: Data(#"{"tokens": 5, "epochs": 2, "learningRate": 0.5}"#.utf8))
    #expect((old.tokens, old.epochs, old.ownSteps) == (5, 2, 100))
    #expect(old.learningRates == [0.5] && !old.grows)
    let now = try JSONDecoder().decode(
      MarginReport.Attack.self, from: JSONEncoder().encode(MarginReport.Attack()))
    #expect(now == MarginReport.Attack() && now.ownSteps == 400)
    for change: (inout MarginReport.Attack) -> Void in [
      { $0.tokens = -1 }, { $0.epochs = 0 }, { $0.learningRates = [.nan] },
      { $0.learningRates = [] },
      { $0.learningRates = [1e-3, 2] }, { $0.ownSteps = 0 },
    ] {
      var attack = MarginReport.Attack()
      change(&attack)
      expectError(.usage, "An attack needs") { try attack.validate() }
    }
  }
}
