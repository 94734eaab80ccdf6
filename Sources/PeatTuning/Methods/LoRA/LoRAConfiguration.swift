import PeatTensor

/// What a LoRA adapter consists of; JSON keys as in PEFT's adapter_config.json.
public struct LoRAConfiguration: Sendable, Codable, Equatable {
  /// r.
  public var rank: Int
  /// α; the update is scaled with α / r.
  public var alpha: Double
  /// Last parts of the names of the linear layers that get one (`q_proj`, `mlp.c_proj`); `nil`: all of the block's.
  public var targetModules: [String]?
  /// Scale with α / √r instead (Kalajdzievski 2023, <https://arxiv.org/abs/2312.03732>).
  public var usesRankStabilizedScale: Bool
  /// Other α for single layers, by the end of the layer's name, or by the whole name behind a `^`. Where several fit, the
  /// first in alphabetical order counts, as it does for PEFT, which sorts the keys of its files.
  public var alphaPattern: [String: Double]
  /// Other ranks for single layers of a new adapter, by names as in `alphaPattern`.
  public var rankPattern: [String: Int]
  /// Of the blocks that an adapter may sit in, those that get one, in the full model's numbers; `nil`: all.
  public var layers: [Int]?
  /// How probable it is in training that a value of what goes into A becomes zero. Not for DoRA: of an adapter that was tuned so elsewhere
  /// it is left out.
  public var dropout: Double
  /// Whether norms of the rows train apart from their directions: DoRA.
  public var usesMagnitudes: Bool

  enum CodingKeys: String, CodingKey {
    case rank = "r"
    case alpha = "lora_alpha"
    case targetModules = "target_modules"
    case usesRankStabilizedScale = "use_rslora"
    case alphaPattern = "alpha_pattern"
    case rankPattern = "rank_pattern"
    case layers = "layers_to_transform"
    case dropout = "lora_dropout"
    case usesMagnitudes = "use_dora"
  }

  /// Throws where a value makes no sense.
  public init(
    rank: Int = 8, alpha: Double = 16, targetModules: [String]? = nil,
    usesRankStabilizedScale: Bool = false, alphaPattern: [String: Double] = [:],
    rankPattern: [String: Int] = [:], layers: [Int]? = nil, dropout: Double = 0,
    usesMagnitudes: Bool = false
  ) throws {
    self.rank = rank
    self.alpha = alpha
    self.targetModules = targetModules == ["all-linear"] ? nil : targetModules
    self.rankPattern = rankPattern
    self.layers = layers
    self.dropout = dropout
    self.usesMagnitudes = usesMagnitudes
    self.usesRankStabilizedScale = usesRankStabilizedScale
    self.alphaPattern = alphaPattern
    try validate()
  }

  public init(from decoder: any Decoder) throws {
    let container = try decoder.container(keyedBy: CodingKeys.self)
    rank = try container.decode(Int.self, forKey: .rank)
    alpha = try container.decode(Double.self, forKey: .alpha)
    // PEFT also allows one pattern or "all-linear"; the tensors then say which layers are meant.
    targetModules = (try? container.decodeIfPresent([String].self, forKey: .targetModules)) ?? nil
    usesRankStabilizedScale =
      try container.decodeIfPresent(Bool.self, forKey: .usesRankStabilizedScale) ?? false
    alphaPattern =
      try container.decodeIfPresent([String: Double].self, forKey: .alphaPattern) ?? [:]
    // In files of PEFT's these may be patterns and single numbers; there too the tensors say what is meant.
    rankPattern =
      ((try? container.decodeIfPresent([String: Int].self, forKey: .rankPattern)) ?? nil ?? [:])
      .filter { LoRAConfiguration.isPlainName($0.key) }
    layers = (try? container.decodeIfPresent([Int].self, forKey: .layers)) ?? nil
    dropout = try container.decodeIfPresent(Double.self, forKey: .dropout) ?? 0
    usesMagnitudes =
      try container.decodeIfPresent(Bool.self, forKey: .usesMagnitudes) ?? false
    if usesMagnitudes { dropout = 0 }
    try validate()
  }

  private func validate() throws {
    for rank in [rank] + rankPattern.values.sorted() {
      guard rank > 0, rank <= 1 << 16 else {
        throw PeatError.usage("A LoRA rank of \(rank) makes no sense; it is at least 1, often 8.")
      }
    }
    guard dropout >= 0, dropout < 1 else {
      throw PeatError.usage(
        "A LoRA dropout of \(dropout) makes no sense; it is at least 0 and below 1, often 0.05.")
    }
    if usesMagnitudes, dropout > 0 {
      throw PeatError.usage("DoRA has no dropout here; leave it out.")
    }
    if let layers, layers.isEmpty {
      throw PeatError.usage("The list of layers that get LoRA is empty; leave it out for all.")
    }
    if targetModules?.isEmpty == true {
      throw PeatError.usage(
        "The list of target modules is empty; leave it out, or say all-linear, for all.")
    }
    guard alpha > 0, alpha <= 1e6 else {
      throw PeatError.usage(
        "A LoRA alpha of \(alpha) makes no sense; it is above 0 and at most 1e6, often twice the rank."
      )
    }
    for (pattern, alpha) in alphaPattern {
      guard alpha.isFinite, alpha > 0 else {
        throw PeatError.usage(
          "The LoRA alpha of \(alpha) for '\(pattern)' makes no sense; it is above 0.")
      }
      guard LoRAConfiguration.isPlainName(pattern) else {
        throw PeatError.usage(
          "alpha_pattern has the regular expression '\(pattern)'; this program reads plain names, such as "
            + "'layers.0.self_attn.q_proj'.")
      }
    }
  }

  private static func isPlainName(_ pattern: String) -> Bool {
    pattern.drop(while: { $0 == "^" }).allSatisfy {
      $0.isLetter || $0.isNumber || "._-".contains($0)
    }
  }

  private func value<Value>(_ patterns: [String: Value], forLayer name: String) -> Value? {
    patterns.keys.sorted().first { LoRAConfiguration.matches($0, name) }.flatMap { patterns[$0] }
  }

  /// Whether a pattern means a layer, by its name without PEFT's prefix.
  static func matches(_ pattern: String, _ name: String) -> Bool {
    name == pattern || name.hasSuffix(".\(pattern)") || "^\(name)" == pattern
  }

  /// α for a layer of the model, by its name without PEFT's prefix.
  func alpha(forLayer name: String) -> Double { value(alphaPattern, forLayer: name) ?? alpha }

  /// r for a layer of a new adapter.
  func rank(forLayer name: String) -> Int { value(rankPattern, forLayer: name) ?? rank }

  /// s for a layer, whose own rank may differ from the configuration's.
  func scale(forLayer name: String, rank: Int) -> Float {
    let alpha = alpha(forLayer: name)
    return Float(usesRankStabilizedScale ? alpha / Double(rank).squareRoot() : alpha / Double(rank))
  }
}
