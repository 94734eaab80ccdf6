import PeatTensor

/// What a prefix or a prompt consists of; JSON keys as in PEFT's adapter_config.json.
public struct VirtualTokenConfiguration: Sendable, Codable, Equatable {
  /// P: how many keys and values, or embeddings, stand in front of each sequence.
  public var virtualTokens: Int
  /// What a new one starts from; an adapter's file does not keep it.
  public var start: VirtualTokenStart

  enum CodingKeys: String, CodingKey {
    case virtualTokens = "num_virtual_tokens"
  }

  /// Throws where the number makes no sense.
  public init(virtualTokens: Int = 20, start: VirtualTokenStart = .vocabulary) throws {
    self.virtualTokens = virtualTokens
    self.start = start
    try checkVirtualTokens(virtualTokens)
  }

  public init(from decoder: any Decoder) throws {
    let container = try decoder.container(keyedBy: CodingKeys.self)
    try self.init(virtualTokens: try container.decode(Int.self, forKey: .virtualTokens))
  }
}
