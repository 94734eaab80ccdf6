import PeatModels
import PeatNN
import PeatTensor

/// The blocks' norms train: scales, and shifts where they have them. An adapter that was tuned elsewhere may have the norm behind the blocks, too, as
/// PEFT's usual one has, of an encoder and a decoder both; and that of the embedding.
///
/// Tensors are named as PEFT's LN_TUNING names them: `base_model.model.` + the norm's name + `.ln_tuning_layers.weight` and `.bias`.
///
/// Source: Zhao et al. 2023, <https://arxiv.org/abs/2312.11420>.
public struct NormTuning: TuningMethod {
  public static let name = "norm-tuning"
  static let mark = ".ln_tuning_layers"

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

  /// Whether a tensor is of a norm behind the blocks, or of the embedding's.
  static func isBesideBlocks(_ name: String, _ keys: TransformerKeys) -> Bool {
    [keys.finalNorm, keys.decoder?.encoderNorm, keys.embeddingNorm].compactMap { $0 }
      .contains { norm in
        ["weight", "bias"].contains { name == "\(LoRA.prefix)\(norm)\(mark).\($0)" }
      }
  }

  private var weights: OwnWeights {
    OwnWeights(
      choice: { $0.norms },
      adapterName: { name in
        guard let dot = name.lastIndex(of: ".") else { return name }
        return LoRA.prefix + String(name[..<dot]) + Self.mark + String(name[dot...])
      },
      weightName: { name in
        guard name.hasPrefix(LoRA.prefix), let dot = name.lastIndex(of: "."),
          name[..<dot].hasSuffix(Self.mark)
        else { return nil }
        let norm = name[..<dot].dropFirst(LoRA.prefix.count).dropLast(Self.mark.count)
        return String(norm) + String(name[dot...])
      }, besideBlocks: { $0.normsBesideBlocks })
  }
}

extension TransformerModel {
  /// The weights of the norms that stand in front of blocks and behind them.
  var normsBesideBlocks: [Parameter] {
    (embeddingNorm?.parameters ?? []) + (encoderNorm?.parameters ?? [])
      + (finalNorm?.parameters ?? [])
  }
}
