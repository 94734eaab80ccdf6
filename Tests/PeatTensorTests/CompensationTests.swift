import Foundation
import PeatTensor
import TestSupport
import Testing

@Suite("Rounding that is compensated") struct CompensationTests {
  /// Inputs that are correlated, as hidden states are, and a matrix.
  private struct Sample {
    let weights: Tensor
    let inputs: Tensor
    let products: Tensor

    init(outputs: Int, inputs count: Int, tokens: Int = 400, seed: UInt64 = 3) {
      var random = SeededRandom(seed: seed)
      func normal(_ shape: [Int]) -> Tensor {
        Tensor((0..<shape.reduce(1, *)).map { _ in random.normal() }, shape: shape)
      }
      weights = normal([outputs, count])
      let hidden = normal([tokens, count / 3 + 1])
      inputs = matrixProduct(hidden, normal([count / 3 + 1, count]))
      let noise = normal([tokens, count])
      for place in 0..<inputs.count { inputs.pointer[place] += 0.3 * noise.pointer[place] }
      products = matrixProduct(inputs.transposed(), inputs)
    }

    /// Σ ‖(W − W′) · x‖².
    func error(_ other: Tensor) -> Double {
      let off = Tensor(uninitialized: weights.shape)
      for place in 0..<off.count {
        off.pointer[place] = weights.pointer[place] - other.pointer[place]
      }
      return matrixProduct(off, inputs.transposed()).withUnsafeBufferPointer {
        $0.reduce(0) { $0 + Double($1) * Double($1) }
      }
    }
  }

  @Test(arguments: [(WeightStorage.int4, 70), (.int4, 33), (.int8, 64)])
  func `outputs change less than where each weight is rounded for itself`(
    storage: WeightStorage, inputs: Int
  ) throws {
    let sample = Sample(outputs: 24, inputs: inputs)
    let nearest = PackedMatrix(sample.weights, as: storage, axis: 1, halfScales: true)
    let compensated = try PackedMatrix(
      sample.weights, as: storage, axis: 1, products: sample.products, named: "w")
    let (plain, better) = (sample.error(nearest.unpacked()), sample.error(compensated.unpacked()))
    #expect(better < 0.6 * plain, "\(better) beside \(plain)")
    // The transpose with its columns as inputs is the same matrix.
    let transposed = try PackedMatrix(
      sample.weights.transposed(), as: storage, axis: 0, products: sample.products, named: "w")
    #expect(transposed.unpacked().transposed() == compensated.unpacked())
  }

  /// The optimal brain surgeon's update, weight by weight, with the inverse of what is left found anew each time, in double precision.
  @Test func `each weight is rounded after the least squares update of those before it`() throws {
    let sample = Sample(outputs: 6, inputs: 40)
    let packed = try PackedMatrix(
      sample.weights, as: .int4, axis: 1, products: sample.products, named: "w")
    let scaleBytes = try #require(packed.stored[PackedMatrix.scalesSuffix]).bytes
    func scale(_ row: Int, _ group: Int) -> Double {
      let place = 2 * (row * 2 + group)
      let bits = UInt16(scaleBytes[place]) | UInt16(scaleBytes[place + 1]) << 8
      return Double(Float16(bitPattern: bits))
    }
    let count = 40
    var matrix = (0..<count).map { row in
      (0..<count).map { Double(sample.products.pointer[row * count + $0]) }
    }
    let mean = (0..<count).reduce(0) { $0 + matrix[$1][$1] } / Double(count)
    for index in 0..<count { matrix[index][index] += 0.01 * mean }
    let found = packed.unpacked()
    var same = 0
    for row in 0..<6 {
      var weights = (0..<count).map { Double(sample.weights.pointer[row * count + $0]) }
      for index in 0..<count {
        let s = scale(row, index / 32)
        let q = max(-7, min(7, (weights[index] / s).rounded(.toNearestOrEven))) * s
        if abs(q - Double(found.pointer[row * count + index])) < 1e-4 { same += 1 }
        let inverse = Self.inverse(Array(matrix[index...].map { Array($0[index...]) }))
        let error = (weights[index] - q) / inverse[0][0]
        for other in index..<count { weights[other] -= error * inverse[0][other - index] }
      }
    }
    // A weight next to the middle between two integers may go either way, and then those after it.
    #expect(Double(same) >= 0.97 * 240, "\(same) of 240")
  }

