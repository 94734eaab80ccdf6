import PeatFederation
import PeatTensor
import TestSupport
import Testing

@Suite("Components that train") struct ComponentOrderTests {
  private static let down = "x.q.lora_A.weight"
  private static let up = "x.q.lora_B.weight"

  private func adapter(rank: Int) -> NamedTensors {
    var random = SeededRandom(seed: 5, "adapter")
    return [
      Self.down: randomTensor([rank, 3], &random, scale: 1),
      Self.up: randomTensor([4, rank], &random, scale: 1),
      "head": randomTensor([2], &random, scale: 1),
    ]
  }

  @Test func `in another order a pair's product is the same, and goes back to the same bits`() {
    let start = adapter(rank: 8)
    let order = ComponentOrder(seed: 1)
    let other = order.applied(to: start)
    #expect(other != start)
    #expect(order.undone(in: other) == start)
    #expect(other["head"] == start["head"])
    for (row, place) in order.places(rank: 8).enumerated() {
      for column in 0..<3 {
        #expect(
          other[Self.down]?.scalars[row * 3 + column]
            == start[Self.down]?.scalars[place * 3 + column])
      }
      for column in 0..<4 {
        #expect(
          other[Self.up]?.scalars[column * 8 + row] == start[Self.up]?.scalars[column * 8 + place])
      }
    }
  }

  @Test func `each component is among the first as often as any`() {
    var counts = [Int](repeating: 0, count: 8)
    for seed in 0..<4000 {
      for place in ComponentOrder(seed: UInt64(seed)).places(rank: 8).prefix(2) {
        counts[place] += 1
      }
    }
    // Of 4000 draws of 2 in 8: 1000 each, with a deviation of 27.
    #expect(counts.allSatisfy { abs($0 - 1000) < 140 }, "\(counts)")
  }

  /// What a client sends by its order is read by the coordinator's, in all ways of writing it.
  @Test(arguments: ["f32", "int8", "top-k=0.5,f32"])
  func `client and coordinator draw the same components`(word: String) throws {
    let base = adapter(rank: 8)
    var task = TrainingTask(
      run: "run", round: 3, client: "ada", adapter: BlobReference(digest: base.digest, bytes: 0),
      baseDigest: base.digest, seed: TrainingTask.seed(run: 9, round: 3, client: "ada"))
    task.trainedRank = 2
    task.components = .random
    task.upload = word == "f32" ? nil : word
    let order = try #require(task.componentOrder)
    // All components of it move; two of them are sent.
    let tuned = base.mapValues { tensor in tensor.map { $0 + 0.5 } }
    let payload = try task.encoding.encode(
      order.applied(to: tuned), from: order.applied(to: base), seed: 1)
    var policy = UpdatePolicy(
      run: "run", round: 3, base: base, method: "lora", rank: 8, alpha: 16, sizeLimit: 1 << 20)
    policy.componentSeed = 9
    var header = UpdateHeader(
      run: "run", round: 3, client: "ada", exampleCount: 1, baseDigest: base.digest)
    header.trainedRank = 2
    header.upload = task.upload
    try withTemporaryFolder { folder in
      let file = folder.appendingPathComponent("update.safetensors")
      try payload.write(to: file)
      let read = try policy.decode(file, header)
      let moved = (0..<8).filter { row in
        (0..<3).contains {
          read[Self.down]?.scalars[row * 3 + $0] != base[Self.down]?.scalars[row * 3 + $0]
        }
      }
      let drawn = Set(order.places(rank: 8).prefix(2))
      #expect(Set(moved).isSubset(of: drawn) && (word.hasPrefix("top-k") || Set(moved) == drawn))
      header.client = "bob"
      #expect(try policy.decode(file, header) != read, "another client's components are others")
    }
  }
}
