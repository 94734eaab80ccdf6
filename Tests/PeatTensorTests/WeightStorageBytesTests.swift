import PeatTensor
import Testing

@Suite("Bytes of a storage") struct WeightStorageBytesTests {
  @Test(
    arguments: WeightStorage.allCases.filter { $0 != .float32 },
    [(1, 1), (31, 5), (32, 5), (33, 5), (64, 7), (172, 64), (100, 1)])
  func `are those that a packed matrix takes`(storage: WeightStorage, size: (Int, Int)) {
    let (inputs, outputs) = size
    for axis in [0, 1] {
      let shape = axis == 1 ? [outputs, inputs] : [inputs, outputs]
      let matrix = PackedMatrix(Tensor(repeating: 0.5, shape: shape), as: storage, axis: axis)
      #expect(storage.bytes(inputs: inputs, outputs: outputs) == matrix.byteCount)
    }
  }

  @Test func `by hand`() {
    // 33 inputs are two groups of 32.
    #expect(WeightStorage.float32.bytes(inputs: 33, outputs: 2) == 264)
    #expect(WeightStorage.float16.bytes(inputs: 33, outputs: 2) == 256)
    #expect(WeightStorage.int8.bytes(inputs: 33, outputs: 2) == 2 * (64 + 8))
    #expect(WeightStorage.int4.bytes(inputs: 33, outputs: 2) == 2 * (32 + 8))
  }
}
