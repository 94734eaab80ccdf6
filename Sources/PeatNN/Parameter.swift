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
  /// Its own values, while others stand in for them.
  private var original: Tensor?

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

extension Parameter {
  /// Gives it new values: in place while it trains, so that the trainer's vector holds them.
  public func assign(_ new: Tensor) {
    precondition(new.shape == shape, "'\(name)' has shape \(shape), not \(new.shape)")
    if trains {
      tensor.pointer.update(from: new.pointer, count: count)
    } else {
      tensor = new.copied()
    }
  }

  /// Whether other values stand in for its own.
  package var isReplaced: Bool { original != nil }

  /// Lets other values stand in for its own until `restore()`. It must not train.
  package func replace(with other: Tensor) {
    precondition(
      !trains && !isReplaced && other.shape == shape, "'\(name)' can't take \(other.shape)")
    original = tensor
    tensor = other
  }

  /// Gives it back its own values.
  package func restore() {
    precondition(!trains, "'\(name)' still trains")
    if let original { tensor = original }
    original = nil
  }
}
