import Foundation
import PeatModels
import PeatTensor

/// What is tuned and travels: tensors in the full model's numbers, and how to read them.
public struct Adapter: Sendable {
  /// How the tensors act in a model.
  public enum Method: Sendable, Equatable {
    case lora(LoRAConfiguration)
    case endBlocks
    case prefixTuning(VirtualTokenConfiguration)
    case promptTuning(VirtualTokenConfiguration)
    case bottleneck(BottleneckConfiguration)
    case ia3(IA3Configuration)
    case normTuning
    case bitFit

    public var name: String {
      switch self {
      case .lora(let configuration):
        configuration.usesMagnitudes ? LoRA.magnitudeName : LoRA.name
      case .endBlocks: EndBlocks.name
      case .prefixTuning: PrefixTuning.name
      case .promptTuning: PromptTuning.name
      case .bottleneck: Bottleneck.name
      case .ia3: IA3.name
      case .normTuning: NormTuning.name
      case .bitFit: BitFit.name
      }
    }

    /// The names of all methods.
    public static let names = [
      LoRA.name, LoRA.magnitudeName, IA3.name, NormTuning.name, BitFit.name, EndBlocks.name,
      PrefixTuning.name, PromptTuning.name, Bottleneck.name,
    ]

    /// LoRA's configuration, where that is the method, or DoRA.
    public var lora: LoRAConfiguration? {
      if case .lora(let configuration) = self { configuration } else { nil }
    }

    public var tuning: any TuningMethod {
      switch self {
      case .lora(let configuration): LoRA(configuration)
      case .endBlocks: EndBlocks()
      case .prefixTuning(let configuration): PrefixTuning(configuration)
      case .promptTuning(let configuration): PromptTuning(configuration)
      case .bottleneck(let configuration): Bottleneck(configuration)
      case .ia3(let configuration): IA3(configuration)
      case .normTuning: NormTuning()
      case .bitFit: BitFit()
      }
    }

    /// Positions of the context that it takes from tokens.
    public var virtualTokens: Int {
      switch self {
      case .prefixTuning(let configuration): configuration.virtualTokens
      case .promptTuning(let configuration): configuration.virtualTokens
      case .lora, .endBlocks, .bottleneck, .ia3, .normTuning, .bitFit: 0
      }
    }

    /// Whether a plain checkpoint can hold what it does, worked into the model's weights.
    public var isMergeable: Bool {
      switch self {
      case .lora, .endBlocks, .ia3, .normTuning, .bitFit: true
      case .prefixTuning, .promptTuning, .bottleneck: false
      }
    }
  }

  public var method: Method
  /// Tensors by name; block numbers are those of the full model.
  public var state: NamedTensors
  /// The digest of the full model it belongs to; `nil` where nobody said.
  public var sourceDigest: Digest?

  public init(method: Method, state: NamedTensors, sourceDigest: Digest?) {
    self.method = method
    self.state = state
    self.sourceDigest = sourceDigest
  }

  /// A new adapter for some blocks (numbers in the full model) of a model.
  public init(
    new method: Method, for model: TransformerModel, blocks: [Int], seed: UInt64,
    sourceDigest: Digest?
  ) throws {
    var random = SeededRandom(seed: seed, "adapter")
    self.init(
      method: method,
      state: try method.tuning.initialState(for: model, blocks: blocks, using: &random)
        .merging(TunedHead.initialState(for: model)) { own, _ in own },
      sourceDigest: sourceDigest)
  }

  public var parameterCount: Int { state.parameterCount }

  /// Puts the adapter into a model that has its blocks: the full model, or an emulator of it.
  ///
  /// - Parameter trainedRank: how many components of low-rank pairs become parameters; the others act, and do not train. `nil`: all.
  public func inject(
    into model: TransformerModel, trainedRank: Int? = nil
  ) throws -> InjectedAdapter {
    let parts = TunedHead.split(state, of: model)
    if let name = parts.rest.keys.sorted().first(where: {
      AdapterFolder.isOutsideBlocks($0, model.configuration.keys)
    }) {
      throw PeatError.badData(
        "The adapter holds '\(name)' beside what its method tunes in blocks (PEFT's modules_to_save). Only the head of a model of classes is tuned whole, and this model \(model.configuration.head?.labels == nil ? "has none" : "has no such weight in its head")."
      )
    }
    let head = try TunedHead.inject(parts.head, into: model)
    do {
      return try injectBlocks(parts.rest, into: model, trainedRank).joined(by: head)
    } catch {
      head.remove()
      throw error
    }
  }

  private func injectBlocks(
    _ state: NamedTensors, into model: TransformerModel, _ trainedRank: Int?
  ) throws -> InjectedAdapter {
    guard let trainedRank else { return try method.tuning.inject(state, into: model) }
    guard case .lora(let configuration) = method else {
      throw PeatError.badData(
        "A part of the rank is to train (\(trainedRank)), but the method '\(method.name)' has no rank."
      )
    }
    return try LoRA(configuration).inject(state, into: model, trainedRank: trainedRank)
  }
}
