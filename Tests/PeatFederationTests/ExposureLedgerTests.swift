import PeatFederation
import PeatTensor
import TestSupport
import Testing

@Suite("The exposure ledger") struct ExposureLedgerTests {
  /// Three blocks; levels of all, two and one of them.
  private func ledger(_ limit: Double) throws -> ExposureLedger {
    try ExposureLedger(
      contents: [[0: 0.25, 1: 0.25, 2: 0.5], [0: 0.25, 2: 0.5], [1: 0.25]], limit: limit,
      wholeBlock: 0.25)
  }

  @Test func `levels add up by their blocks, not by their shares`() throws {
    var ledger = try ledger(1)
    #expect(ledger.exposure(of: "a") == 0)
    ledger.note(1, for: "a")
    #expect(ledger.exposure(of: "a") == 0.75)
    #expect(ledger.exposure(of: "a", with: 0) == 1)
    ledger.note(1, for: "a")
    #expect(ledger.exposure(of: "a") == 0.75)
    ledger.note(2, for: "a")
    #expect(ledger.exposure(of: "a") == 1)
    #expect(ledger.exposure(of: "b") == 0)
  }

  @Test func `what clients have together is counted by blocks too`() throws {
    var ledger = try ledger(1)
    #expect(ledger.exposureTogether == 0)
    ledger.note(1, for: "a")
    ledger.note(1, for: "b")
    #expect(ledger.exposureTogether == 0.75)
    ledger.noteClaim(2, for: "b")
    #expect(ledger.exposureTogether == 1)
    #expect(ledger.exposure(of: "a") == 0.75)
  }

  @Test func `of a block that two levels show in different ways both count, up to the whole block`()
    throws
  {
    // Two blocks; level 1 shows the same copy of block 0 as level 0, levels 2 and 3 other ones.
    var ledger = try ExposureLedger(
      contents: [[0: 0.3, 1: 0.3], [0: 0.3], [0: 0.1], [0: 0.45]], limit: 0.65, wholeBlock: 0.5)
    #expect(ledger.exposure(ofLevels: [0, 1]) == 0.6)
    #expect(ledger.exposure(ofLevels: [0, 2]) == 0.7)
    #expect(ledger.exposure(ofLevels: [0, 3]) == 0.8)
    ledger.note(0, for: "a")
    #expect(ledger.allows(1, for: "a") && !ledger.allows(2, for: "a"))
    // Made anew: who had the old one may have both.
    ledger.renew(0, contents: [0: 0.15, 1: 0.15])
    #expect(abs(ledger.exposure(of: "a") - 0.9) < 1e-12)
  }

  @Test func `colluders are counted worst first, until one more adds nothing`() throws {
    // Levels that share no block.
    var ledger = try ExposureLedger(
      contents: [[0: 0.25], [1: 0.5], [0: 0.125, 2: 0.125]], wholeBlock: 0.25)
    #expect(ledger.exposureOfColluders == [])
    ledger.note(0, for: "a")
    ledger.note(1, for: "b")
    ledger.note(1, for: "c")
    ledger.note(2, for: "d")
    #expect(ledger.exposureOfColluders == [0.5, 0.75, 0.875])
    #expect(ledger.exposureOfColluders.last == ledger.exposureTogether)
  }

  @Test func `a level that would pass the limit is not allowed, one that was sent before is`()
    throws
  {
    var ledger = try ledger(0.8)
    #expect((0..<3).map { ledger.allows($0, for: "a") } == [false, true, true])
    ledger.note(1, for: "a")
    #expect((0..<3).map { ledger.allows($0, for: "a") } == [false, true, false])
    // It says that it has the whole middle from an earlier run: counted, but no reason to send it.
    ledger.noteClaim(0, for: "b")
    #expect(ledger.exposure(of: "b") == 1)
    #expect((0..<3).map { ledger.allows($0, for: "b") } == [false, false, false])
  }

  @Test func `who saw an old copy may have what either shows, and a new one must be allowed again`()
    throws
  {
    var ledger = try ledger(0.8)
    ledger.note(1, for: "a")
    #expect(ledger.allows(1, for: "a"))
    // The new copy shows a block more, and of one less.
    ledger.renew(1, contents: [0: 0.2, 1: 0.25, 2: 0.5])
    #expect(ledger.exposure(of: "a") == 1)
    #expect(!ledger.allows(1, for: "a"))
    #expect(!ledger.allows(1, for: "b"))
    ledger.renew(2, contents: [1: 0.1])
    #expect(ledger.exposure(of: "c", with: 2) == 0.25)
    #expect(ledger.allows(2, for: "c"))
  }

  @Test func `a limit below every level is refused, and so is one that is none`() throws {
    expectError(.usage, "maxExposure is 0.1", "gives away least", "0.25") { _ = try ledger(0.1) }
    expectError(.usage, "between 0 and 1") { _ = try ledger(1.5) }
    expectError(.usage, "between 0 and 1") { _ = try ledger(.nan) }
  }

  @Test func `planners keep to the allowed levels`() async throws {
    var state = FederationState(
      run: "r", round: 1, attempt: 1, rounds: 5,
      clients: ["a", "b", "c"].map { .init($0, allowedLevels: [0, 1]) },
      levels: [.init(0, bytes: 100), .init(1, bytes: 60)])
    state.clients[1].allowedLevels = [1]
    state.clients[2].allowedLevels = []
    let plan = try await EveryonePlanner(levels: .fixed(0)).plan(state)
    #expect(plan.assignments["a"]?.emulatorLevel == 0)
    #expect(plan.assignments["b"]?.emulatorLevel == 1)
    #expect(plan.assignments["b"]?.reason?.contains("maxExposure") == true)
    #expect(plan.participants == ["a", "b"])
    for seed in UInt64(0)..<20 {
      let plan = try await RandomPlanner(share: 1, seed: seed).plan(state)
      #expect(plan.assignments["b"]?.emulatorLevel == 1)
      #expect(plan.assignments["c"]?.participates == false)
    }
  }
}
