import PeatModels
import PeatNN
import PeatTensor

extension Adapter.Method {
  /// The method of tensors that stand in no folder of PEFT's: sizes follow from them, the rest must be said.
  ///
  /// - Parameters:
  ///   - tensors: of the adapter, whole.
  ///   - keys: how a model of their kind names its tensors.
  ///   - scales: of LoRA and DoRA.
  ///   - activation: of bottleneck adapters.
  /// - Throws: `badData` where the name is unknown, or something is missing.
  package init(
    named name: String, of tensors: NamedTensors, _ keys: TransformerKeys, scales: LowRankScales?,
    activation: String?
  ) throws {
    func first(_ suffix: String) -> Tensor? {
      tensors.filter { $0.key.hasSuffix(suffix) }.min { $0.key < $1.key }?.value
    }
    switch name {
    case LoRA.name, LoRA.magnitudeName:
      guard let scales else {
        throw PeatError.badData("It states no rank and alpha, which \(name) needs.")
      }
      var lora = try LoRAConfiguration(usesMagnitudes: name == LoRA.magnitudeName)
      lora.scales = scales
      lora.rankPattern = [:]
      self = .lora(lora)
    case EndBlocks.name: self = .endBlocks
    case BitFit.name: self = .bitFit
    case NormTuning.name: self = .normTuning
    case IA3.name: self = .ia3(try IA3Configuration(of: tensors, keys))
    case PrefixTuning.name, PromptTuning.name:
      let isPrompt = name == PromptTuning.name
      let tensor = isPrompt ? tensors[PromptTuning.tensorName] : first(PrefixTuning.keysSuffix)
      let configuration = try VirtualTokenConfiguration(
        virtualTokens: tensor?.shape.first ?? 0)
      self = isPrompt ? .promptTuning(configuration) : .prefixTuning(configuration)
    case Bottleneck.name:
      guard let activation, let function = BottleneckAdapter.Activation(rawValue: activation)
      else {
        throw PeatError.badData(
          "It says no activation of its bottlenecks: "
            + BottleneckAdapter.Activation.allCases.map(\.rawValue).joined(separator: " or ") + ".")
      }
      self = .bottleneck(
        try BottleneckConfiguration(
          size: first(".down.bias")?.shape.first ?? 0, activation: function))
    default:
      throw PeatError.badData(
        "It was tuned with the method '\(name)'. Known: "
          + Adapter.Method.names.joined(separator: ", ") + ".")
    }
  }
}
