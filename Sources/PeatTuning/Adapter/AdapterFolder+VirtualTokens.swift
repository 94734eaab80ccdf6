import Foundation
import PeatModels
import PeatTensor

extension AdapterFolder {
  /// Models that transformers computes without past keys and values, so that PEFT refuses them a prefix.
  private static let withoutPastKeys: Set = ["distilbert"]

  /// What PEFT's adapter_config.json says of a prompt or a prefix; `nil` for another method, and where PEFT can't read it.
  ///
  /// - Parameters:
  ///   - tensors: numbered as the folder counts blocks; a prefix becomes PEFT's table where it can.
  ///   - facts: gets what only fedpeat.json can say then.
  ///   - sizes: of the model it was tuned on, where somebody knows.
  static func virtualTokens(
    of method: Adapter.Method, _ tensors: inout NamedTensors, _ facts: inout Facts,
    _ keys: TransformerKeys, _ sizes: TransformerConfiguration?, baseModel: String
  ) throws -> JSONValue? {
    var values: [String: JSONValue] = [
      "base_model_name_or_path": .string(baseModel),
      "task_type": .string(keys.taskType),
      "inference_mode": .bool(true),
      "num_virtual_tokens": .integer(method.virtualTokens),
      "num_transformer_submodules": .integer(1),
      "num_layers": sizes.map { .integer($0.blockCount) } ?? .null,
      "revision": .null,
    ]
    switch method {
    case .promptTuning:
      values["peft_type"] = .string("PROMPT_TUNING")
      values["prompt_tuning_init"] = .string("RANDOM")
      values["num_attention_heads"] = sizes.map { .integer($0.heads) } ?? .null
      values["token_dim"] =
        tensors[PromptTuning.tensorName]?.shape.last.map { .integer($0) } ?? .null
    case .prefixTuning(let configuration):
      facts.modelType =
        sizes?.modelType ?? Architectures.all.first { $0.keys == keys.ofArchitecture }?.modelType
      func keepAside(_ reason: String) {
        facts.prefix = configuration
        facts.notInPEFT = reason
      }
      let all = keys.decoder == nil ? "every block" : "every block of the decoder"
      guard let sizes else {
        keepAside(
          "it is not known here whether \(all) of the model has a prefix, as PEFT's have")
        return nil
      }
      if Self.withoutPastKeys.contains(sizes.modelType) {
        keepAside(
          "PEFT makes prefixes through past keys and values, which transformers' \(sizes.modelType) does not take"
        )
        return nil
      }
      let layout = PrefixTable(blockCount: sizes.blockCount, keys)
      guard let table = layout(tensors) else {
        keepAside(
          "only some blocks have a prefix; PEFT's have one in \(all), and one of zeros would be another thing, as attention gives weight to it"
        )
        return nil
      }
      tensors = [PrefixTuning.tableName: table]
      values["num_layers"] = .integer(layout.slots)
      values["num_transformer_submodules"] = .integer(keys.decoder == nil ? 1 : 2)
      values["peft_type"] = .string("PREFIX_TUNING")
      values["prefix_projection"] = .bool(false)
      values["encoder_hidden_size"] = .integer(sizes.keyValueHeads * sizes.headWidth)
      values["num_attention_heads"] = .integer(sizes.keyValueHeads)
      values["token_dim"] = .integer(sizes.keyValueHeads * sizes.headWidth)
    case .lora, .endBlocks, .bottleneck, .ia3, .normTuning, .bitFit: return nil
    }
    return .object(values)
  }

  /// The tensors with PEFT's table of a prefix taken apart, block by block.
  ///
  /// - Parameters:
  ///   - stated: what adapter_config.json says of the table.
  ///   - blockCount: how many blocks the folder numbers.
  ///   - width: of a key, where the model is known.
  ///   - keys: as the folder counts blocks.
  static func withPrefix(
    _ tensors: NamedTensors, _ method: Adapter.Method, _ stated: PrefixTable.Stated?,
    blockCount: Int, width: Int? = nil, _ keys: TransformerKeys, _ folder: URL
  ) throws -> NamedTensors {
    guard case .prefixTuning = method, let table = tensors[PrefixTuning.tableName] else {
      return tensors
    }
    var rest = tensors
    rest[PrefixTuning.tableName] = nil
    // A head may stand beside it.
    if let name = rest.keys.filter({ !isOutsideBlocks($0, keys) }).min() {
      throw PeatError.badData(
        "'\(folder.path)' holds '\(name)' beside '\(PrefixTuning.tableName)', which is all that a prefix consists of."
      )
    }
    guard blockCount > 0 else {
      throw PeatError.badData(
        "'\(folder.path)' holds a prefix, but its fedpeat.json numbers no blocks.")
    }
    let layout = try PrefixTable(blockCount: blockCount, keys, stated, in: folder.path)
    return try layout.state(of: table, width: width, in: folder.path).merging(rest) { own, _ in own
    }
  }

  /// The method of a folder that is not PEFT's.
  static func ownMethod(_ facts: Facts?, _ folder: URL) throws -> Adapter.Method {
    switch facts?.method {
    case EndBlocks.name: return .endBlocks
    case BitFit.name: return .bitFit
    case Bottleneck.name:
      guard let configuration = facts?.bottleneck else { break }
      return .bottleneck(configuration)
    case PrefixTuning.name:
      guard let configuration = facts?.prefix else { break }
      return .prefixTuning(configuration)
    default: break
    }
    throw PeatError.inputOutput(
      "'\(folder.path)' is no adapter folder: it has neither an adapter_config.json (PEFT) nor a fedpeat.json that "
        + "describes one of the methods \(EndBlocks.name), \(BitFit.name), \(Bottleneck.name) and \(PrefixTuning.name)."
    )
  }
}
