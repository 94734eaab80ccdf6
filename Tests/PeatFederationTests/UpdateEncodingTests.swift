import Foundation
import PeatFederation
import PeatTensor
import TestSupport
import Testing

@Suite("How updates are written") struct UpdateEncodingTests {
  private static let a = "base_model.model.x.lora_A.weight"
  private static let b = "base_model.model.x.lora_B.weight"
  private var base: NamedTensors {
    [
      Self.a: Tensor((0..<12).map { Float($0) / 8 }, shape: [4, 3]),
      Self.b: Tensor((0..<8).map { -Float($0) / 4 }, shape: [2, 4]),
    ]
  }

  private func tuned(_ seed: UInt64) -> NamedTensors {
    var random = SeededRandom(seed: seed)
    return base.mapValues { tensor in
      Tensor(tensor.scalars.map { $0 + 0.1 * random.normal() }, shape: tensor.shape)
    }
  }

  private func roundTrip(_ encoding: UpdateEncoding, _ tensors: NamedTensors) throws -> (
    values: NamedTensors, bytes: Int
  ) {
    try inTemporaryFolder { folder in
      let file = folder.appendingPathComponent("update.safetensors")
      let data = try encoding.encode(tensors, from: base, seed: 3)
      try data.write(to: file)
      let stored = try SafeTensorsFile(contentsOf: file)
      return (
        encoding.isPlain ? try stored.tensors() : try encoding.decode(stored, onto: base),
        stored.entries.values.reduce(0) { $0 + $1.range.count }
      )
    }
  }

  @Test func `all of it in 32 bits is the values themselves`() throws {
    let tensors = tuned(1)
    let result = try roundTrip(UpdateEncoding(rank: nil, bits: nil), tensors)
    #expect(result.values == tensors)
    #expect(result.bytes == 80)
  }

  @Test(arguments: [nil, 1, 3, 9], [32, 16, 8])
  func `the bytes that are foreseen are those that are sent`(rank: Int?, bits: Int) throws {
    let encoding = try UpdateEncoding(rank: rank, bits: bits)
    var tensors = base
    // Of other kinds, too: a vector, a name that is spelled out, and one value.
    tensors["bias"] = Tensor([1, 2, 3], shape: [3])
    tensors["a \"quoted\" näme"] = Tensor([1, 2, 3, 4, 5, 6, 7, 8], shape: [2, 2, 2])
    tensors["scalar"] = Tensor([5], shape: [1])
    let sent = try encoding.encode(tensors, from: tensors, seed: 3)
    #expect(encoding.byteCount(tensors.mapValues(\.shape)) == sent.count)
  }

  @Test func `components beyond the rank stay as they were sent`() throws {
    let tensors = tuned(2)
    let (values, bytes) = try roundTrip(UpdateEncoding(rank: 1, bits: 32), tensors)
    // One row of A, one column of B.
    #expect(bytes == 4 * (3 + 2))
    let (newA, newB) = (try #require(values[Self.a]), try #require(values[Self.b]))
    let (tunedA, tunedB) = (try #require(tensors[Self.a]), try #require(tensors[Self.b]))
    let (oldA, oldB) = (try #require(base[Self.a]), try #require(base[Self.b]))
    for i in 0..<12 { #expect(newA.scalars[i] == (i < 3 ? tunedA : oldA).scalars[i]) }
    for i in 0..<8 { #expect(newB.scalars[i] == (i % 4 == 0 ? tunedB : oldB).scalars[i]) }
  }

  @Test(arguments: [(16, 5e-4), (8, 0.01)])
  func `fewer bits lose little`(bits: Int, bound: Double) throws {
    let tensors = tuned(3)
    let result = try roundTrip(UpdateEncoding(rank: nil, bits: bits), tensors)
    // Four rows of A and four columns of B have a scale each.
    for (name, tensor) in tensors {
      let found = try #require(result.values[name])
      for (x, y) in zip(found.scalars, tensor.scalars) {
        #expect(abs(Double(x - y)) <= bound)
      }
    }
    #expect(result.bytes == (bits == 16 ? 40 : 20 + 4 * 8))
  }

  @Test func `rounding to 8 bits is right on average`() throws {
    let name = Self.a
    let base: NamedTensors = [name: Tensor(zeros: [1, 2])]
    // The second is a third of a step of the first one's scale.
    let tuned: NamedTensors = [name: Tensor([1.27, 0.01 / 3], shape: [1, 2])]
    let encoding = try UpdateEncoding(rank: nil, bits: 8)
    var sum = 0.0
    let draws = 3000
    try inTemporaryFolder { folder in
      let file = folder.appendingPathComponent("u")
      for seed in 0..<draws {
        try encoding.encode(tuned, from: base, seed: UInt64(seed)).write(to: file)
        let values = try encoding.decode(SafeTensorsFile(contentsOf: file), onto: base)
        sum += Double(values[name]?.scalars[1] ?? .nan)
      }
    }
    // Four standard errors of a coin of 1/3.
    #expect(abs(sum / Double(draws) / 0.01 - 1 / 3.0) < 4 * (2 / 9.0 / Double(draws)).squareRoot())
  }

  @Test func `what is not as asked for is refused`() throws {
    try inTemporaryFolder { folder in
      let file = folder.appendingPathComponent("u")
      let encoding = try UpdateEncoding(rank: 2, bits: 8)
      func refusal(_ data: Data) throws -> UpdateRefusal? {
        try data.write(to: file)
        return #expect(throws: UpdateRefusal.self) {
          try encoding.decode(SafeTensorsFile(contentsOf: file), onto: base)
        }
      }
      let other = try UpdateEncoding(rank: 1, bits: 8).encode(tuned(1), from: base, seed: 0)
      #expect(try refusal(other)?.code == .wrongShape)
      #expect(try refusal(SafeTensors.encode(tuned(1)))?.code == .wrongShape)
      #expect(try refusal(SafeTensors.encode(NamedTensors()))?.code == .missingTensors)
    }
    expectError(.badData, "uploadBits is 4") { _ = try UpdateEncoding(rank: nil, bits: 4) }
    expectError(.badData, "trainedRank is 0") { _ = try UpdateEncoding(rank: 0, bits: nil) }
  }

  @Test func `an update must be written as its task says`() throws {
    let policy = UpdatePolicy(
      run: "r", round: 1, base: base, method: "lora", rank: 4, alpha: 8, sizeLimit: 1000)
    var task = TrainingTask(
      run: "r", round: 1, client: "c",
      adapter: BlobReference(digest: Digest(of: Data()), bytes: 0), baseDigest: base.digest, seed: 0
    )
    task.uploadBits = 8
    var header = UpdateHeader(exampleCount: 1)
    let refusal = #expect(throws: UpdateRefusal.self) {
      try policy.check(header, followsTask: task)
    }
    #expect(refusal?.code == .wrongEncoding)
    header.uploadBits = 8
    try policy.check(header, followsTask: task)
  }
}
