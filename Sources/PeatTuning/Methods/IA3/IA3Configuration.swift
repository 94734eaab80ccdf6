import PeatModels
import PeatTensor

/// What an IA³ adapter consists of; JSON keys as in PEFT's adapter_config.json.
public struct IA3Configuration: Sendable, Codable, Equatable {
  /// Ends of the names of the linear layers that get a vector; `nil`: keys, values and the feed-forward layer's last.
  public var targetModules: [String]?
  /// Those of them whose input is scaled instead of their output; `nil`: the feed-forward layer's last, where it is a target.
  public var feedForwardModules: [String]?

  enum CodingKeys: String, CodingKey {
    case targetModules = "target_modules"
    case feedForwardModules = "feedforward_modules"
  }

  /// Throws where a value makes no sense.
  public init(targetModules: [String]? = nil, feedForwardModules: [String]? = nil) throws {
    self.targetModules = targetModules
    self.feedForwardModules = feedForwardModules
    guard targetModules?.isEmpty != true else {
      throw PeatError.usage("The list of target modules is empty; leave it out for the usual ones.")
    }
  }

  public init(from decoder: any Decoder) throws {
    let container = try decoder.container(keyedBy: CodingKeys.self)
    // PEFT also allows one pattern; the tensors then say which layers are meant.
    try self.init(
      targetModules: (try? container.decodeIfPresent([String].self, forKey: .targetModules)) ?? nil,
      feedForwardModules: (try? container.decodeIfPresent(
        [String].self, forKey: .feedForwardModules)) ?? nil)
  }

  /// The layers of an architecture, by paths.
  func targets(of keys: TransformerKeys) throws -> TargetModules {
    guard let targetModules else {
      let attention: [String] =
        switch keys.projections {
        case .separate(_, let key, let value): [key, value]
        case .fused(let path), .fusedByHead(let path): [path]
        }
      return try TargetModules(attention + [keys.down], of: keys)
    }
    return try TargetModules(targetModules, of: keys)
  }

  func feedForward(of keys: TransformerKeys) throws -> TargetModules {
    try TargetModules(feedForwardModules ?? [keys.down], of: keys)
  }
}
