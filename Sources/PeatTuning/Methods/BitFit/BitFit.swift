import PeatModels
import PeatTensor

/// The blocks' biases train, those of linear layers and of norms, and nothing else.
///
/// Tensors keep their names in the checkpoint. PEFT has no such method.
///
/// Source: Ben Zaken, Ravfogel and Goldberg 2021, <https://arxiv.org/abs/2106.10199>.
public struct BitFit: TuningMethod {
  public static let name = "bitfit"

  public init() {}

  public func initialState(
    for model: TransformerModel, blocks: [Int], using random: inout SeededRandom
  ) throws -> NamedTensors {
    let state = try weights.initialState(for: model, blocks: blocks)
    guard !state.isEmpty else {
      throw PeatError.usage(
        "A model of the type \(model.configuration.modelType) as this one has no biases, so bitfit has nothing to tune. Take "
          + "\(NormTuning.name), \(IA3.name) or \(LoRA.name).")
    }
    return state
  }

  public func inject(_ state: NamedTensors, into model: TransformerModel) throws -> InjectedAdapter
  {
    try weights.inject(state, into: model)
  }

  private var weights: OwnWeights {
    OwnWeights { $0.parameters.filter { $0.name.hasSuffix(".bias") } }
  }
}
