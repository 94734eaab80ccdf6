import PeatModels
import PeatTensor

/// What an IA³ adapter consists of; JSON keys as in PEFT's adapter_config.json.
public struct IA3Configuration: Sendable, Codable, Equatable {
  /// Ends of the names of the linear layers that get a vector, `all-linear` for all; `nil`: keys, values and the feed-forward layer's last. Where a
  /// feed-forward layer mixes tokens in the place of attention, its last and not keys and values.
  public var targetModules: [String]?
  /// In the same words those of them that get none; `nil`: all get one.
  public var excludedModules: [String]?
  /// Those of them whose input is scaled instead of their output; `nil`: feed-forward layers' last, where they are targets.
  public var feedForwardModules: [String]?

  enum CodingKeys: String, CodingKey {
    case targetModules = "target_modules"
    case excludedModules = "exclude_modules"
    case feedForwardModules = "feedforward_modules"
  }

  /// Throws where a value makes no sense.
  public init(
    targetModules: [String]? = nil, excludedModules: [String]? = nil,
    feedForwardModules: [String]? = nil
  ) throws {
    self.targetModules = targetModules
    self.excludedModules = excludedModules?.isEmpty == true ? nil : excludedModules
    self.feedForwardModules = feedForwardModules
    guard targetModules?.isEmpty != true else {
      throw PeatError.usage("The list of target modules is empty; leave it out for the usual ones.")
    }
    // What a regular expression means is seen beside a model.
    if let targetModules, targetModules != ["all-linear"],
      targetModules.allSatisfy(LayerPattern.isPlainName),
      let stranger = feedForwardModules?.first(where: { !targetModules.contains($0) })
    {
      throw Self.noTarget(stranger, targetModules)
    }
  }

  /// Throws `usage` where a feed-forward module is none of the layers that are meant.
  ///
  /// - Parameter layers: paths in their blocks and whole names of those layers.
  func checkFeedForward(_ layers: [(path: String, name: String)], of keys: TransformerKeys) throws {
    for module in feedForwardModules ?? [] {
      let own = try TargetModules([module], of: keys)
      guard !layers.contains(where: { own.contain($0.path, $0.name) }) else { continue }
      throw Self.noTarget(module, Set(layers.map(\.path)).sorted())
    }
  }

  private static func noTarget(_ module: String, _ targets: [String]) -> PeatError {
    .usage(
      "The feed-forward module '\(module)' is none of IA3's targets, \(targets.joined(separator: ", ")): name it among both, or leave it out."
    )
  }

  public init(from decoder: any Decoder) throws {
    let container = try decoder.container(keyedBy: CodingKeys.self)
    // PEFT also allows one pattern; the tensors then say which layers are meant.
    func names(_ key: CodingKeys) throws -> [String]? {
      if (try? container.decodeIfPresent(String.self, forKey: key)) != nil { return nil }
      return try container.decodeIfPresent([String].self, forKey: key)
    }
    try self.init(
      targetModules: try names(.targetModules), excludedModules: try names(.excludedModules),
      feedForwardModules: try names(.feedForwardModules))
  }

  /// Of an adapter's tensors: a vector `[1, inputs]` scales what goes into its layer. Layers are named without their block's number.
  init(of tensors: NamedTensors, _ keys: TransformerKeys) throws {
    var (targets, feedForward): (Set<String>, Set<String>) = ([], [])
    for (name, tensor) in tensors where name.hasSuffix(IA3.suffix) {
      guard let (_, _, after) = AdapterFolder.split(String(name.dropLast(IA3.suffix.count)), keys)
      else { continue }
      targets.insert(String(after.dropFirst()))
      if IA3.scalesInput(tensor) { feedForward.insert(String(after.dropFirst())) }
    }
    try self.init(
      targetModules: targets.isEmpty ? nil : targets.sorted(),
      feedForwardModules: feedForward.sorted())
  }

  /// The layers of an architecture, by paths.
  func targets(of keys: TransformerKeys) throws -> TargetModules {
    if let targetModules {
      return try TargetModules(targetModules, without: excludedModules, of: keys)
    }
    let attention: [String] =
      switch keys.projections {
      case .separate(_, let key, let value): [key, value]
      case .fused(let path), .fusedByHead(let path): [path]
      case .tokens: []
      }
    var targets = attention + keys.lastFeedForwardPaths
    if let decoder = keys.decoder { targets += [decoder.cross.key, decoder.cross.value] }
    for module in feedForwardModules ?? []
    where !targets.contains(where: { $0 == module || $0.hasSuffix(".\(module)") }) {
      throw Self.noTarget(module, targets)
    }
    return try TargetModules(targets, without: excludedModules, of: keys)
  }

  func feedForward(of keys: TransformerKeys) throws -> TargetModules {
    try TargetModules(feedForwardModules ?? keys.lastFeedForwardPaths, of: keys)
  }
}

extension TransformerKeys {
  /// The last layers of feed-forward layers: over tokens and over channels, or an encoder's and a decoder's.
  fileprivate var lastFeedForwardPaths: [String] {
    if case .tokens = projections { return [attentionOutput, down] }
    return [down] + (decoder.map { [$0.down] } ?? [])
  }
}
