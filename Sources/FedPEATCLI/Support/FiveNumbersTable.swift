import FedPEAT

extension FiveNumberSet {
  /// The numbers as a table, each with what it means.
  fileprivate func rows(_ text: (Value) -> String) -> String {
    var rows = [
      ("full model, as it came", fullZeroShot),
      ("emulator, as it came", emulatorZeroShot),
      ("emulator with the tuned adapter", emulatorTuned),
      ("PLUG-IN: full model with that adapter", plugIn),
      ("full model, all of it tuned on the pooled data", fullFineTuning),
    ]
    if fullModelAdapter != nil {
      rows.append(("the same method on the whole full model", fullModelAdapter))
    }
    if endBlocksThroughFullMiddle != nil {
      rows.append(("the same adapter through the full middle", endBlocksThroughFullMiddle))
    }
    return Format.table(rows.map { [$0.0, $0.1.map(text) ?? "–"] })
  }

  fileprivate var direction: String { "\(higherIsBetter ? "higher" : "lower") is better" }
}

extension FiveNumbers {
  var table: String { "\(metric) (\(direction))\n" + rows { Format.number($0) } }
}

extension FiveNumbersOverSeeds {
  var table: String {
    "\(metric) (\(direction)) over \(plugIn?.runs.count ?? 0) seeds, mean ± standard deviation\n"
      + rows { "\(Format.number($0.mean)) ± \(Format.number($0.deviation))" }
  }
}
