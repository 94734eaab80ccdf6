import FedPEAT
import Foundation

/// What `compress` says of what it made.
extension Compress {
  struct Report: Encodable {
    var recipe: String
    /// Of the weights' files, and of the full model's.
    var bytes: Int
    var fullBytes: Int
    var blocks: Int
    var keptBlocks: [Int]
    var parameters: Int
    var exposure: Double
    var fidelity: FidelityReport?
    var cost: EmulatorCost
    var folder: String

    private enum CodingKeys: String, CodingKey {
      case recipe, bytes, fullBytes, blocks, keptBlocks, parameters, exposure, fidelity, cost,
        folder
    }

    func encode(to encoder: any Encoder) throws {
      var container = encoder.container(keyedBy: CodingKeys.self)
      try container.encode(recipe, forKey: .recipe)
      try container.encode(bytes, forKey: .bytes)
      try container.encode(fullBytes, forKey: .fullBytes)
      try container.encode(blocks, forKey: .blocks)
      try container.encode(keptBlocks, forKey: .keptBlocks)
      try container.encode(parameters, forKey: .parameters)
      try container.encode(exposure, forKey: .exposure)
      try container.encode(fidelity, forKey: .fidelity)
      try container.encode(cost, forKey: .cost)
      try container.encode(folder, forKey: .folder)
    }
  }

  struct LadderReport: Encodable {
    var levels: [Report]
    var fullBytes: Int
    /// Of all levels together.
    var exposure: Double
  }

  fileprivate static func share(_ report: Report) -> String {
    "\(Format.count(report.bytes)) of \(Format.count(report.fullBytes)) (\(Format.percent(Double(report.bytes) / Double(report.fullBytes))))"
  }

  static func text(_ report: Report) -> String { Format.table(lines(report)) }

  private static func lines(_ report: Report) -> [[String]] {
    var rows = [
      ["emulator", report.folder],
      ["blocks of the full model kept", report.keptBlocks.map(String.init).joined(separator: " ")],
      ["parameters", Format.count(report.parameters)], ["bytes of weights' files", share(report)],
      ["exposure of the middle", Format.percent(report.exposure)],
      [
        "in memory",
        "\(Format.bytes(report.cost.memoryBytes)) of \(Format.bytes(report.cost.fullMemoryBytes)); the whole folder, on disk and on the wire \(Format.bytes(report.cost.diskBytes))",
      ],
    ]
    if let own = report.cost.secondsPerStep, let whole = report.cost.fullSecondsPerStep {
      rows.append([
        "a step of tuning",
        "\(Format.number(1000 * own, digits: 1)) ms; through the full model \(Format.number(1000 * whole, digits: 1)) ms",
      ])
    }
    if let fidelity = report.fidelity {
      rows.append(["loss of the full model", Format.number(fidelity.fullLoss, digits: 4)])
      rows.append(["loss of the emulator", Format.number(fidelity.emulatorLoss, digits: 4)])
      if let cosine = fidelity.gradientCosine, let ratio = fidelity.gradientNormRatio {
        rows.append([
          "an adapter's gradients",
          "cosine \(Format.number(cosine, digits: 3)), norm \(Format.number(ratio, digits: 2)) times the full model's",
        ])
      }
      if let error = fidelity.stateError {
        rows.append(["states behind the middle off by", Format.percent(error.squareRoot())])
      }
      if let divergence = fidelity.divergence {
        rows.append(["divergence", "\(Format.number(divergence, digits: 3)) nats per token"])
      }
      if let probe = fidelity.probe {
        rows.append([
          "probe: \(probe.steps) steps of tuning",
          "loss of the full model \(Format.number(probe.fullLoss, digits: 4)), then \(Format.number(probe.plugInLoss, digits: 4)); of the emulator then \(Format.number(probe.emulatorLoss, digits: 4))",
        ])
      }
    }
    return rows
  }

  static func text(_ reports: [Report], _ exposure: Double) -> String {
    Format.table(rows(reports)) + "\n\n" + together(reports, exposure)
  }

  /// What all levels show together.
  private static func together(_ reports: [Report], _ exposure: Double) -> String {
    let most = reports.map(\.exposure).max() ?? 0
    return "All levels together show \(precise(exposure)) of the middle"
      + (exposure > most + 1e-9
        ? ", the one that shows most alone \(precise(most)): distilled levels have blocks of their own."
        : ", as much as the one that shows most.")
  }

  /// A share to a thousandth of a percent where it is near to all.
  private static func precise(_ share: Double) -> String {
    share > 0.99 && share < 1
      ? "\(Format.number(100 * share, digits: 3)) %" : Format.percent(share)
  }

  /// A line per level, under a header.
  private static func rows(_ reports: [Report]) -> [[String]] {
    [["level", "recipe", "bytes", "exposure", "loss", "gradient cosine", "probe's plug-in"]]
      + reports.map {
        [
          $0.folder, $0.recipe, share($0), Format.percent($0.exposure),
          $0.fidelity.map { Format.number($0.emulatorLoss, digits: 4) } ?? "–",
          $0.fidelity?.gradientCosine.map { Format.number($0, digits: 3) } ?? "–",
          $0.fidelity?.probe.map { Format.number($0.plugInLoss, digits: 4) } ?? "–",
        ]
      }
  }

  /// The same as a page: a table of all levels, and one for each.
  static func page(_ reports: [Report], exposure: Double) -> HTMLReport {
    var page = HTMLReport(reports.count == 1 ? "An emulator" : "Emulators")
    if reports.count > 1 {
      page.add(rows(reports), caption: "Levels")
      page.add(paragraph: together(reports, exposure))
    }
    for report in reports {
      var rows = [["", ""]] + lines(report)
      if let fidelity = report.fidelity {
        rows += (fidelity.blockErrors ?? []).enumerated().map {
          ["behind block \($0 + 1) of the middle off by", Format.percent($1.squareRoot())]
        }
      }
      page.add(rows, caption: report.recipe)
    }
    return page
  }
}
