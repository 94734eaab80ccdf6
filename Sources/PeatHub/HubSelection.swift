import PeatTensor

/// Which files of a repository make a model: configuration, tokenizer, weights in safetensors, and what says under which
/// licence it is.
struct HubSelection: Equatable {
  /// Small files, in alphabetical order.
  var small: [String]
  /// Weights.
  var weights: [String]

  private static let names: Set<String> = [
    "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
    "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt", "vocab.txt",
    "tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "chat_template.jinja",
    "chat_template.json", "preprocessor_config.json", "processor_config.json", "modules.json",
    "sentence_bert_config.json", "config_sentence_transformers.json", "adapter_config.json",
    "fedpeat.json", "emulator.json", "lineage.json", "README.md",
  ]

  static let index = "model.safetensors.index.json"

  /// - Throws: `badData` where there are weights, but none that can be loaded without running a stranger's code.
  init(_ files: [String], of name: HubName) throws {
    let files = Set(files)
    small = files.filter { HubSelection.isSmall($0) }.sorted()
    // A module of a sentence-transformers folder, such as 2_Dense/model.safetensors.
    weights = files.filter { $0.hasSuffix("/model.safetensors") && HubSelection.isModule($0) }
      .sorted()
    let top = files.filter { !$0.contains("/") && $0.hasSuffix(".safetensors") }
    if top.contains("model.safetensors") {
      weights.append("model.safetensors")
    } else if files.contains(HubSelection.index) {
      small.append(HubSelection.index)
      weights += top.filter { $0.wholeMatch(of: /model-\d+-of-\d+\.safetensors/) != nil }.sorted()
    }
    if top.contains("adapter_model.safetensors") { weights.append("adapter_model.safetensors") }
    if weights.isEmpty { weights = top.sorted() }
    guard weights.isEmpty else { return }
    guard let found = ForeignWeights(among: files) else {
      throw PeatError.badData("'\(name)' has no weights: none of its \(files.count) files is one.")
    }
    throw PeatError.badData(
      "'\(name)' has its weights only as '\(found.file)', and safetensors are read. \(found.advice(source: name.repository)) "
        + "Or look among the Hub's pull requests of the model for a conversion: 'fedpeat pull \(name.repository)@refs/pr/1'."
    )
  }

  private static func isSmall(_ file: String) -> Bool {
    if isModule(file) { return file.hasSuffix("/config.json") }
    guard !file.contains("/") else { return false }
    return names.contains(file) || file.hasPrefix("LICENSE") || file.hasPrefix("NOTICE")
  }

  /// Whether a file lies in a folder such as `1_Pooling`.
  private static func isModule(_ file: String) -> Bool {
    file.prefixMatch(of: /\d+_[A-Za-z]+\/[^\/]+$/) != nil
  }
}
