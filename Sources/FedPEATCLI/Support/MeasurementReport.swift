import FedPEAT

/// Texts that were longer than what is read of them.
struct CutTexts {
  /// Tokens that are read at most.
  var context: Int
  var shortened: Int

  /// - Parameters:
  ///   - end: which of a text's tokens are kept, the first or the last.
  ///   - advice: what may be done about it.
  func tell(
    of count: Int, _ kind: String = "texts", keeping end: String = "first", advice: String? = nil
  ) {
    guard shortened > 0 else { return }
    Terminal.note(
      "cut          \(shortened) of \(count) \(kind) to their \(end) \(context) tokens, the rest is left out\(advice.map { "; \($0)" } ?? "")"
    )
  }
}

/// A measurement's report with what was cut for it, and what each client has beside it.
struct MeasurementReport<Report: Encodable>: Encodable {
  var report: Report
  /// Absent where it was not asked for.
  var perClient: ClientSummary?
  /// The same of macro-F1, where there are classes.
  var perClientMacroF1: ClientSummary?
  /// Absent where nothing is cut.
  var cut: CutTexts?

  private enum CodingKeys: String, CodingKey {
    case perClient, perClientMacroF1, context, shortened
  }

  func encode(to encoder: any Encoder) throws {
    try report.encode(to: encoder)
    var table = encoder.container(keyedBy: CodingKeys.self)
    try table.encodeIfPresent(perClient, forKey: .perClient)
    try table.encodeIfPresent(perClientMacroF1, forKey: .perClientMacroF1)
    try table.encodeIfPresent(cut?.context, forKey: .context)
    try table.encodeIfPresent(cut?.shortened, forKey: .shortened)
  }
}
