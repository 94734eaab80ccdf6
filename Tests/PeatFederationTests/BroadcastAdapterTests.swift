import Foundation
import PeatFederation
import PeatTensor
import TestSupport
import Testing

@Suite("The adapter as clients are sent it") struct BroadcastAdapterTests {
  private let adapter: NamedTensors = [
    "x.lora_A.weight": Tensor((0..<200).map { Float($0) / 300 - 0.3 }, shape: [4, 50]),
    "x.lora_B.weight": Tensor((0..<8).map { -Float($0) / 4 }, shape: [2, 4]),
    "bias": [1, 2, 3],
  ]

  @Test(arguments: [("f32", 0), ("f16", 0.001), ("bf16", 0.008), ("int8", 0.025), ("int4", 0.45)])
  func `clients read what the coordinator believes they read`(
    word: String, bound: Double
  ) throws {
    let encoding = try UpdateEncoding(word: word)
    let (data, read) = try BroadcastAdapter.encode(adapter, as: encoding, seed: 1)
    #expect(try BroadcastAdapter.byteCount(adapter.mapValues(\.shape), as: encoding) == data.count)
    try inTemporaryFolder { folder in
      let file = folder.appendingPathComponent("adapter")
      try data.write(to: file)
      let found = try BroadcastAdapter.read(file, sizeLimit: 10_000)
      #expect(found == read && found.digest == read.digest)
      for (name, tensor) in adapter {
        let values = try #require(found[name])
        for (x, y) in zip(tensor.scalars, values.scalars) { #expect(abs(Double(x - y)) <= bound) }
      }
      if word != "f32" {
        expectError(.badData, "more than the 600 bytes") {
          _ = try BroadcastAdapter.read(file, sizeLimit: 600)
        }
      }
    }
  }

  @Test func `what a coordinator never sends is refused`() throws {
    try inTemporaryFolder { folder in
      let file = folder.appendingPathComponent("adapter")
      func refused(_ part: String, _ encoding: String, _ tensors: String, _ count: Int) throws {
        let raw = SafeTensors.Raw("U8", [count], Data(count: count))
        try SafeTensors.encode(
          ["packed": raw],
          metadata: ["fedpeat.encoding": encoding, "fedpeat.tensors": tensors]
        ).write(to: file)
        expectError(.badData, part) { _ = try BroadcastAdapter.read(file, sizeLimit: 10_000) }
      }
      try refused("no way to write", "int7", #"{"a":[2]}"#, 4)
      try refused("can't be", "top-k=0.5,int8", #"{"a":[2]}"#, 4)
      try refused("does not say", "int8", "[]", 4)
      try refused("impossible shape", "int8", #"{"a":[-2]}"#, 4)
      try refused("impossible shape", "int8", #"{"a":[4611686018427387904,4]}"#, 4)
      try refused("more than", "int8", #"{"a":[50000]}"#, 4)
      try refused("other bytes", "int8", #"{"a":[3]}"#, 4)
    }
  }

  @Test func `bytes changed at random are refused, or read as an adapter`() throws {
    let good = try BroadcastAdapter.encode(adapter, as: UpdateEncoding(word: "int4"), seed: 1).data
    var random = SeededRandom(seed: 5)
    try inTemporaryFolder { folder in
      let file = folder.appendingPathComponent("adapter")
      for _ in 0..<3000 {
        var data = good
        for _ in 0...random.integer(below: 3) {
          data[random.integer(below: data.count)] = UInt8(random.integer(below: 256))
        }
        try data.write(to: file)
        do {
          let values = try BroadcastAdapter.read(file, sizeLimit: 10_000)
          #expect(values.values.reduce(0) { $0 + $1.count } <= 2500)
        } catch { #expect((error as? PeatError)?.code == .badData) }
      }
    }
  }
}
