import PeatModels
import PeatTensor

/// An adapter plugged into the full model: by name, checked, and undone with `remove()`.
public final class PlugIn {
  public let model: TransformerModel
  private let injected: InjectedAdapter

  /// - Parameters:
  ///   - model: the full model.
  ///   - digest: the model's digest; compared with the digest the adapter says it belongs to.
  /// - Throws: `badData` where the adapter belongs to another model, or a name or shape does not fit. The model is then
  ///   unchanged.
  public init(_ adapter: Adapter, into model: TransformerModel, digest: Digest) throws {
    try PlugIn.checkSource(adapter, digest)
    self.model = model
    injected = try adapter.inject(into: model)
  }

  /// Gives back the model as it was, bit for bit.
  public func remove() { injected.remove() }

  static func checkSource(_ adapter: Adapter, _ digest: Digest) throws {
    guard let source = adapter.sourceDigest, source != digest else { return }
    throw PeatError.badData(
      "The adapter was tuned for the model with digest \(source.short)…, this one has \(digest.short)…. "
        + "Plug it into the model it was made from.")
  }

  /// A plain checkpoint's weights with the adapter worked into them: W + s · B · A, or the tuned blocks themselves.
  ///
  /// Throws `usage` for a method that no plain checkpoint can hold.
  ///
  /// - Returns: all tensors of the model by name, and the names of those that differ from the model's.
  public static func mergedTensors(
    _ adapter: Adapter, into model: TransformerModel, digest: Digest
  ) throws -> (tensors: NamedTensors, replaced: [String]) {
    guard adapter.method.isMergeable else {
      throw PeatError.usage(
        "\(adapter.method.name) adds to the model what no weight of a plain checkpoint can hold, so it can't be worked "
          + "into them. Plug it in without merging.")
    }
    let plugged = try PlugIn(adapter, into: model, digest: digest)
    defer { plugged.remove() }
    var tensors = model.tensors
    var replaced: [String] = []
    switch adapter.method {
    case .lora:
      for linear in model.blocks.flatMap(\.linears) {
        guard let pair = linear.lowRank else { continue }
        tensors[linear.weight.name] = mergingLowRank(
          linear.weight.tensor, down: pair.down.tensor, up: pair.up.tensor, scale: pair.scale,
          layout: linear.layout)
        replaced.append(linear.weight.name)
      }
    case .endBlocks:
      replaced = plugged.injected.parameters.map(\.name)
      for (name, parameter) in plugged.injected.parameters { tensors[name] = parameter.tensor }
    case .prefixTuning, .promptTuning, .bottleneck: break
    }
    return (tensors, replaced.sorted())
  }
}
