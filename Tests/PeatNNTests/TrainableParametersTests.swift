import PeatNN
import PeatTensor
import Testing

@Suite("TrainableParameters") struct TrainableParametersTests {
  @Test func `values move into one vector, and back out when released`() {
    let original = Tensor([1, 2, 3, 4, 5, 6], shape: [2, 3])
    let first = Parameter("first", original)
    let second = Parameter("second", [7, 8])
    #expect(!first.trains)
    let trainable = TrainableParameters([first, second])
    #expect(first.trains && second.trains)
    #expect(trainable.count == 8)
    #expect(trainable.values.scalars == [1, 2, 3, 4, 5, 6, 7, 8])
    #expect(trainable.ranges == [0..<6, 6..<8])
    #expect(first.weight.gradientOffset == 0 && second.weight.gradientOffset == 6)

    trainable.values.withUnsafeMutableBufferPointer {
      $0[3] = 40
      $0[7] = 80
    }
    #expect(first.tensor == Tensor([1, 2, 3, 40, 5, 6], shape: [2, 3]))
    #expect(second.tensor == [7, 80])
    // The tensor it came with, which a checkpoint may share, is untouched.
    #expect(original.scalars == [1, 2, 3, 4, 5, 6])

    trainable.release()
    #expect(!first.trains && !second.trains)
    #expect(first.weight.gradientOffset == nil)
    trainable.values.withUnsafeMutableBufferPointer { $0.update(repeating: 0) }
    #expect(first.tensor.scalars == [1, 2, 3, 40, 5, 6] && second.tensor == [7, 80])
    // Released, they can train again.
    TrainableParameters([second, first]).release()
    #expect(first.tensor.scalars == [1, 2, 3, 40, 5, 6])
  }

  @Test func `assigning reaches the vector while a parameter trains`() {
    let parameter = Parameter("w", [1, 2])
    parameter.assign([3, 4])
    #expect(parameter.tensor == [3, 4])
    let trainable = TrainableParameters([parameter])
    let given: Tensor = [5, 6]
    parameter.assign(given)
    #expect(trainable.values == [5, 6])
    trainable.values.withUnsafeMutableBufferPointer { $0[0] = 9 }
    #expect(given == [5, 6])
    trainable.release()
  }

  @Test func `values that stand in for others give way to them again`() {
    let own: Tensor = [1, 2]
    let parameter = Parameter("w", own)
    parameter.replace(with: [3, 4])
    #expect(parameter.isReplaced && parameter.tensor == [3, 4])
    let trainable = TrainableParameters([parameter])
    trainable.values.withUnsafeMutableBufferPointer { $0[0] = 30 }
    trainable.release()
    #expect(parameter.tensor == [30, 4])
    parameter.restore()
    #expect(!parameter.isReplaced)
    #expect(parameter.tensor.storage === own.storage)
  }
}
