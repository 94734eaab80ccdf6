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
  /// Why what was fitted should not be trusted far, in words; empty where nothing speaks against it.
  public var cautions: [String] = []

  public init() {}

  private enum CodingKeys: String, CodingKey {
    case model, method, bottom, top, emulators, roundTokens, stepTokens, context, cautions
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
    try table.encode(cautions, forKey: .cautions)
  }

  func validate() throws {
    for (name, value) in [
      ("roundTokens", roundTokens), ("stepTokens", stepTokens), ("context", context),
    ] where value != 0 && !(1...1e15).contains(value) {
      throw PeatError.badData(
        "calibration.\(name) is \(value); it must be 1 to 1e15, or 0 where nothing was measured.")
    }
  }

  /// Whether the split and the emulators that were measured are known.
  public var isComplete: Bool { bottom != nil && top != nil && !emulators.isEmpty }

  /// Whether what was measured is of a run's model, split and emulators. What is not recorded counts as the same.
  ///
  /// - Parameter run: what `calibrate` would record of it.
  public func isOf(_ run: EdgeCalibration) -> Bool {
    model == run.model && roundTokens > 0 && (bottom ?? run.bottom) == run.bottom
      && (top ?? run.top) == run.top && (emulators.isEmpty || emulators == run.emulators)
  }
}
