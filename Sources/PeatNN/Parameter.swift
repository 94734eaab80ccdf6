import PeatTensor

/// A named weight of a model.
///
/// Frozen until it is handed to `TrainableParameters`, which moves its values into a vector of its own.
///
/// Unchecked Sendable: forward passes on several threads read it; it is written only between steps, by the one
/// trainer that owns it.
public final class Parameter: @unchecked Sendable {
  /// The key in the checkpoint the model was read from.
  public let name: String
  /// The values. While the parameter trains they change with every step; copy what you keep.
  public package(set) var tensor: Tensor
  package var gradientOffset: Int?

  public init(_ name: String, _ tensor: Tensor) {
    self.name = name
    self.tensor = tensor
  }

  public var shape: [Int] { tensor.shape }
  public var count: Int { tensor.count }
  /// Whether a trainer updates it.
  public var trains: Bool { gradientOffset != nil }

  package var weight: Weight { Weight(tensor, gradientOffset: gradientOffset) }
}
