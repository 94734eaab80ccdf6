import PeatTensor

/// The run that an edge's levels were measured for.
public struct EdgeCalibration: Sendable, Codable, Equatable {
  /// Digest of the full model, and the tuning method with its rank.
  public var model = ""
  public var method = ""
  /// Blocks of the model's ends; `nil`: not recorded, as in older files.
  public var bottom: Int?
  public var top: Int?
  /// For each level the digest of its folder's weights, where it is more than its recipe says, since it was distilled or made with a text; `nil`: as
  /// the recipe makes it. Empty: not recorded.
  public var emulators: [String?] = []
  /// Tokens of a device's round, of a step, and of a window.
  public var roundTokens = 0.0
  public var stepTokens = 0.0
  public var context = 0.0
  /// Of the adapter, and α of LoRA; `nil`: not recorded, as in older files.
  public var learningRate: Double?
  public var alpha: Double?
  /// How far the times of the same training lay apart, as a share of their median: the most of any level; `nil`: not recorded.
  public var spread: Double?
  /// Why what was fitted should not be trusted far, in words; empty where nothing speaks against it.
  public var cautions: [String] = []

  public init() {}

  private enum CodingKeys: String, CodingKey {
    case model, method, bottom, top, emulators, roundTokens, stepTokens, context
    case learningRate, alpha, spread, cautions
  }

  /// Says every key, also those that are null.
  public func encode(to encoder: any Encoder) throws {
    var table = encoder.container(keyedBy: CodingKeys.self)
    try table.encode(model, forKey: .model)
    try table.encode(method, forKey: .method)
    try table.encode(bottom, forKey: .bottom)
    try table.encode(top, forKey: .top)
    try table.encode(emulators, forKey: .emulators)
    try table.encode(roundTokens, forKey: .roundTokens)
    try table.encode(stepTokens, forKey: .stepTokens)
    try table.encode(context, forKey: .context)
    try table.encode(learningRate, forKey: .learningRate)
    try table.encode(alpha, forKey: .alpha)
    try table.encode(spread, forKey: .spread)
    try table.encode(cautions, forKey: .cautions)
  }

  func validate() throws {
    guard cautions.count <= 100, cautions.allSatisfy({ $0.utf8.count <= 2000 }) else {
      throw PeatError.badData(
        "calibration.cautions holds \(cautions.count) texts, the longest of \(cautions.map(\.utf8.count).max() ?? 0) bytes; there can be 100, each of 2000."
      )
    }
    for (name, value) in [("model", model), ("method", method)] where value.utf8.count > 200 {
      throw PeatError.badData(
        "calibration.\(name) is a text of \(value.utf8.count) bytes; it can have 200.")
    }
    guard emulators.count <= 64 else {
      throw PeatError.badData(
        "calibration.emulators holds \(emulators.count) entries; there can be 64, one for each level."
      )
    }
    for (name, value) in [
      ("roundTokens", roundTokens), ("stepTokens", stepTokens), ("context", context),
    ] where value != 0 && !(1...1e15).contains(value) {
      throw PeatError.badData(
        "calibration.\(name) is \(value); it must be 1 to 1e15, or 0 where nothing was measured.")
    }
    for (name, value) in [("learningRate", learningRate), ("alpha", alpha)] {
      guard let value, !(value > 0 && value <= 1e6) else { continue }
      throw PeatError.badData(
        "calibration.\(name) is \(value); it must be above 0 and at most 1e6, or null.")
    }
    if let spread, !(0...1e6).contains(spread) {
      throw PeatError.badData("calibration.spread is \(spread); it must be 0 to 1e6, or null.")
    }
  }

