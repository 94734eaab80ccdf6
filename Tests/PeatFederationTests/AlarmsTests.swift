import PeatFederation
import PeatTensor
import Testing

@Suite("Alarms") struct AlarmsTests {
  @Test func `ring in order of their times, and of their setting where those are the same`() {
    var random = SeededRandom(seed: 1)
    var alarms = Alarms<Int>()
    var expected: [(time: Int, number: Int)] = []
    for number in 0..<500 {
      let time = Int(random.next() % 100)
      alarms.set(at: .seconds(time), number)
      expected.append((time, number))
    }
    expected.sort { ($0.time, $0.number) < ($1.time, $1.number) }
    var found: [Int] = []
    for time in stride(from: 0, through: 100, by: 7) {
      let due = alarms.due(at: .seconds(time))
      found += due
      #expect(found.count == expected.count { $0.time <= time })
      #expect(alarms.next == expected.first { $0.time > time }.map { .seconds($0.time) })
    }
    #expect(found + alarms.due(at: .seconds(1000)) == expected.map(\.number))
    #expect(alarms.next == nil)
    #expect(alarms.due(at: .seconds(1000)).isEmpty)
  }

  @Test func `one that is set later may be the next`() {
    var alarms = Alarms<String>()
    alarms.set(at: .seconds(5), "late")
    alarms.set(at: .seconds(1), "soon")
    #expect(alarms.next == .seconds(1))
    #expect(alarms.due(at: .seconds(1)) == ["soon"])
    alarms.set(at: .seconds(2), "between")
    #expect(alarms.due(at: .seconds(9)) == ["between", "late"])
  }
}
