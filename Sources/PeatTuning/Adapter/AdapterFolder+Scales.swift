import Foundation
import PeatModels
import PeatTensor

extension AdapterFolder {
  /// What PEFT's adapter_config.json says of IA³ and of tuned norms; `nil` for another method.
  ///
  /// - Parameter tensors: numbered as the folder counts blocks. They say which layers are meant, so that PEFT makes just those.
  static func scalesAndNorms(
    of method: Adapter.Method, _ tensors: NamedTensors, _ keys: TransformerKeys,
    _ layout: WeightLayout, baseModel: String
  ) -> JSONValue? {
    var values: [String: JSONValue] = [
      "task_type": .string(keys.taskType),
      "base_model_name_or_path": .string(baseModel),
      "inference_mode": .bool(true),
      "modules_to_save": .null,
    ]
    func names(_ suffix: String, where holds: (Tensor) -> Bool = { _ in true }) -> JSONValue {
      let layers = tensors.filter { holds($0.value) }.keys.compactMap { name in
        name.range(of: suffix).map { String(name[..<$0.lowerBound].dropFirst(LoRA.prefix.count)) }
      }
      return .array(Set(layers).sorted().map { .string($0) })
    }
    switch method {
    case .ia3:
      values["peft_type"] = .string("IA3")
      values["target_modules"] = names(IA3.suffix)
      values["feedforward_modules"] = names(IA3.suffix) { $0.shape.first == 1 }
      values["fan_in_fan_out"] = .bool(layout == .inputsByOutputs)
      values["init_ia3_weights"] = .bool(true)
    case .normTuning:
      values["peft_type"] = .string("LN_TUNING")
      values["target_modules"] = names(NormTuning.mark)
    case .lora, .endBlocks, .prefixTuning, .promptTuning, .bottleneck, .bitFit: return nil
    }
    return .object(values)
  }

  /// IA³'s configuration by the layers that the tensors are of, instead of names that may hold block numbers.
  ///
  /// Throws `badData` where a vector does not lie as the file says its layer is scaled.
  static func scales(
    _ tensors: NamedTensors, _ stated: IA3Configuration, _ folder: URL
  ) throws -> IA3Configuration {
    guard let keys = Architectures.architecture(ofTensors: tensors.keys)?.keys else {
      return stated
    }
    for (name, tensor) in tensors.sorted(by: { $0.key < $1.key }) where name.hasSuffix(IA3.suffix) {
      let layer = name.dropFirst(LoRA.prefix.count).dropLast(IA3.suffix.count)
      let scalesInput = IA3.scalesInput(tensor)
      if let modules = stated.feedForwardModules,
        modules.contains(where: { layer == $0 || layer.hasSuffix(".\($0)") }) != scalesInput
      {
        throw PeatError.badData(
          "'\(folder.path)': '\(name)' has shape \(tensor.shape), but by feedforward_modules in adapter_config.json the layer "
            + "is \(scalesInput ? "none" : "one") of the feed-forward modules, whose vectors are [1, inputs]."
        )
      }
    }
    return try IA3Configuration(of: tensors, keys)
  }
}