  /// Why what was measured is not of a run's model, split and emulators, in words; `nil` where it is. What is not recorded counts as the same.
  ///
  /// - Parameter run: what `calibrate` would record of it.
  public func mismatch(with run: EdgeCalibration) -> String? {
    if roundTokens == 0 || model.isEmpty { return "nothing in it was measured" }
    if model != run.model {
      return
        "it was measured for the model \(model.prefix(8))…, the run's is \(run.model.prefix(8))…"
    }
    for (name, own, runs) in [("bottom", bottom, run.bottom), ("top", top, run.top)] {
      if let own, let runs, own != runs {
        return "it was measured with \(own) \(name) blocks, the run has \(runs)"
      }
    }
    guard !emulators.isEmpty, emulators != run.emulators else { return nil }
    guard emulators.count == run.emulators.count else {
      return
        "it was measured for \(emulators.count) emulator\(emulators.count == 1 ? "" : "s"), the run has \(run.emulators.count)"
    }
    let level = zip(emulators, run.emulators).enumerated().first { $1.0 != $1.1 }?.offset ?? 0
    return
      "emulator \(level) was distilled, or made with a text, in another way than the one that was measured"
  }

  // MARK: What is doubtful

  /// What is not recorded of what was measured, as in older files, with what that means; `nil` where nothing was measured, or all is recorded.
  ///
  /// - Parameter name: of the edge.
  func unknown(of name: String) -> String? {
    guard roundTokens > 0 else { return nil }
    var missing: [String] = []
    if bottom == nil || top == nil { missing.append("split") }
    if emulators.isEmpty { missing.append("emulators") }
    if learningRate == nil { missing.append("learning rate") }
    guard let last = missing.last else { return nil }
    let all = missing.dropLast().map { "which \($0)" }.joined(separator: ", ")
    return
      "'\(name)' does not say \(all.isEmpty ? "" : all + " and ")which \(last) was measured, as older files do not; that is taken for the run's. Measure again with 'fedpeat calibrate' where that is in doubt."
  }

  /// How a run of the same emulators differs from what was measured, each difference with what it makes doubtful.
  ///
  /// - Parameters:
  ///   - run: what `calibrate` would record of it.
  ///   - name: of the edge.
  ///   - steps: the constant by which more steps count, in words.
  public func differences(from run: EdgeCalibration, name: String, steps: String) -> [String] {
    var result: [String] = []
    func add(_ own: String, _ runs: String, _ consequence: String) {
      result.append("'\(name)' was measured with \(own), the run has \(runs): \(consequence).")
    }
    func shown(_ value: Double) -> String {
      // As a learning rate of 32 bits is written, and a whole number without its fraction.
      value == value.rounded() && value < 1e15 ? "\(Int(value))" : "\(Float(value))"
    }
    if !method.isEmpty, method != run.method {
      add(
        method, run.method,
        "memory is counted from shapes; times, fidelities and how the loss falls are doubtful")
    }
    for (word, own, runs) in [
      ("a learning rate of", learningRate, run.learningRate), ("an alpha of", alpha, run.alpha),
    ] {
      guard let own, let runs, Float(own) != Float(runs) else { continue }
      add(
        "\(word) \(shown(own))", shown(runs),
        "how the loss falls, and how emulators age, is doubtful")
    }
    guard stepTokens > 0, context > 0, run.stepTokens > 0, run.context > 0 else { return result }
    let (own, runs) = ((roundTokens / stepTokens).rounded(), run.roundTokens / run.stepTokens)
    if own != runs.rounded() {
      add(
        "\(shown(own)) local steps", shown(runs.rounded()),
        "times are counted by steps; how much farther a round gets follows from \(steps)")
    }
    if stepTokens != run.stepTokens || context != run.context {
      func step(_ it: EdgeCalibration) -> String {
        "\(shown((it.stepTokens / it.context).rounded())) windows of \(shown(it.context)) tokens"
      }
      add(
        "steps of \(step(self))", step(run),
        "times are counted by tokens and memory from shapes; how the loss falls is doubtful")
    }
    return result
  }
}

extension EdgeConfiguration {
  /// Why what was measured for it should not be trusted far, whatever run it is used for.
  ///
  /// - Parameter name: its own, a file or a scenario.
  public func cautions(named name: String) -> [String] {
    [calibration.unknown(of: name)].compactMap { $0 } + calibration.cautions
  }
}
