import PeatTensor

/// The parameters that train, side by side in one vector, so that clipping, AdamW and averaging are single loops.
///
/// Unchecked Sendable for the same reason as `Parameter`.
public final class TrainableParameters: @unchecked Sendable {
  public let parameters: [Parameter]
  /// All values, one parameter after the other.
  package let values: Tensor
  public var count: Int { values.count }
  private var isReleased = false

  /// Moves the parameters' values into one vector; from now on they train. Call `release()` to freeze them again.
  public init(_ parameters: [Parameter]) {
    self.parameters = parameters
    values = Tensor(uninitialized: [parameters.reduce(0) { $0 + $1.count }])
    var offset = 0
    for parameter in parameters {
      precondition(!parameter.trains, "'\(parameter.name)' is already trained by another trainer")
      let view = Tensor(shape: parameter.shape, storage: values.storage, offset: offset)
      let before = parameter.tensor
      view.pointer.update(from: before.pointer, count: parameter.count)
      before.releasePages()
      parameter.tensor = view
      parameter.gradientOffset = offset
      offset += parameter.count
    }
  }

  /// Ends training: each parameter keeps its values, in memory of its own, and is frozen. What became of it since is left alone when this is
  /// called again.
  public func release() {
    guard !isReleased else { return }
    isReleased = true
    for parameter in parameters {
      parameter.tensor = parameter.tensor.copied()
      parameter.gradientOffset = nil
    }
  }

  /// The place of each parameter in the vector.
  package var ranges: [Range<Int>] {
    var offset = 0
    return parameters.map { parameter in
      defer { offset += parameter.count }
      return offset..<offset + parameter.count
    }
  }
}
