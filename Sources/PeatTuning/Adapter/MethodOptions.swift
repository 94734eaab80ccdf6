import PeatModels
import PeatNN
import PeatTensor

/// What a person says of a method, by the names of options and run files; each method takes what is its own.
public struct MethodOptions: Sendable {
  /// LoRA and DoRA.
  public var rank = 8
  public var alpha = 16.0
  public var usesRankStabilizedScale = false
  public var dropout = 0.0
  public var rankPattern: [String: Int] = [:]
  public var alphaPattern: [String: Double] = [:]
  public var layers: [Int]?
  /// LoRA, DoRA and IA³.
  public var targetModules: [String]?
  public var excludeModules: [String]?
  /// IA³.
  public var feedForwardModules: [String]?
  /// Prefix and prompt tuning.
  public var virtualTokens = 20
  public var start = VirtualTokenStart.vocabulary
  /// Bottleneck adapters.
  public var bottleneckSize = 64
  public var activation = BottleneckAdapter.Activation.relu

  public init() {}

  /// An option by its name in a run file.
  public enum Option: String, Sendable, CaseIterable {
    case rank, alpha, rankStabilized, rankPattern, alphaPattern, layers, dropout, targetModules
    case excludeModules
    case feedForwardModules, virtualTokens, initialText, bottleneckSize, activation

    /// `--rank-pattern`
    public var flag: String { FlagName.of(key: rawValue) }
  }

  /// What a method takes; nothing where its name is unknown.
  public static func options(of method: String) -> Set<Option> {
    switch method {
    case LoRA.name, LoRA.magnitudeName:
      [
        .rank, .alpha, .rankStabilized, .rankPattern, .alphaPattern, .layers, .dropout,
        .targetModules, .excludeModules,
      ]
    case IA3.name: [.targetModules, .excludeModules, .feedForwardModules]
    case PrefixTuning.name, PromptTuning.name: [.virtualTokens, .initialText]
    case Bottleneck.name: [.bottleneckSize, .activation]
    default: []
    }
  }

  /// The rate that a method is tuned with where none is named.
  ///
  /// Methods of few values want more than those of matrices: this is between what is best for small models and what is usual for large ones (docs/methods.md).
  public static func usualLearningRate(of method: String) -> Float {
    switch method {
    case IA3.name, NormTuning.name, BitFit.name, PrefixTuning.name, PromptTuning.name: 3e-2
    default: 3e-3
    }
  }

  /// Throws `usage` where an option was given that its method has not.
  ///
  /// - Parameter spelled: how the user writes an option.
  public static func check(
    _ given: Set<Option>, of method: String, spelled: (Option) -> String
  ) throws {
    let own = options(of: method)
    guard let stranger = given.subtracting(own).min(by: { $0.rawValue < $1.rawValue }) else {
      return
    }
    let takes = own.map(spelled).sorted().joined(separator: ", ")
    throw PeatError.usage(
      "\(spelled(stranger)) is no option of the method '\(method)', which takes "
        + (takes.isEmpty ? "none" : takes) + ". Leave it out, or choose another method.")
  }

  /// Throws `usage` for an unknown name, or where a value makes no sense.
  public func method(named name: String) throws -> Adapter.Method {
    switch name {
    case LoRA.name, LoRA.magnitudeName:
      return .lora(
        try LoRAConfiguration(
          rank: rank, alpha: alpha, targetModules: targetModules,
          excludedModules: excludeModules, usesRankStabilizedScale: usesRankStabilizedScale,
          alphaPattern: alphaPattern,
          rankPattern: rankPattern, layers: layers, dropout: dropout,
          usesMagnitudes: name == LoRA.magnitudeName))
    case IA3.name:
      return .ia3(
        try IA3Configuration(
          targetModules: targetModules, excludedModules: excludeModules,
          feedForwardModules: feedForwardModules))
    case NormTuning.name: return .normTuning
    case BitFit.name: return .bitFit
    case EndBlocks.name: return .endBlocks
    case PrefixTuning.name:
      return .prefixTuning(
        try VirtualTokenConfiguration(virtualTokens: virtualTokens, start: start))
    case PromptTuning.name:
      return .promptTuning(
        try VirtualTokenConfiguration(virtualTokens: virtualTokens, start: start))
    case Bottleneck.name:
      return .bottleneck(
        try BottleneckConfiguration(size: bottleneckSize, activation: activation))
    default:
      throw PeatError.usage(
        "Unknown method '\(name)'. " + suggestion(for: name, among: Adapter.Method.names))
    }
  }
}
