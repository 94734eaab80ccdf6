import PeatModels
import PeatTensor

/// What the tensors of an adapter must be like, as far as that shows without its model: names of its method, parts that are complete and fit
/// each other.
package enum AdapterContents {
  /// - Parameter hasHead: whether a tuned head may stand among them; it is checked beside its model.
  /// - Throws: `badData` that names a tensor.
  package static func check(
    _ tensors: NamedTensors, _ method: Adapter.Method, _ keys: TransformerKeys, hasHead: Bool
  ) throws {
    let tensors =
      hasHead ? tensors.filter { !AdapterFolder.isOutsideBlocks($0.key, keys) } : tensors
    guard !tensors.isEmpty else { throw PeatError.badData("It is empty: it holds no tensors.") }
    if case .promptTuning = method {
      if let name = tensors.keys.filter({ $0 != PromptTuning.tensorName }).min() {
        throw stranger(name, method)
      }
      return
    }
    let parts = parts(of: method)
    /// What each layer or block has of the parts.
    var found: [String: Set<String>] = [:]
    for (name, tensor) in tensors.sorted(by: { $0.key < $1.key }) {
      if method == .normTuning, NormTuning.isBesideBlocks(name, keys) { continue }
      guard let place = Place(name, keys), let part = parts.first(where: place.path.hasSuffix),
        place.isPEFTs == method.isPEFTs
      else { throw stranger(name, method) }
      let owner = String(place.path.dropLast(part.count))
      if method.isOfLinearLayers, !keys.allLinearPaths.contains(owner) {
        throw stranger(name, method)
      }
      if method == .endBlocks, place.isOfAnotherMethod { throw stranger(name, method) }
      found[String(name.dropLast(part.count)), default: []].insert(part)
      guard !tensor.shape.contains(0), !tensor.shape.isEmpty else {
        throw PeatError.badData("It has '\(name)' with the impossible shape \(tensor.shape).")
      }
    }
    try tensors.checkPairs()
    if method.needsAllParts {
      for (owner, has) in found.sorted(by: { $0.key < $1.key }) {
        guard let missing = parts.first(where: { !has.contains($0) }) else { continue }
        throw PeatError.badData(
          "It has '\(owner)\(has.min() ?? "")' but no '\(owner)\(missing)'.")
      }
    }
    try checkMagnitudes(tensors)
    if case .prefixTuning(let prefix) = method { try checkPrefixes(tensors, prefix, keys) }
    if method.isOfWholeBlocks { try checkBlocksAreAlike(tensors, keys) }
  }

  private static func stranger(_ name: String, _ method: Adapter.Method) -> PeatError {
    .badData(
      "It has '\(name)', which is no tensor of the method '\(method.name)' in a model of this kind."
    )
  }

  private static func checkPrefixes(
    _ tensors: NamedTensors, _ prefix: VirtualTokenConfiguration, _ keys: TransformerKeys
  ) throws {
    for (name, tensor) in tensors.sorted(by: { $0.key < $1.key }) {
      if keys.decoder != nil, name.hasPrefix("\(keys.blocks).") {
        throw PeatError.badData(
          "It has '\(name)', a prefix of an encoder's block; only a decoder's have one.")
      }
      let isKey = name.hasSuffix(PrefixTuning.keysSuffix)
      let other =
        isKey
        ? tensors[name.dropLast(PrefixTuning.keysSuffix.count) + PrefixTuning.valuesSuffix]
        : tensor
      guard tensor.shape.count == 2, tensor.shape[0] == prefix.virtualTokens,
        other?.shape == tensor.shape
      else {
        throw PeatError.badData(
          "It has '\(name)' of shape \(tensor.shape); keys and values of \(prefix.virtualTokens) virtual tokens are both [\(prefix.virtualTokens), key width]."
        )
      }
    }
  }

  private static func checkMagnitudes(_ tensors: NamedTensors) throws {
    for (name, tensor) in tensors.sorted(by: { $0.key < $1.key })
    where name.hasSuffix(LoRA.magnitudeSuffix) {
      let up = tensors[name.dropLast(LoRA.magnitudeSuffix.count) + LowRankNames.up]
      guard tensor.shape.count == 1, tensor.shape.first == up?.shape.first else {
        throw PeatError.badData(
          "It has '\(name)' with shape \(tensor.shape) beside B of shape \(up?.shape ?? []): one number for each output."
        )
      }
    }
  }

  /// Blocks of a model have the same tensors, so an adapter of whole blocks does, too.
  private static func checkBlocksAreAlike(
    _ tensors: NamedTensors, _ keys: TransformerKeys
  ) throws {
    for stack in keys.stacks { try checkBlocksAreAlike(tensors, keys, in: stack) }
  }

  private static func checkBlocksAreAlike(
    _ tensors: NamedTensors, _ keys: TransformerKeys, in stack: String
  ) throws {
    var blocks: [String: [String: String]] = [:]
    for name in tensors.keys {
      guard let place = Place(name, keys), place.stack == stack else { continue }
      blocks[place.number, default: [:]][place.path] = name
    }
    let all = Set(blocks.values.flatMap(\.keys))
    for (number, paths) in blocks.sorted(by: { $0.key < $1.key }) {
      guard let missing = all.filter({ paths[$0] == nil }).min(),
        let other = blocks.values.compactMap({ $0[missing] }).min()
      else { continue }
      throw PeatError.badData(
        "It has '\(other)', but nothing of the kind for block \(number): there is no '\(stack).\(number).\(missing)'."
      )
    }
  }

  /// Ends of names, of which each layer or block has one of each.
  static func parts(of method: Adapter.Method) -> [String] {
    switch method {
    case .lora(let lora):
      [LowRankNames.down, LowRankNames.up] + (lora.usesMagnitudes ? [LoRA.magnitudeSuffix] : [])
    case .ia3: [IA3.suffix]
    case .normTuning: [NormTuning.mark + ".weight", NormTuning.mark + ".bias"]
    case .bitFit: [".bias"]
    case .endBlocks: [".weight", ".bias"]
    case .prefixTuning:
      // Behind the name of a block there is nothing but these.
      [PrefixTuning.keysSuffix, PrefixTuning.valuesSuffix].map { String($0.dropFirst()) }
    case .bottleneck:
      Bottleneck.places.flatMap { place in Bottleneck.parts.map { "\(place).\($0)" } }
    case .promptTuning: [PromptTuning.tensorName]
    }
  }

  /// Where a tensor sits.
  private struct Place {
    /// `model.layers`.
    var stack: String
    /// Of its block, in the adapter's numbers.
    var number: String
    /// Its name within the block.
    var path: String
    /// Whether the name is one of PEFT's.
    var isPEFTs: Bool

    init?(_ name: String, _ keys: TransformerKeys) {
      guard let (before, number, after) = AdapterFolder.split(name, keys), let value = Int(number),
        value >= 0, number == String(value)
      else { return nil }
      stack = String(LowRankNames.inModel(before).dropLast())
      self.number = String(number)
      path = String(after.dropFirst())
      isPEFTs = before.hasPrefix(LoRA.prefix)
    }

    var isOfAnotherMethod: Bool {
      ["lora_", "_adapter.", "attention_prefix."].contains { path.contains($0) }
    }
  }
}

extension Adapter.Method {
  /// Whether PEFT's names stand in front of the model's.
  var isPEFTs: Bool {
    switch self {
    case .lora, .ia3, .normTuning: true
    case .endBlocks, .bitFit, .prefixTuning, .promptTuning, .bottleneck: false
    }
  }

  fileprivate var isOfLinearLayers: Bool {
    switch self {
    case .lora, .ia3: true
    case .normTuning, .endBlocks, .bitFit, .prefixTuning, .promptTuning, .bottleneck: false
    }
  }

  /// Whether a layer or block that has one part has all.
  fileprivate var needsAllParts: Bool {
    switch self {
    case .lora, .ia3, .prefixTuning, .bottleneck: true
    case .normTuning, .endBlocks, .bitFit, .promptTuning: false
    }
  }

  /// Whether every block that has something has the same.
  fileprivate var isOfWholeBlocks: Bool {
    switch self {
    case .endBlocks, .bitFit, .prefixTuning, .bottleneck: true
    case .lora, .ia3, .normTuning, .promptTuning: false
    }
  }
}
