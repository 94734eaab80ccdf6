import PeatModels
import PeatTensor

/// The end blocks' own weights train: the plain emulator-assisted tuning, without a smaller adapter.
///
/// Tensors keep their names in the checkpoint.
///
/// Source: Xiao, Lin and Han 2023, <https://arxiv.org/abs/2302.04870>.
public struct EndBlocks: TuningMethod {
  public static let name = "end-blocks"

  public init() {}

  public func initialState(
    for model: TransformerModel, blocks: [Int], using random: inout SeededRandom
  ) throws -> NamedTensors {
    try weights.initialState(for: model, blocks: blocks)
  }

  public func inject(_ state: NamedTensors, into model: TransformerModel) throws -> InjectedAdapter
  {
    try weights.inject(state, into: model)
  }

  private var weights: OwnWeights { OwnWeights { $0.parameters } }
}