  /// By Gauss and Jordan.
  private static func inverse(_ matrix: [[Double]]) -> [[Double]] {
    let count = matrix.count
    var rows = matrix.enumerated().map { index, row in
      row + (0..<count).map { $0 == index ? 1.0 : 0 }
    }
    for column in 0..<count {
      let pivot = rows[column][column]
      rows[column] = rows[column].map { $0 / pivot }
      for row in 0..<count where row != column {
        let factor = rows[row][column]
        for place in 0..<2 * count { rows[row][place] -= factor * rows[column][place] }
      }
    }
    return rows.map { Array($0[count...]) }
  }

  @Test func `inputs that are nothing leave rounding as it is, and damaged ones are refused`()
    throws
  {
    let sample = Sample(outputs: 4, inputs: 32)
    let plain = try PackedMatrix(
      sample.weights, as: .int8, axis: 1, products: Tensor(zeros: [32, 32]), named: "w")
    let nearest = PackedMatrix(sample.weights, as: .int8, axis: 1, halfScales: true).unpacked()
    #expect(sample.error(plain.unpacked()) <= 1.2 * sample.error(nearest))
    sample.products.pointer[5] = .nan
    expectError(.badData, "What goes into 'w'", "NaN") {
      _ = try PackedMatrix(
        sample.weights, as: .int4, axis: 1, products: sample.products, named: "w")
    }
  }

