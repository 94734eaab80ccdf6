import PeatTensor

/// What a LoRA adapter consists of; JSON keys as in PEFT's adapter_config.json.
public struct LoRAConfiguration: Sendable, Codable, Equatable {
  /// r.
  public var rank: Int
  /// α; the update is scaled with α / r.
  public var alpha: Double
  /// Last parts of the names of the linear layers that get one (`q_proj`); `nil`: all of the block's.
  public var targetModules: [String]?
  /// Scale with α / √r instead (Kalajdzievski 2023, <https://arxiv.org/abs/2312.03732>).
  public var usesRankStabilizedScale: Bool
  /// Other α for single layers, by the end of the layer's name, or by the whole name behind a `^`. Where several fit, the
  /// first in alphabetical order counts, as it does for PEFT, which sorts the keys of its files.
  public var alphaPattern: [String: Double]

  enum CodingKeys: String, CodingKey {
    case rank = "r"
    case alpha = "lora_alpha"
    case targetModules = "target_modules"
    case usesRankStabilizedScale = "use_rslora"
    case alphaPattern = "alpha_pattern"
  }

  /// Throws where rank or alpha make no sense.
  public init(
    rank: Int = 8, alpha: Double = 16, targetModules: [String]? = nil,
    usesRankStabilizedScale: Bool = false, alphaPattern: [String: Double] = [:]
  ) throws {
    self.rank = rank
    self.alpha = alpha
    self.targetModules = targetModules
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
    try validate()
  }

  private func validate() throws {
    guard rank > 0, rank <= 1 << 16 else {
      throw PeatError.usage("A LoRA rank of \(rank) makes no sense; it is at least 1, often 8.")
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
      guard
        pattern.drop(while: { $0 == "^" }).allSatisfy({
          $0.isLetter || $0.isNumber || "._-".contains($0)
        })
      else {
        throw PeatError.usage(
          "alpha_pattern has the regular expression '\(pattern)'; this program reads plain names, such as "
            + "'layers.0.self_attn.q_proj'.")
      }
    }
  }

  /// α for a layer of the model, by its name without PEFT's prefix.
  func alpha(forLayer name: String) -> Double {
    let pattern = alphaPattern.keys.sorted().first { pattern in
      name == pattern || name.hasSuffix(".\(pattern)") || "^\(name)" == pattern
    }
    return pattern.flatMap { alphaPattern[$0] } ?? alpha
  }

  /// s for a layer, whose own rank may differ from the configuration's.
  func scale(forLayer name: String, rank: Int) -> Float {
    let alpha = alpha(forLayer: name)
    return Float(usesRankStabilizedScale ? alpha / Double(rank).squareRoot() : alpha / Double(rank))
  }
}
