import PeatModels
import PeatNN
import PeatTensor

/// Several adapters for one model, of which at most one is at work.
///
///     let adapters = AdapterSet(model)
///     try adapters.add(adapter, as: "letters")
///     try adapters.activate("letters")
///     adapters.deactivate()  // the model is as it was, bit for bit
///
/// Owned by one thread at a time, as the model is while adapters come and go.
public final class AdapterSet {
  public let model: TransformerModel
  private let digest: Digest?
  private var adapters: [String: Adapter] = [:]
  private var work: (name: String, undo: () -> Void, isMerged: Bool)?

  /// - Parameter digest: of the full model; adapters of another one are then refused.
  public init(_ model: TransformerModel, digest: Digest? = nil) {
    self.model = model
    self.digest = digest
  }

  deinit { work?.undo() }

  /// In alphabetical order.
  public var names: [String] { adapters.keys.sorted() }
  /// The one at work; `nil`: the model is its own.
  public var active: String? { work?.name }
  /// Whether the one at work stands in the model's weights.
  public var isMerged: Bool { work?.isMerged ?? false }

  public subscript(name: String) -> Adapter? { adapters[name] }

  /// Holds one more, under a name that is free; it must fit the model, and does not act yet.
  public func add(_ adapter: Adapter, as name: String) throws {
    guard adapters[name] == nil else {
      throw PeatError.usage("There is an adapter '\(name)' already; remove it first.")
    }
    if let digest { try PlugIn.checkSource(adapter, digest) }
    // Trying is the check.
    let current = work
    deactivate()
    defer { restore(current) }
    try adapter.inject(into: model).remove()
    adapters[name] = adapter
  }

  /// Lets one act, in the place of the one that did.
  public func activate(_ name: String) throws {
    let adapter = try held(name)
    deactivate()
    let injected = try adapter.inject(into: model)
    work = (name, injected.remove, false)
  }

  /// Works one into the model's weights, where it costs nothing more; `deactivate()` gives the weights back.
  ///
  /// Throws `usage` for a method that no weight can hold.
  public func merge(_ name: String) throws {
    let adapter = try held(name)
    deactivate()
    let injected = try adapter.inject(into: model)
    let weights: [MergedWeight]
    do {
      weights = try MergedWeight.all(of: adapter, in: model)
    } catch {
      injected.remove()
      throw error
    }
    injected.remove()
    for weight in weights { weight.parameter.replace(with: weight.tensor.copied()) }
    work = (name, { for weight in weights { weight.parameter.restore() } }, true)
  }

  /// Gives the model back as it was, bit for bit; unmerges what is merged.
  public func deactivate() {
    work?.undo()
    work = nil
  }

  /// Forgets one, after taking it out of the model where it acts.
  public func remove(_ name: String) throws {
    _ = try held(name)
    if active == name { deactivate() }
    adapters[name] = nil
  }

  private func held(_ name: String) throws -> Adapter {
    guard let adapter = adapters[name] else {
      throw PeatError.usage("There is no adapter '\(name)'. " + suggestion(for: name, among: names))
    }
    return adapter
  }

  private func restore(_ former: (name: String, undo: () -> Void, isMerged: Bool)?) {
    guard let former else { return }
    do {
      if former.isMerged { try merge(former.name) } else { try activate(former.name) }
    } catch {
      // It was in this model a moment ago.
      preconditionFailure("the adapter '\(former.name)' no longer fits: \(error)")
    }
  }
}

/// A weight of the model with an adapter worked into it.
struct MergedWeight {
  let parameter: Parameter
  let tensor: Tensor

  /// What an adapter that is in the model makes of the model's weights.
  static func all(of adapter: Adapter, in model: TransformerModel) throws -> [MergedWeight] {
    guard adapter.method.isMergeable else {
      throw PeatError.usage(
        "\(adapter.method.name) adds to the model what no weight of a plain checkpoint can hold, so it can't be worked "
          + "into them. Plug it in without merging.")
    }
    let besideBlocks = model.normsBesideBlocks + (model.head?.parameters ?? [])
    let head = besideBlocks.filter(\.isReplaced).map {
      MergedWeight(parameter: $0, tensor: $0.tensor)
    }
    return head
      + model.blocks.flatMap { block in
        var result: [MergedWeight] = []
        var seen: Set<ObjectIdentifier> = []
        for linear in block.linears {
          let merged = linear.merged
          for (parameter, tensor) in [(linear.weight, merged.weight), (linear.bias, merged.bias)] {
            guard let parameter, let tensor else { continue }
            seen.insert(ObjectIdentifier(parameter))
            result.append(MergedWeight(parameter: parameter, tensor: tensor))
          }
        }
        for parameter in block.parameters
        where parameter.isReplaced && !seen.contains(ObjectIdentifier(parameter)) {
          result.append(MergedWeight(parameter: parameter, tensor: parameter.tensor))
        }
        return result
      }
  }
}
