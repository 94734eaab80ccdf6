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

  /// A plain checkpoint's weights with the adapter worked into them: W + s · B · A for LoRA, or the tuned weights themselves.
  ///
  /// Throws `usage` for a method that no plain checkpoint can hold.
  ///
  /// - Returns: all tensors of the model by name, and the names of those that differ from the model's.
  public static func mergedTensors(
    _ adapter: Adapter, into model: TransformerModel, digest: Digest
  ) throws -> (tensors: NamedTensors, replaced: [String]) {
    let plugged = try PlugIn(adapter, into: model, digest: digest)
    defer { plugged.remove() }
    var tensors = model.tensors
    let weights = try MergedWeight.all(of: adapter, in: model)
    for weight in weights { tensors[weight.parameter.name] = weight.tensor }
    return (tensors, weights.map(\.parameter.name).sorted())
  }
}
