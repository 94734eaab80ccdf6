import FedPEAT

extension ClientSummary {
  /// A table's rows.
  var rows: [[String]] {
    [
      ["clients", Format.count(values.count)],
      ["mean of the clients", "\(Format.number(mean)) ± \(Format.number(deviation))"],
      ["worst tenth of them", Format.number(worstDecile)],
      ["worst", "\(Format.number(worst)) (\(worstClient))"],
    ]
  }
}
