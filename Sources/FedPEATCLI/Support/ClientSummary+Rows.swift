import FedPEAT

extension ClientSummary {
  /// A table's rows.
  ///
  /// - Parameter metric: what the numbers are numbers of.
  func rows(_ metric: Metric) -> [[String]] {
    func shown(_ value: Double) -> String { Format.measure(value, metric) }
    let spread =
      metric == .accuracy
      ? "\(Format.number(100 * mean, digits: 1)) ± \(Format.number(100 * deviation, digits: 1)) %"
      : "\(Format.number(mean)) ± \(Format.number(deviation))"
    return [
      ["clients", Format.count(values.count)],
      ["mean of the clients", spread],
      ["worst tenth of them", shown(worstDecile)],
      ["worst", "\(shown(worst)) (\(worstClient))"],
    ]
  }
}
