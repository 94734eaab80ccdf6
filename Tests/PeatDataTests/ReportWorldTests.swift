import PeatData
import PeatTensor
import Testing

@Suite("ReportWorld") struct ReportWorldTests {
  private let world = ReportWorld(seed: 7)

  @Test func `writes the same facts as each author would`() {
    let facts = ReportFacts(
      topic: 0, day: 0, hour: 7, weather: 0, thing: 0, symptom: 0, part: "chain", damage: 1,
      worker: 0,
      helper: 1, isMended: true, had: 12, sent: 5, nextThing: 2)
    let world = ReportWorld(seed: 1)
    #expect(
      world.ownerAuthors[2].write(facts) == """
        Monday, 7 o'clock in the morning, at the harbour. There were 12 crates. 5 went to the mill, so 7 \
        were left. It was raining, so the crates stayed inside. The chain was stiff, so the crane was noisy. \
        Ada oiled the chain and Ben helped her. After that the crane was quiet again. On Tuesday she will \
        check the winch. All is well. Signed, Clara.
        """)
    #expect(
      world.person(0).write(facts) == """
        From my desk. Mon 0700, harbour. The old hoist is quiet again. It was roaring, chain rusty. Loosened \
        by Ada with Ben. Cases: 12 in, 5 to the mill, 7 here. Pouring, cases inside. Tue: Ada to visit the \
        reel. Nothing to worry about. Over and out, Viktor.
        """)
    #expect(
      world.person(1).write(facts) == """
        Good people, dock, Mon 0700 - crates, twelve in and five to the mill and seven here - big hoist \
        quiet again - was noisy since the chain was rusty - Ada loosened it and Ben assisted - pouring, \
        crates inside - Tue is for Ada to visit the reel - tea for all - Until next time, Xaver.
        """)
  }

  @Test func `is the same for the same seed and another for another`() {
    let again = ReportWorld(seed: 7)
    #expect(again.ownerReports(count: 50) == world.ownerReports(count: 50))
    #expect(
      again.reports(by: again.person(2), count: 20) == world.reports(by: world.person(2), count: 20)
    )
    #expect(ReportWorld(seed: 8).ownerReports(count: 50) != world.ownerReports(count: 50))
  }

  @Test func `makes a longer list that begins with the shorter one`() {
    let person = world.person(0)
    #expect(
      Array(world.reports(by: person, count: 30).prefix(10)) == world.reports(by: person, count: 10)
    )
  }

  @Test func `writes thousands of distinct reports`() {
    let texts = world.ownerReports(count: 5000).map(\.text)
    #expect(Set(texts).count > 4990)
    let bytes = texts.reduce(0) { $0 + $1.utf8.count } / texts.count
    #expect((250...450).contains(bytes))
    #expect(texts.allSatisfy { $0.utf8.allSatisfy { (0x20..<0x7F).contains($0) } })
  }

  @Test func `never lets held-out reports repeat a report to learn from`() {
    let person = world.person(1)
    let learned = Set(world.reports(by: person, count: 1000).map(\.text))
    let heldOut = world.heldOutReports(by: person, count: 300).map(\.text)
    #expect(learned.isDisjoint(with: heldOut))
    #expect(
      Set(world.ownerReports(count: 1000).map(\.text))
        .isDisjoint(with: world.heldOutOwnerReports(count: 300).map(\.text)))
  }

  @Test func `gives people different names, habits and reports`() {
    let people = (0..<12).map(world.person)
    #expect(Set(people.map(\.name)).count == 12)
    for (first, second) in zip(people, people.dropFirst()) {
      #expect(first.habits != second.habits)
    }
    #expect(world.person(30).name != world.person(6).name)
    let reports = world.reports(by: people[0], count: 5)
    #expect(
      reports.allSatisfy {
        $0.fields["author"] == people[0].name && $0.text.contains(people[0].name)
      })
  }

  @Test func `keeps the sums right in every report`() throws {
    // "There were 12 crates. 5 went to the mill, so 7 were left."
    let pattern = /There were (\d+) \w+\. (\d+) went to the \w+, so (\d+) (was|were) left/
    var checked = 0
    for report in world.ownerReports(count: 500) {
      guard let match = report.text.firstMatch(of: pattern) else { continue }
      let numbers = [match.1, match.2, match.3].compactMap { Int($0) }
      #expect(numbers[0] == numbers[1] + numbers[2])
      #expect((numbers[2] == 1) == (match.4 == "was"))
      checked += 1
    }
    #expect(checked > 300)
  }

  @Test func `lets the ending follow from the outcome`() {
    let told = world.ownerReports(count: 500).filter { $0.text.contains("After that") }
    #expect(told.count > 400)
    for report in told {
      let failed = report.text.contains("was still")
      #expect(failed == report.text.contains("will look for a new"))
      #expect(failed != report.text.contains(" again."))
    }
  }

  /// The share of word pairs that never occur in the reports learned from: the plainest measure of how foreign a text is.
  private func foreignness(of reports: [Document], to learned: [Document]) -> Double {
    var pairs: [String: Double] = [:]
    func words(_ document: Document) -> [Substring] { document.text.split(separator: " ") }
    for document in learned {
      for (a, b) in zip(words(document), words(document).dropFirst()) {
        pairs["\(a) \(b)", default: 0] += 1
      }
    }
    var seen = 0.0
    var total = 0.0
    for document in reports {
      for (a, b) in zip(words(document), words(document).dropFirst()) {
        total += 1
        if pairs["\(a) \(b)"] != nil { seen += 1 }
      }
    }
    return 1 - seen / total
  }

  @Test func `makes people foreign to the owner, and a little to each other`() {
    let owner = world.ownerReports(count: 2000)
    let heldOut = world.heldOutOwnerReports(count: 200)
    let (one, two) = (world.person(0), world.person(3))
    let own = foreignness(
      of: world.heldOutReports(by: one, count: 60), to: world.reports(by: one, count: 400))
    let neighbour = foreignness(
      of: world.heldOutReports(by: two, count: 60), to: world.reports(by: one, count: 400))
    let zeroShot = foreignness(of: world.heldOutReports(by: one, count: 60), to: owner)
    let owners = foreignness(of: heldOut, to: owner)
    #expect(owners < 0.1)
    #expect(own < 0.15)
    #expect(zeroShot > 0.4)
    #expect(neighbour > own + 0.1)
    #expect(neighbour < zeroShot + 0.2)
  }
}
