import PeatModels
import PeatTensor

/// What a LoRA adapter consists of; JSON keys as in PEFT's adapter_config.json.
public struct LoRAConfiguration: Sendable, Codable, Equatable {
  /// r.
  public var rank: Int
  /// α; the update is scaled with α / r.
  public var alpha: Double
  /// Last parts of the names of the linear layers that get one (`q_proj`, `mlp.c_proj`), or regular expressions of whole names; `nil`: all of the block's.
  public var targetModules: [String]?
  /// In the same words those of them that get none; `nil`: all get one.
  public var excludedModules: [String]?
  /// Scale with α / √r instead (Kalajdzievski 2023, <https://arxiv.org/abs/2312.03732>).
  public var usesRankStabilizedScale: Bool
  /// Other α for single layers, by the end of the layer's name, by the whole name behind a `^`, or by a regular expression. Where several
  /// fit, the first in alphabetical order counts, as it does for PEFT, which sorts the keys of its files.
  public var alphaPattern: [String: Double]
  /// Other ranks for single layers of a new adapter, by names as in `alphaPattern`.
  public var rankPattern: [String: Int]
  /// Of the blocks that an adapter may sit in, those that get one, in the full model's numbers; `nil`: all.
  public var layers: [Int]?
  /// How probable it is in training that a value of what goes into A becomes zero; for DoRA, of what goes into all that it adds to W.
  public var dropout: Double
  /// Whether norms of the rows train apart from their directions: DoRA.
  public var usesMagnitudes: Bool

  enum CodingKeys: String, CodingKey {
    case rank = "r"
    case alpha = "lora_alpha"
    case targetModules = "target_modules"
    case excludedModules = "exclude_modules"
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
    excludedModules: [String]? = nil, usesRankStabilizedScale: Bool = false,
    alphaPattern: [String: Double] = [:],
    rankPattern: [String: Int] = [:], layers: [Int]? = nil, dropout: Double = 0,
    usesMagnitudes: Bool = false
  ) throws {
    self.rank = rank
    self.alpha = alpha
    self.targetModules = targetModules == ["all-linear"] ? nil : targetModules
    self.excludedModules = excludedModules?.isEmpty == true ? nil : excludedModules
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
    excludedModules =
      (try? container.decodeIfPresent([String].self, forKey: .excludedModules)) ?? nil
    usesRankStabilizedScale =
      try container.decodeIfPresent(Bool.self, forKey: .usesRankStabilizedScale) ?? false
    alphaPattern =
      try container.decodeIfPresent([String: Double].self, forKey: .alphaPattern) ?? [:]
    rankPattern =
      try container.decodeIfPresent([String: Int].self, forKey: .rankPattern) ?? [:]
    // PEFT also allows a single number; the tensors then say which layers are meant.
    layers = (try? container.decodeIfPresent([Int].self, forKey: .layers)) ?? nil
    if layers?.isEmpty == true { layers = nil }
    dropout = try container.decodeIfPresent(Double.self, forKey: .dropout) ?? 0
    usesMagnitudes =
      try container.decodeIfPresent(Bool.self, forKey: .usesMagnitudes) ?? false
    try validate()
  }

  private func validate() throws {
    try scales.validate()
    guard dropout >= 0, dropout < 1 else {
      throw PeatError.usage(
        "A LoRA dropout of \(dropout) makes no sense; it is at least 0 and below 1, often 0.05.")
    }
    if let layers, layers.isEmpty {
      throw PeatError.usage("The list of layers that get LoRA is empty; leave it out for all.")
    }
    if targetModules?.isEmpty == true {
      throw PeatError.usage(
        "The list of target modules is empty; leave it out, or say all-linear, for all.")
    }
  }

  /// The layers of an architecture.
  func targets(of keys: TransformerKeys) throws -> TargetModules {
    try TargetModules(targetModules, without: excludedModules, of: keys)
  }

  /// The same with another dropout. Throws `usage` where it makes no sense.
  public func dropping(_ dropout: Double) throws -> LoRAConfiguration {
    var result = self
    result.dropout = dropout
    try result.validate()
    return result
  }

  /// What multiplies B · A.
  package var scales: LowRankScales {
    get {
      LowRankScales(
        rank: rank, alpha: alpha, isRankStabilized: usesRankStabilizedScale,
        alphaPattern: alphaPattern, rankPattern: rankPattern)
    }
    set {
      (rank, alpha, usesRankStabilizedScale) = (
        newValue.rank, newValue.alpha, newValue.isRankStabilized
      )
      (alphaPattern, rankPattern) = (newValue.alphaPattern, newValue.rankPattern)
    }
  }
}
