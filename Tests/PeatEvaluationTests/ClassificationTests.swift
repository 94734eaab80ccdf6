import PeatEvaluation
import PeatTensor
import TestSupport
import Testing

@Suite("ClassificationReport") struct ClassificationReportTests {
  @Test func `accuracy and macro-F1 as counted by hand`() throws {
    // Class a: 3 examples, 2 found, 1 called b. Class b: 1 example, found. Class c: 1 example, called a. d: neither.
    let report = try ClassificationReport(
      [(0, 0), (0, 0), (0, 1), (1, 1), (2, 0)], labels: ["a", "b", "c", "d"])
    #expect(report.accuracy == 0.6)
    #expect(
      report.confusion == [[2, 1, 0, 0], [0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]])
    // a: precision 2/3, recall 2/3. b: precision 1/2, recall 1, F1 2/3. c: 0.
    #expect(abs(report.labels[0].f1 - 2.0 / 3) < 1e-12)
    #expect(report.labels[1].precision == 0.5 && report.labels[1].recall == 1)
    #expect(abs(report.macroF1 - 4.0 / 9) < 1e-12)
    #expect(report.examples == 5 && report.labels[0].examples == 3)
  }

  @Test func `no examples are refused`() {
    expectError(.badData, "no examples") { _ = try ClassificationReport([], labels: ["a"]) }
  }
}

@Suite("ClientSummary") struct ClientSummaryTests {
  @Test func `mean, deviation and the worst tenth`() throws {
    let values = Dictionary(uniqueKeysWithValues: (1...20).map { ("c\($0)", Double($0)) })
    let summary = try ClientSummary(values, higherIsBetter: true)
    #expect(summary.mean == 10.5)
    #expect(abs(summary.deviation * summary.deviation - 35) < 1e-9)
    #expect(summary.worstDecile == 1.5 && summary.worst == 1 && summary.worstClient == "c1")
    let losses = try ClientSummary(values, higherIsBetter: false)
    #expect(losses.worstDecile == 19.5 && losses.worstClient == "c20")
    let few = try ClientSummary(["a": 1, "b": 3], higherIsBetter: true)
    #expect(few.worstDecile == 1)
    #expect(try ClientSummary(["a": 1], higherIsBetter: true).deviation == 0)
  }

  @Test func `personalised beside global`() throws {
    let report = try PersonalizationReport(
      global: ["a": 10, "b": 10, "c": 10, "d": 10],
      personalized: ["a": 8, "b": 9, "c": 10, "d": 11], higherIsBetter: false)
    #expect(report.meanGain == 0.5 && report.shareImproved == 0.5)
    #expect(report.personalized.worstClient == "d")
  }

  @Test func `clients that are missing and measures that are none are refused`() {
    expectError(.badData, "'b'") {
      _ = try PersonalizationReport(
        global: ["a": 1, "b": 1], personalized: ["a": 1], higherIsBetter: true)
    }
    expectError(.badData, "'b' is nan") {
      _ = try ClientSummary(["a": 1, "b": .nan], higherIsBetter: true)
    }
    expectError(.badData, "no client") { _ = try ClientSummary([:], higherIsBetter: true) }
  }
}
