import Foundation
import PeatModels
import PeatTensor

/// A tuned head in an adapter's folder: PEFT's `modules_to_save`. In an adapter's state its tensors have their names in the checkpoint.
extension AdapterFolder {
  /// The classes that an adapter tells apart, where its folder says so.
  public static func classes(of folder: URL) throws -> [String]? {
    struct Part: Decodable { var classes: [String]? }
    let url = folder.appendingPathComponent("fedpeat.json")
    guard FileManager.default.fileExists(atPath: url.path) else { return nil }
    return try JSONFile.read(Part.self, from: url).classes
  }

  /// Whether a tensor of a state belongs to no block and to no method.
  static func isOutsideBlocks(_ name: String, _ keys: TransformerKeys) -> Bool {
    !name.hasPrefix(LoRA.prefix) && !keys.isInBlock(name)
      && name != PromptTuning.tensorName && name != PrefixTuning.tableName
  }

  /// What stands in front of a saved module's name in PEFT's files: where PEFT leaves the model as it is, as with prompts, one level less.
  static func headPrefix(of method: Adapter.Method) -> String {
    switch method {
    case .prefixTuning, .promptTuning: "base_model."
    case .lora, .ia3, .normTuning, .endBlocks, .bitFit, .bottleneck: LoRA.prefix
    }
  }

  /// A head's tensors as they are stored, and their modules.
  ///
  /// - Parameter prefix: PEFT's; empty in a folder that is not its.
  static func storingHead(
    _ tensors: NamedTensors, prefix: String
  ) -> (tensors: NamedTensors, modules: [String]) {
    var result: NamedTensors = [:]
    var modules: Set<String> = []
    for (name, tensor) in tensors {
      result[prefix + name] = tensor
      modules.insert(String(name[..<(name.lastIndex(of: ".") ?? name.endIndex)]))
    }
    return (result, modules.sorted())
  }

  /// The tensors with those of saved modules under the names that they have in the checkpoint.
  ///
  /// Folders of older programs have a head beside a prompt under the longer prefix.
  static func readingHead(
    _ tensors: NamedTensors, modules: [String], of method: Adapter.Method
  ) -> NamedTensors {
    let prefixes = [LoRA.prefix, headPrefix(of: method)]
    var result: NamedTensors = [:]
    for (name, tensor) in tensors {
      let prefix = isSaved(name, modules) ? prefixes.first(where: name.hasPrefix) ?? "" : ""
      result[String(name.dropFirst(prefix.count))] = tensor
    }
    return result
  }

  /// The heads that PEFT names in every folder of its task SEQ_CLS, whichever of them a model has.
  private static let usualHeads: Set<String> = ["classifier", "score"]

  /// Whether a tensor is of one of the modules that are saved whole. PEFT takes modules by the end of their names, `norm` for `input_layernorm`, and all
  /// that is in them.
  static func isSaved(_ name: String, _ modules: [String]) -> Bool {
    let module = name[..<(name.lastIndex(of: ".") ?? name.endIndex)]
    return modules.contains { "\(module).".contains("\($0).") }
  }

  /// Throws where the folder has modules that are saved whole and that are no part of the model's head of classes.
  static func checkSavedModules(
    _ modules: [String], _ folder: URL, for model: TransformerModel
  ) throws {
    let own = TunedHead.names(of: model)
    func isOwn(_ module: String) -> Bool { own.contains { ".\($0)".contains(".\(module).") } }
    let hasUsual = usualHeads.contains(where: isOwn)
    for module in modules where !isOwn(module) && !(hasUsual && usualHeads.contains(module)) {
      throw PeatError.badData(
        "'\(folder.appendingPathComponent("adapter_config.json").path)' asks for the whole module '\(module)' beside the adapter (modules_to_save). Only the head of a model of classes is tuned whole, and this model \(own.isEmpty ? "has none" : "has no such module in its head")."
      )
    }
  }

  /// adapter_config.json with the modules that are saved whole.
  static func saving(_ modules: [String], in configuration: JSONValue) -> JSONValue {
    guard !modules.isEmpty, case .object(var table) = configuration else { return configuration }
    table["modules_to_save"] = .array(modules.map { .string($0) })
    // By this task PEFT saves the usual heads whole, whatever else is named.
    if modules.contains(where: { module in
      module.split(separator: ".").contains { usualHeads.contains(String($0)) }
    }) {
      table["task_type"] = .string("SEQ_CLS")
    }
    return .object(table)
  }

  /// The modules that adapter_config.json says are saved whole.
  static func savedModules(_ json: JSONValue, _ name: String) throws -> [String] {
    guard let value = json["modules_to_save"], !value.isNull else { return [] }
    guard let names = value.array?.map(\.string), !names.contains(nil) else {
      throw PeatError.badData(
        "'\(name)': modules_to_save must be a list of module names, or null.")
    }
    return names.compactMap { $0 }
  }
}

extension Checkpoint {
  /// The model with a head of the classes that an adapter tells apart, where its folder says so.
  public func classifying(as adapter: URL, seed: UInt64 = 0) throws -> Checkpoint {
    // The adapter has all of that head's weights.
    try AdapterFolder.classes(of: adapter).map {
      try classifying($0, seed: seed, head: .fitted)
    } ?? self
  }
}
