import PeatTensor

/// Where a model's weights come from, one at a time, so that a model in a small storage never needs all of them as
/// floats at once.
public protocol WeightSource {
  var names: Set<String> { get throws }
  /// The weight as float32; `nil` if there is none of this name.
  func tensor(named name: String) throws -> Tensor?
  /// The matrix as it is kept, where it is stored packed; `nil` if it is not.
  ///
  /// - Parameters:
  ///   - shape: that it must have.
  ///   - inputAxis: the input dimension of its layer.
  func packed(named name: String, shape: [Int], inputAxis: Int) throws -> PackedMatrix?
  /// Called once the weight was brought into other memory: its own may be given back.
  func release(_ name: String)
}

extension WeightSource {
  public func release(_ name: String) {}
  public func packed(named name: String, shape: [Int], inputAxis: Int) throws -> PackedMatrix? {
    nil
  }
}

extension Dictionary: WeightSource where Key == String, Value == Tensor {
  public var names: Set<String> { Set(keys) }
  public func tensor(named name: String) -> Tensor? { self[name] }
}

/// How a model keeps its frozen matrices: those of linear layers, the embedding and the head.
public struct StoragePlan: Sendable {
  private let storage: @Sendable (_ name: String) -> WeightStorage
  /// Whether scales are numbers that float16 has, as files keep them.
  let hasHalfScales: Bool

  /// - Parameters:
  ///   - halfScales: whether scales are numbers that float16 has, as files keep them.
  ///   - storage: the storage of a matrix, by the parameter's name.
  public init(
    halfScales: Bool = false, _ storage: @escaping @Sendable (_ name: String) -> WeightStorage
  ) {
    self.storage = storage
    hasHalfScales = halfScales
  }

  /// All in one storage.
  public static func all(_ storage: WeightStorage) -> StoragePlan { StoragePlan { _ in storage } }

  func callAsFunction(_ name: String) -> WeightStorage { storage(name) }
}
