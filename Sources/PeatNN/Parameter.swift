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
  fileprivate enum Values {
    case dense(Tensor)
    case packed(PackedMatrix)
  }

  fileprivate var values: Values
  public let shape: [Int]
  package var gradientOffset: Int?
  /// Its own values, while others stand in for them.
  fileprivate var original: Values?

  public init(_ name: String, _ tensor: Tensor) {
    self.name = name
    shape = tensor.shape
    values = .dense(tensor)
  }

  /// A frozen matrix that is packed already.
  public init(_ name: String, _ matrix: PackedMatrix) {
    self.name = name
    shape = [matrix.rows, matrix.columns]
    values = .packed(matrix)
  }

  /// The matrix as it is kept, where it is packed.
  public var packed: PackedMatrix? {
    if case .packed(let matrix) = values { matrix } else { nil }
  }

  /// The values. While the parameter trains they change with every step; copy what you keep. Of a packed parameter it
  /// is what computations see, in memory of its own.
  public package(set) var tensor: Tensor {
    get {
      switch values {
      case .dense(let tensor): tensor
      case .packed(let matrix): matrix.unpacked()
      }
    }
    set { values = .dense(newValue) }
  }

  /// How the values are kept.
  public var storage: WeightStorage {
    switch values {
    case .dense: .float32
    case .packed(let matrix): matrix.storage
    }
  }

  /// Bytes that the values take.
  public var byteCount: Int {
    switch values {
    case .dense: count * MemoryLayout<Float>.stride
    case .packed(let matrix): matrix.byteCount
    }
  }

  /// Keeps a frozen matrix in fewer bytes from now on.
  ///
  /// - Parameters:
  ///   - axis: the input dimension of the layer.
  ///   - halfScales: whether scales are numbers that float16 has, as files keep them.
  public func pack(as storage: WeightStorage, axis: Int, halfScales: Bool = false) {
    precondition(!trains && !isReplaced, "'\(name)' is in use")
    values =
      storage == .float32
      ? .dense(tensor)
      : .packed(PackedMatrix(tensor, as: storage, axis: axis, halfScales: halfScales))
  }

  /// Keeps a frozen matrix as somebody packed it.
  public func pack(_ matrix: PackedMatrix) {
    precondition(
      !trains && !isReplaced && shape == [matrix.rows, matrix.columns], "'\(name)' is in use")
    values = .packed(matrix)
  }

  public var count: Int { shape.reduce(1, *) }
  /// Whether a trainer updates it.
  public var trains: Bool { gradientOffset != nil }

  package var weight: Weight {
    switch values {
    case .dense(let tensor): Weight(tensor, gradientOffset: gradientOffset)
    case .packed(let matrix): Weight(matrix)
    }
  }
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
    original = values
    values = .dense(other)
  }

  /// Gives it back its own values.
  package func restore() {
    precondition(!trains, "'\(name)' still trains")
    if let original { values = original }
    original = nil
  }
}
