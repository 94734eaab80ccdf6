import PeatNN
import PeatTensor
import PeatTuning

typealias NamedParameter = (name: String, parameter: Parameter)

/// AdamW's moments as a trainer carries them from round to round: `first.NAME` and `second.NAME` for each tensor that trains, and `steps`.
extension Trainer.Moments {
  private static let (firstName, secondName, stepsName) = ("first.", "second.", "steps")
  /// float32 holds whole numbers up to 2²⁴: the steps are kept in two parts.
  private static let stepsBase = 1 << 20

  func tensors(of trained: [NamedParameter]) -> NamedTensors {
    var result: NamedTensors = [
      Self.stepsName: Tensor(
        [Float(steps % Self.stepsBase), Float(steps / Self.stepsBase)], shape: [2])
    ]
    for (name, tensor) in trained.tensors(of: first.scalars) {
      result[Self.firstName + name] = tensor
    }
    for (name, tensor) in trained.tensors(of: second.scalars) {
      result[Self.secondName + name] = tensor
    }
    return result
  }

  /// `nil` where there are none, or where they are of other tensors: other levels and ranks train others.
  init?(_ tensors: NamedTensors, of trained: [NamedParameter]) {
    guard tensors.count == 2 * trained.count + 1,
      let parts = tensors[Self.stepsName]?.scalars.compactMap({ Int(exactly: $0) }),
      parts.count == 2, parts.allSatisfy((0..<Self.stepsBase).contains)
    else { return nil }
    var (first, second): ([Float], [Float]) = ([], [])
    for (name, parameter) in trained {
      guard let mean = tensors[Self.firstName + name], mean.shape == parameter.shape,
        let square = tensors[Self.secondName + name], square.shape == parameter.shape,
        square.scalars.allSatisfy({ $0 >= 0 })
      else { return nil }
      first += mean.scalars
      second += square.scalars
    }
    self.init(
      parameters: trained.map(\.parameter.name), steps: parts[0] + parts[1] * Self.stepsBase,
      first: Tensor(first, shape: [first.count]),
      second: Tensor(second, shape: [second.count]))
  }
}

extension [NamedParameter] {
  /// A value for each that trains, by name.
  func tensors(of values: [Float]) -> NamedTensors {
    var offset = 0
    return reduce(into: [:]) { result, entry in
      let shape = entry.parameter.shape
      let count = shape.reduce(1, *)
      result[entry.name] = Tensor([Float](values[offset..<offset + count]), shape: shape)
      offset += count
    }
  }
}
