/// The memory behind tensors: floats that this object allocated, or that lie in a mapped file.
///
/// Unchecked because the compiler can't see the rule that makes it safe: storage is written only while one owner
/// holds it (the constructor, or the trainer that owns a parameter), and is read-only once it is shared.
public final class TensorStorage: @unchecked Sendable {
  package let pointer: UnsafeMutablePointer<Float>
  package let count: Int
  fileprivate let keepAlive: AnyObject?

  package init(count: Int) {
    self.count = count
    pointer = .allocate(capacity: max(count, 1))
    keepAlive = nil
  }

  /// Floats inside memory that `owner` keeps alive. Must not be written.
  package init(borrowing pointer: UnsafeMutablePointer<Float>, count: Int, from owner: AnyObject) {
    self.pointer = pointer
    self.count = count
    keepAlive = owner
  }

  deinit { if keepAlive == nil { pointer.deallocate() } }
}

/// A dense float32 array in row-major order.
///
/// A value: what you read from it does not change while you hold it. (A trainer updates the tensors of its own
/// parameters in place; what it hands out are copies.)
public struct Tensor: Sendable {
  public let shape: [Int]
  package let storage: TensorStorage
  package let offset: Int

  public var count: Int { shape.reduce(1, *) }

  package var pointer: UnsafeMutablePointer<Float> { storage.pointer + offset }

  package init(shape: [Int], storage: TensorStorage, offset: Int = 0) {
    precondition(
      offset + shape.reduce(1, *) <= storage.count,
      "Tensor of shape \(shape) at \(offset) does not fit in \(storage.count) floats")
    self.shape = shape
    self.storage = storage
    self.offset = offset
  }

  public init(zeros shape: [Int]) {
    self.init(repeating: 0, shape: shape)
  }

  public init(repeating value: Float, shape: [Int]) {
    self.init(uninitialized: shape)
    pointer.update(repeating: value, count: count)
  }

  package init(uninitialized shape: [Int]) {
    self.init(shape: shape, storage: TensorStorage(count: shape.reduce(1, *)))
  }

  /// A tensor of the given values in row-major order; one dimension if no shape is given.
  public init(_ values: [Float], shape: [Int]? = nil) {
    let shape = shape ?? [values.count]
    precondition(
      shape.reduce(1, *) == values.count, "Tensor: \(values.count) values for shape \(shape)")
    self.init(uninitialized: shape)
    values.withUnsafeBufferPointer { source in
      if let base = source.baseAddress { pointer.update(from: base, count: source.count) }
    }
  }

  /// The values in row-major order.
  public var scalars: [Float] {
    withUnsafeBufferPointer { Array($0) }
  }

  public func withUnsafeBufferPointer<Result>(
    _ body: (UnsafeBufferPointer<Float>) throws -> Result
  ) rethrows -> Result {
    try withExtendedLifetime(storage) {
      try body(UnsafeBufferPointer(start: pointer, count: count))
    }
  }

  /// Writes the elements in place. The caller is the only owner of the storage.
  package func withUnsafeMutableBufferPointer<Result>(
    _ body: (UnsafeMutableBufferPointer<Float>) throws -> Result
  ) rethrows -> Result {
    try withExtendedLifetime(storage) {
      try body(UnsafeMutableBufferPointer(start: pointer, count: count))
    }
  }

  /// The same values in memory of their own.
  public func copied() -> Tensor {
    let copy = Tensor(uninitialized: shape)
    copy.pointer.update(from: pointer, count: count)
    return copy
  }

  /// The same values under another shape of as many elements.
  public func reshaped(_ shape: [Int]) -> Tensor {
    precondition(shape.reduce(1, *) == count, "reshaped: \(self.shape) to \(shape)")
    return Tensor(shape: shape, storage: storage, offset: offset)
  }

  /// Rows `range` of the first dimension, sharing memory.
  package func rows(_ range: Range<Int>) -> Tensor {
    precondition(!shape.isEmpty && range.upperBound <= shape[0], "rows \(range) of \(shape)")
    let width = shape.dropFirst().reduce(1, *)
    return Tensor(
      shape: [range.count] + shape.dropFirst(), storage: storage,
      offset: offset + range.lowerBound * width)
  }

  /// Whether the other one has the same bits in the same order.
  public func hasSameBits(as other: Tensor) -> Bool {
    guard count == other.count else { return false }
    return withUnsafeBufferPointer { a in
      other.withUnsafeBufferPointer { b in
        zip(a, b).allSatisfy { $0.bitPattern == $1.bitPattern }
      }
    }
  }

  /// Whether every value is a number (no NaN, no infinity).
  public var isFinite: Bool {
    withUnsafeBufferPointer { values in values.allSatisfy { $0.isFinite } }
  }

  /// A new tensor with `transform` applied to each value.
  public func map(_ transform: (Float) throws -> Float) rethrows -> Tensor {
    let result = Tensor(uninitialized: shape)
    try withUnsafeBufferPointer { source in
      for i in source.indices { result.pointer[i] = try transform(source[i]) }
    }
    return result
  }
}

extension Tensor {
  /// Whether the values lie in a mapped file, so that they can be let go and read again.
  package var isMapped: Bool { storage.keepAlive is MappedFile }

  /// Gives the memory of values that lie in a file back to the system; they are read again when somebody looks. Does nothing where they don't.
  package func releasePages() {
    guard let file = storage.keepAlive as? MappedFile, let base = file.bytes.baseAddress else {
      return
    }
    let first = UnsafeRawPointer(pointer) - base
    file.releasePages(first..<first + count * MemoryLayout<Float>.stride)
  }

  /// A matrix with rows and columns exchanged, in memory of its own.
  package func transposed() -> Tensor {
    precondition(shape.count == 2, "transposed: \(shape)")
    let (rows, columns) = (shape[0], shape[1])
    let result = Tensor(uninitialized: [columns, rows])
    for row in 0..<rows {
      for column in 0..<columns {
        result.pointer[column * rows + row] = pointer[row * columns + column]
      }
    }
    return result
  }
}

extension Tensor: Equatable {
  /// Same shape and, element by element, the same float (so NaN differs from itself).
  public static func == (left: Tensor, right: Tensor) -> Bool {
    guard left.shape == right.shape else { return false }
    return left.withUnsafeBufferPointer { a in
      right.withUnsafeBufferPointer { b in a.elementsEqual(b) }
    }
  }
}

extension Tensor: ExpressibleByArrayLiteral {
  public init(arrayLiteral elements: Float...) { self.init(elements) }
}

extension Tensor: CustomStringConvertible {
  public var description: String {
    let shown = scalars.prefix(8).map { "\($0)" }.joined(separator: ", ")
    return "Tensor\(shape)[\(shown)\(count > 8 ? ", …" : "")]"
  }
}

/// Tensors by name: the one value that goes through every room, from the checkpoint to the update and back.
public typealias NamedTensors = [String: Tensor]

extension NamedTensors {
  /// The first by name that holds NaN or infinity.
  package var firstNotFinite: String? { keys.sorted().first { self[$0]?.isFinite == false } }
}

extension [String: Tensor] {
  /// How many values all tensors hold together.
  public var parameterCount: Int { values.reduce(0) { $0 + $1.count } }

  /// The same tensors, each in memory of its own.
  public func copied() -> NamedTensors { mapValues { $0.copied() } }
}