  @Test func `a Cholesky factor's parts are what they say`() throws {
    let sample = Sample(outputs: 1, inputs: 12)
    let factor = try CholeskyFactor(of: sample.products, damping: 0.01, named: "w")
    let product = matrixProduct(factor.lower, factor.lower.transposed())
    let mean = (0..<12).reduce(Float(0)) { $0 + sample.products.pointer[$1 * 13] } / 12
    let upper = try factor.inverseFactor(named: "w")
    let one = matrixProduct(matrixProduct(upper.transposed(), upper), product)
    let divided = factor.dividing(matrixProduct(sample.weights, factor.lower))
    for row in 0..<12 {
      #expect(abs(divided.pointer[row] - sample.weights.pointer[row]) < 1e-3)
      for column in 0..<12 {
        let place = row * 12 + column
        let expected = sample.products.pointer[place] + (row == column ? 0.01 * mean : 0)
        #expect(abs(product.pointer[place] - expected) < 1e-4 * mean)
        #expect(abs(one.pointer[place] - (row == column ? 1 : 0)) < 2e-3)
        if column > row { #expect(factor.lower.pointer[place] == 0) }
        if column < row { #expect(upper.pointer[place] == 0) }
      }
    }
  }

  @Test(arguments: [WeightStorage.int8, .int4], [0, 1])
  func `sparse integers come back, and damaged ones are refused`(
    storage: WeightStorage, axis: Int
  ) throws {
    var random = SeededRandom(seed: 5)
    let dense = Tensor(
      (0..<41 * 37).map { _ in random.uniform() < 0.1 ? random.normal() : Float(0) },
      shape: [41, 37])
    let packed = PackedMatrix(dense, as: storage, axis: axis, halfScales: true)
    let parts = try #require(packed.storedSparsely)
    let count = packed.unpacked().withUnsafeBufferPointer { $0.count { $0 != 0 } }
    #expect(parts[""]?.shape == [storage == .int8 ? count : (count + 1) / 2])
    #expect(parts[SparseTensor.maskSuffix]?.bytes.count == (41 * 37 + 7) / 8)
    let full = Tensor((0..<41 * 37).map { Float($0 % 50 + 20) }, shape: [41, 37])
    #expect(PackedMatrix(full, as: storage, axis: axis, halfScales: true).storedSparsely == nil)
    try withTemporaryFolder { folder in
      func read(
        _ change: (inout [String: SafeTensors.Raw]) -> Void = { _ in }
      ) throws -> PackedMatrix {
        var parts = parts
        change(&parts)
        let url = folder.appendingPathComponent("a.safetensors")
        try SafeTensors.write(
          [:], raw: Dictionary(uniqueKeysWithValues: parts.map { ("w" + $0, $1) }), to: url,
          as: { _ in .float32 })
        return try PackedMatrix(
          sparse: storage, shape: [41, 37], axis: axis,
          in: try SafeTensorsFile(contentsOf: url), name: "w")
      }
      let again = try read()
      #expect(again.unpacked() == packed.unpacked())
      #expect(again.stored.mapValues(\.bytes) == packed.stored.mapValues(\.bytes))
      expectError(.badData, "places of its mask") { _ = try read { $0["_mask"]?.bytes[0] ^= 0x07 } }
      expectError(.badData, "needs 'w_mask'") { _ = try read { $0["_mask"] = nil } }
      expectError(.badData, "needs 'w_scales'") { _ = try read { $0["_scales"] = nil } }
      expectError(.badData, "places of its mask") { _ = try read { $0[""]?.dtype = "BOOL" } }
      // Below the least value that there is.
      expectError(.badData, "below") {
        _ = try read { $0[""]?.bytes[0] = storage == .int8 ? 0x80 : 0x00 }
      }
      // As many places, one of them behind the last.
      expectError(.badData, "too many places") {
        _ = try read {
          guard let mask = $0["_mask"]?.bytes, let place = mask.firstIndex(where: { $0 != 0 })
          else { return }
          $0["_mask"]?.bytes[place] &= mask[place] - 1
          $0["_mask"]?.bytes[mask.count - 1] |= 0x80
        }
      }
    }
  }

  @Test func `a sparse tensor comes back, and a damaged mask is refused`() throws {
    var random = SeededRandom(seed: 4)
    let dense = Tensor(
      (0..<63).map { _ in random.uniform() < 0.3 ? random.normal() : Float(0) }, shape: [9, 7])
    let parts = try #require(SparseTensor.stored(dense, bytesPerValue: 4))
    #expect(parts.mask.bytes.count == 8)
    #expect(parts.values.withUnsafeBufferPointer { $0.allSatisfy { $0 != 0 } })
    let full = Tensor((0..<63).map { Float($0 + 1) }, shape: [9, 7])
    #expect(SparseTensor.stored(full, bytesPerValue: 4) == nil)
    try withTemporaryFolder { folder in
      func write(_ mask: SafeTensors.Raw) throws -> SafeTensorsFile {
        let url = folder.appendingPathComponent("a.safetensors")
        try SafeTensors.write(
          ["w": parts.values], raw: ["w_mask": mask], to: url, as: { _ in .float32 })
        return try SafeTensorsFile(contentsOf: url)
      }
      let read = try SparseTensor.read("w", shape: [9, 7], longest: 9, from: try write(parts.mask))
      #expect(read == dense)
      var more = parts.mask
      more.bytes[0] = 0xff
      expectError(.badData, "mask with more places") {
        _ = try SparseTensor.read("w", shape: [9, 7], longest: 9, from: try write(more))
      }
      var fewer = parts.mask
      for place in fewer.bytes.indices.prefix(4) { fewer.bytes[place] = 0 }
      expectError(.badData, "values and a mask of") {
        _ = try SparseTensor.read("w", shape: [9, 7], longest: 9, from: try write(fewer))
      }
      var beyond = parts.mask
      beyond.bytes[7] |= 0x80
      expectError(.badData, "more places") {
        _ = try SparseTensor.read("w", shape: [9, 7], longest: 9, from: try write(beyond))
      }
      for shape in [[9], [0, 4], [10, 7], [9, 8], [-9, -7]] {
        expectError(.badData, "'w'") {
          _ = try SparseTensor.read("w", shape: shape, longest: 9, from: try write(parts.mask))
        }
      }
    }
  }
}
