import FedPEAT

extension FiveNumberSet {
  /// The numbers as a table, each with what it means.
  fileprivate func rows(_ text: (Value) -> String) -> String {
    Format.table(
      FiveNumberName.allCases.filter { !$0.isOnRequest || self[$0] != nil }.map { name in
        let term = name == .plugIn ? name.term.uppercased() : name.term
        return ["\(term): \(name.meaning)", self[name].map(text) ?? "–"]
      })
  }

  fileprivate var direction: String { "\(higherIsBetter ? "higher" : "lower") is better" }
}

extension FiveNumbers {
  var table: String { "\(metric) (\(direction))\n" + rows(shown) }

  /// One of the numbers, or another of the same kind.
  func shown(_ value: Double) -> String {
    Format.measure(value, Metric(rawValue: metric) ?? .perplexity)
  }
}

extension FiveNumbersOverSeeds {
  var table: String {
    let isAccuracy = metric == Metric.accuracy.rawValue
    let rows = rows { value in
      guard isAccuracy else {
        return "\(Format.number(value.mean)) ± \(Format.number(value.deviation))"
      }
      return
        "\(Format.number(100 * value.mean, digits: 1)) ± \(Format.number(100 * value.deviation, digits: 1)) %"
    }
    return
      "\(metric) (\(direction)) over \(plugIn?.runs.count ?? 0) seeds, mean ± standard deviation\n"
      + rows
  }
}

extension FiveNumberName {
  fileprivate var meaning: String {
    switch self {
    case .fullZeroShot: "the full model, as it came"
    case .emulatorZeroShot: "the emulator, as it came"
    case .emulatorTuned: "the emulator with the tuned adapter"
    case .plugIn: "the full model with that adapter"
    case .fullFineTuning: "the full model, all of it tuned on the pooled texts"
    case .fullModelAdapter: "the same method on every block of the full model"
    case .endBlocksThroughFullMiddle: "the same adapter, tuned without an emulator"
    }
  }
}
