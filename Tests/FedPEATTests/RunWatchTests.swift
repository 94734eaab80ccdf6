import FedPEAT
import Testing

@Suite("What a run's owner is told") struct RunWatchTests {
  private func configuration(_ planner: String = "lookahead") -> RunConfiguration {
    var configuration = RunConfiguration()
    configuration.planner = planner
    configuration.rounds = 20
    return configuration
  }

  /// A round in which some of its clients deliver.
  private func record(
    _ round: Int, of clients: [ClientID] = ["a", "b", "c"], delivered: [ClientID],
    plugIn: Double? = nil,
    _ change: (inout RoundPlan) -> Void = { _ in }
  ) -> RoundRecord {
    var plan = RoundPlan(
      Dictionary(
        uniqueKeysWithValues: clients.map {
          ($0, delivered.contains($0) ? .init() : .leftOut(because: "too slow"))
        }))
    change(&plan)
    return RoundRecord(
      round: round, attempt: 1, plan: plan,
      outcomes: plan.participants.map {
        ClientOutcome(
          client: $0, emulatorLevel: 0,
          result: delivered.contains($0) ? .delivered : .failed(reason: "x"))
      },
      metrics: plugIn.map { ["plugIn": $0] } ?? [:])
  }

  @Test func `whose updates are out of line is named once`() {
    let watch = RunWatch(configuration("everyone"))
    func round(_ number: Int, _ distances: [Double?]) -> [String] {
      let clients = Array((["a", "b", "c", "d", "e"] as [ClientID]).prefix(distances.count))
      var record = record(number, of: clients, delivered: clients)
      for (place, distance) in distances.enumerated() {
        record.outcomes[place].distance = distance
      }
      return watch.take(record)
    }
    #expect(round(1, [1, 2, 90]).isEmpty)
    #expect(round(2, [1, nil, 900]).isEmpty)
    let said = round(3, [1, 2, 900])
    #expect(said.count == 1)
    for word in ["'c' in round 3", "900", "updateNormLimit", "ca revoke"] {
      #expect(said.first?.contains(word) == true, "\(said)")
    }
    #expect(round(4, [1, 2, 900]).isEmpty)
    // Another is named, too; and several at once.
    #expect(round(5, [900, 2, 1]).first?.contains("'a' in round 5") == true)
    let both = round(6, [1, 2, 3, 900, 1e4]).first
    #expect(
      both?.contains("updates of 'e', 'd' in round 6 are 1e+04, 900 away") == true, "\(both ?? "")")
    #expect(round(7, [900, 2, 1, 2, 900]).isEmpty)
  }

  @Test func `an adapter that makes the model give no numbers is told of, with the way back`() {
    let watch = RunWatch(configuration("everyone"))
    var record = record(4, delivered: ["a", "b", "c"], plugIn: .infinity)
    record.outcomes[1].distance = 7e3
    let said = watch.take(record)
    #expect(said.count == 1)
    for word in ["round 4", "'b' went furthest, 7e+03", "runs rollback"] {
      #expect(said.first?.contains(word) == true, "\(said)")
    }
  }

  @Test func `data that takes no part is named once, with the reason`() {
    let watch = RunWatch(configuration())
    var said: [Int: String] = [:]
    for round in 1...20 {
      let new = watch.take(record(round, delivered: ["a"]))
      #expect(new.count <= 1)
      if let text = new.first { said[round] = text }
    }
    // One of three in each round: all could have had two turns in six.
    #expect(said.keys.sorted() == [6])
    let text = said[6] ?? ""
    for word in ["2 clients", "b (too slow), c (too slow)", "minimumUpdates", "'everyone'"] {
      #expect(text.contains(word), "\(text)")
    }
    #expect(watch.warnings == [text])
  }

  @Test(arguments: ["product", "product-exact", "fedavg", "fedex"], ["int4", "top-k=0.1,int8"])
  func `what top-k loses where factors are made anew is told once`(
    strategy: String, upload: String
  ) {
    var configuration = configuration("everyone")
    (configuration.strategy, configuration.upload) = (strategy, upload)
    let watch = RunWatch(configuration)
    let said = (1...3).flatMap { watch.take(record($0, delivered: ["a", "b", "c"])) }
    let isLost = strategy.hasPrefix("product") && upload.hasPrefix("top-k")
    #expect(said.count == (isLost ? 1 : 0), "\(said)")
    #expect(said.allSatisfy { $0.contains("is lost for good") }, "\(said)")
  }

  @Test func `who is asked in vain is told from who is not asked`() {
    let watch = RunWatch(configuration())
    var said: [String] = []
    for round in 1...6 {
      said += watch.take(record(round, delivered: ["a"]) { $0.assignments["b"] = .init() })
    }
    #expect(said.count == 1)
    #expect(said.first?.contains("b (asked in 5 of them, delivered in none)") == true, "\(said)")
  }

  @Test func `who took part long ago is missed, too`() {
    let watch = RunWatch(configuration())
    var said: [Int] = []
    for round in 1...20 {
      let new = watch.take(record(round, delivered: round < 5 ? ["a", "b", "c"] : ["a"]))
      if !new.isEmpty { said.append(round) }
    }
    // Five rounds without two of them.
    #expect(said == [9])
  }

  @Test func `who takes part at times is not missed, and a planner that draws is trusted`() {
    let fair = RunWatch(configuration())
    let drawn = RunWatch(configuration("random"))
    for round in 1...20 {
      let turn: ClientID = ["a", "b", "c"][round % 3]
      #expect(fair.take(record(round, delivered: [turn])).isEmpty)
      #expect(drawn.take(record(round, delivered: ["a"])).isEmpty)
    }
  }

  @Test func `plug-in that stays above its best is told once`() {
    let watch = RunWatch(configuration())
    var said: [Int: String] = [:]
    let course = [50, 40, 41, 42, 39, 39, 40, 41, 42, 43, 38, 39, 40, 41.0]
    for (place, plugIn) in course.enumerated() {
      for text in watch.take(record(place + 1, delivered: ["a", "b", "c"], plugIn: plugIn)) {
        said[place + 1] = text
      }
    }
    #expect(said.keys.sorted() == [9])
    let text = said[9] ?? ""
    #expect(text.contains("39.00 after round 5") && text.contains("40.00, 41.00, 42.00"), "\(text)")
  }

  @Test func `plug-in that never gets as good as the untouched model is told once`() {
    /// Rounds after which it is said.
    func told(_ course: [Double], untouched: Double?) -> [Int] {
      let watch = RunWatch(configuration())
      watch.untouched = untouched
      return course.enumerated().filter { place, plugIn in
        watch.take(record(place + 1, delivered: ["a", "b", "c"], plugIn: plugIn))
          .contains { $0.contains("the model as it came") }
      }.map { $0.offset + 1 }
    }
    #expect(told([46, 45, 44, 43, 42], untouched: 40) == [3])
    #expect(told([46, 45, 40, 43, 42], untouched: 40) == [])
    #expect(told([39, 45, 44, 43, 42], untouched: 40) == [])
    #expect(told([46, 45, 44, 43, 42], untouched: nil) == [])
    #expect(told([.nan, .nan, .nan, .nan], untouched: 40) == [3])
    let watch = RunWatch(configuration())
    watch.untouched = 40
    for round in 1...3 {
      _ = watch.take(record(round, delivered: ["a", "b", "c"], plugIn: 50 - Double(round)))
    }
    #expect(watch.warnings.count == 1)
    for word in ["47.00", "round 3", "40.00"] {
      #expect(watch.warnings.first?.contains(word) == true, "\(watch.warnings)")
    }
  }

  @Test func `rounds in which nobody is asked are told once, and are nobody's absence`() {
    let watch = RunWatch(configuration("idle"))
    var said: [Int: [String]] = [:]
    for round in 1...12 {
      said[round] = watch.take(
        record(round, delivered: [], plugIn: 50) { $0.skipped = "idle: nobody is ever asked" })
    }
    #expect(said.filter { !$0.value.isEmpty }.keys.sorted() == [3])
    #expect(said[3]?.first?.contains("choose another planner") == true)
  }

  @Test func `a planner that asks nobody is told of, as the quickest was added`() {
    let watch = RunWatch(configuration("learned:x"))
    var said: [String] = []
    for round in 1...3 {
      said += watch.take(record(round, delivered: ["a"]) { $0.assignments["a"]?.isAdded = true })
    }
    #expect(said.count == 1)
    #expect(said.first?.contains("'learned:x' asked nobody") == true, "\(said)")
  }
}
