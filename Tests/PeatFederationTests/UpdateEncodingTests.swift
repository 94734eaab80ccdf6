import Foundation
import PeatFederation
import PeatTensor
import TestSupport
import Testing

@Suite("How updates are written") struct UpdateEncodingTests {
  private static let a = "base_model.model.x.lora_A.weight"
  private static let b = "base_model.model.x.lora_B.weight"
  private static let words = [
    "f32", "f16", "bf16", "int8", "int4", "top-k=0.3,f32", "top-k=0.3,int8", "top-k=0.01,int4",
    "top-k=0.5,bf16",
  ]

  private var base: NamedTensors {
    [
      Self.a: Tensor((0..<12).map { Float($0) / 8 }, shape: [4, 3]),
      Self.b: Tensor((0..<8).map { -Float($0) / 4 }, shape: [2, 4]),
    ]
  }

  private func moved(_ tensors: NamedTensors, by deviation: Float, _ seed: UInt64) -> NamedTensors {
    var random = SeededRandom(seed: seed)
    var result: NamedTensors = [:]
    for name in tensors.keys.sorted() {
      result[name] = tensors[name].map { tensor in
        Tensor(tensor.scalars.map { $0 + deviation * random.normal() }, shape: tensor.shape)
      }
    }
    return result
  }

  private func tuned(_ seed: UInt64) -> NamedTensors { moved(base, by: 0.1, seed) }

  private func read(
    _ data: Data, as encoding: UpdateEncoding, onto base: NamedTensors
  ) throws -> NamedTensors {
    try inTemporaryFolder { folder in
      let file = folder.appendingPathComponent("update.safetensors")
      try data.write(to: file)
      return try encoding.decode(SafeTensorsFile(contentsOf: file), onto: base).copied()
    }
  }

  private func roundTrip(_ encoding: UpdateEncoding, _ tensors: NamedTensors) throws -> NamedTensors
  {
    try read(encoding.encode(tensors, from: base, seed: 3), as: encoding, onto: base)
  }

  // MARK: Words

  @Test(arguments: words)
  func `words say an encoding and an encoding says its words`(word: String) throws {
    let encoding = try UpdateEncoding(word: word)
    #expect(encoding.description == word)
    let (bits, other) = encoding.wire
    #expect(try UpdateEncoding(bits: bits, word: other) == encoding)
    #expect((other != nil) == (word.contains("top-k") || word == "bf16"))
  }

  @Test func `words that say nothing are refused with what was meant`() throws {
    let cases = [
      ("int9", "int8"), ("int8,int4", "no way to write"), ("top-k=2,int8", "above 0 and below 1"),
      ("top-k=nan", "above 0 and below 1"), ("int8,top-k=0.1", "no way to write"), ("", "f32"),
      ("top-k=0.1,top-k=0.2,int8", "no way to write"),
    ]
    for (word, part) in cases {
      expectError(.badData, part) { _ = try UpdateEncoding(word: word) }
    }
    expectError(.badData, "uploadBits is 5") { _ = try UpdateEncoding(bits: 5) }
    expectError(.badData, "trainedRank is 0") { _ = try UpdateEncoding(rank: 0) }
    expectError(.badData, "say one of both") { _ = try UpdateEncoding(bits: 8, word: "int8") }
  }

  // MARK: Bytes

  @Test(arguments: [nil, 1, 3, 9], words)
  func `the bytes that are foreseen are those that are sent`(rank: Int?, word: String) throws {
    let encoding = try UpdateEncoding(rank: rank, word: word)
    var tensors = base
    // Of other kinds, too: a vector, a name that is spelled out, and one value.
    tensors["bias"] = Tensor((0..<131).map { Float($0) }, shape: [131])
    tensors["a \"quoted\" näme"] = Tensor([1, 2, 3, 4, 5, 6, 7, 8], shape: [2, 2, 2])
    tensors["scalar"] = Tensor([5], shape: [1])
    let sent = try encoding.encode(tensors, from: tensors, seed: 3)
    #expect(encoding.byteCount(tensors.mapValues(\.shape)) == sent.count)
    #expect(try read(sent, as: encoding, onto: tensors) == tensors)
  }

  // MARK: Values

  @Test func `all of it as f32 is the values themselves`() throws {
    let tensors = tuned(1)
    #expect(try roundTrip(.plain, tensors) == tensors)
    #expect(try UpdateEncoding.plain.encode(tensors, from: base, seed: 0).count > 80)
  }

  @Test(arguments: ["f32", "int8"])
  func `components beyond the rank stay as they were sent`(word: String) throws {
    let tensors = tuned(2)
    let values = try roundTrip(UpdateEncoding(rank: 1, word: word), tensors)
    let (newA, newB) = (try #require(values[Self.a]), try #require(values[Self.b]))
    let (tunedA, tunedB) = (try #require(tensors[Self.a]), try #require(tensors[Self.b]))
    let (oldA, oldB) = (try #require(base[Self.a]), try #require(base[Self.b]))
    let bound: Float = word == "f32" ? 0 : 0.005
    for i in 0..<12 where i < 3 { #expect(abs(newA.scalars[i] - tunedA.scalars[i]) <= bound) }
    for i in 0..<12 where i >= 3 { #expect(newA.scalars[i] == oldA.scalars[i]) }
    for i in 0..<8 where i % 4 == 0 { #expect(abs(newB.scalars[i] - tunedB.scalars[i]) <= bound) }
    for i in 0..<8 where i % 4 != 0 { #expect(newB.scalars[i] == oldB.scalars[i]) }
  }

  @Test(arguments: [("f16", 5e-4), ("bf16", 2e-3), ("int8", 0.004), ("int4", 0.06)])
  func `fewer bits lose little`(word: String, bound: Double) throws {
    let tensors = tuned(3)
    let values = try roundTrip(UpdateEncoding(word: word), tensors)
    for (name, tensor) in tensors {
      let found = try #require(values[name])
      for (x, y) in zip(found.scalars, tensor.scalars) { #expect(abs(Double(x - y)) <= bound) }
    }
  }

  @Test func `top-k sends the largest differences and leaves the rest`() throws {
    let base: NamedTensors = ["v": Tensor(zeros: [10])]
    let tuned: NamedTensors = ["v": [0.1, -5, 0.2, 0, 3, 0.3, -0.4, 2, 2, 0.5]]
    let encoding = try UpdateEncoding(word: "top-k=0.3,f32")
    let values = try read(encoding.encode(tuned, from: base, seed: 0), as: encoding, onto: base)
    // Of the two that are equal the first.
    #expect(values == ["v": [0, -5, 0, 0, 3, 0, 0, 2, 0, 0]])
  }

  @Test(arguments: [("int8", 127), ("int4", 7)])
  func `rounding to integers is right on average`(word: String, limit: Int) throws {
    // The second and the third are parts of a step of the first one's scale, which bfloat16 has exactly.
    let base: NamedTensors = ["v": Tensor(zeros: [1, 3])]
    let step: Float = 0.5
    let tuned: NamedTensors = [
      "v": Tensor([step * Float(limit), step / 3, -0.9 * step], shape: [1, 3])
    ]
    let encoding = try UpdateEncoding(word: word)
    let draws = 3000
    var sums = [0.0, 0.0, 0.0]
    for seed in 0..<draws {
      let data = try encoding.encode(tuned, from: base, seed: UInt64(seed))
      let values = try read(data, as: encoding, onto: base)
      for (place, value) in (values["v"]?.scalars ?? []).enumerated() {
        sums[place] += Double(value / step)
      }
    }
    #expect(sums[0] == Double(draws * limit))
    for (place, mean, variance) in [(1, 1 / 3.0, 2 / 9.0), (2, -0.9, 0.09)] {
      // Four standard errors of such coins.
      let bound = 4 * (variance / Double(draws)).squareRoot()
      #expect(abs(sums[place] / Double(draws) - mean) < bound)
    }
  }

  // MARK: What is kept back

  @Test(arguments: words.filter { $0 != "f32" }, [nil, 2])
  func `what is kept back is sent in the end`(word: String, rank: Int?) throws {
    let encoding = try UpdateEncoding(rank: rank, word: word)
    var random = SeededRandom(seed: 4)
    var rest: NamedTensors = [:]
    var base = base
    let truth = base.copied()
    for round in 0..<200 {
      // Components beyond the rank do not train.
      var tuned = base
      for name in base.keys.sorted() {
        guard let tensor = base[name]?.copied() else { continue }
        for place in 0..<tensor.count {
          let component = name == Self.a ? place / 3 : place % 4
          guard component < rank ?? 4 else { continue }
          let difference = 0.01 * random.normal()
          tensor.pointer[place] += difference
          truth[name]?.pointer[place] += difference
        }
        tuned[name] = tensor
      }
      let wanted = tuned.merging(rest) { tensor, rest in
        Tensor(zip(tensor.scalars, rest.scalars).map { $0 + $1 }, shape: tensor.shape)
      }
      let (data, left) = try encoding.encodeKeepingRest(wanted, from: base, seed: UInt64(round))
      base = try read(data, as: encoding, onto: base)
      rest = left
    }
    for (name, tensor) in truth {
      let (sent, left) = (try #require(base[name]), try #require(rest[name]))
      for place in 0..<tensor.count {
        let sum = sent.scalars[place] + left.scalars[place]
        #expect(abs(sum - tensor.scalars[place]) < 1e-4)
      }
    }
  }

  // MARK: What comes from outside

  @Test func `what is not as asked for is refused`() throws {
    let encoding = try UpdateEncoding(rank: 2, word: "int8")
    func refusal(_ data: Data) throws -> UpdateRefusal? {
      return #expect(throws: UpdateRefusal.self) { try read(data, as: encoding, onto: base) }
    }
    for other in [
      try UpdateEncoding(rank: 1, word: "int8"), try UpdateEncoding(word: "int8"),
      try UpdateEncoding(rank: 2, word: "int4"),
      try UpdateEncoding(rank: 2, word: "top-k=0.5,int8"),
    ] {
      let data = try other.encode(tuned(1), from: base, seed: 0)
      #expect(try refusal(data)?.code == .wrongShape)
    }
    #expect(try refusal(SafeTensors.encode(tuned(1)))?.code == .missingTensors)
    #expect(try refusal(SafeTensors.encode(NamedTensors()))?.code == .missingTensors)
    let data = try encoding.encode(tuned(1), from: base, seed: 0)
    let packed = SafeTensors.Raw("U8", [1], Data([0]))
    let both: [String: SafeTensors.Raw] = ["packed": packed, "more": packed]
    #expect(try refusal(SafeTensors.encode(both))?.code == .unknownTensors)
    #expect(throws: PeatError.self) { try read(data.dropLast(), as: encoding, onto: base) }
  }

  /// The bytes of the tensor `packed`, changed.
  private func changed(
    _ word: String, _ base: NamedTensors, _ change: (inout Data) -> Void
  ) throws -> UpdateRefusal? {
    let encoding = try UpdateEncoding(word: word)
    let data = try encoding.encode(moved(base, by: 1, 1), from: base, seed: 0)
    let header = 8 + Int(data.withUnsafeBytes { $0.loadUnaligned(as: UInt64.self) })
    var packed = Data(data.dropFirst(header))
    change(&packed)
    return #expect(throws: UpdateRefusal.self) {
      try read(data.prefix(header) + packed, as: encoding, onto: base)
    }
  }

  @Test func `numbers and scales that are never written are refused`() throws {
    let base: NamedTensors = ["v": Tensor(zeros: [5])]
    // A scale, then five halves and one that is not used.
    for bits: UInt16 in [0x7fc0, 0x7f80, 0xbf80] {
      let refusal = try changed("int4", base) {
        ($0[0], $0[1]) = (UInt8(bits & 0xff), UInt8(bits >> 8))
      }
      #expect(refusal?.code == .notFinite)
    }
    #expect(try changed("int4", base) { $0[4] |= 0x10 }?.code == .malformed)
    #expect(try changed("int4", base) { $0[2] = 0x08 }?.code == .malformed)
    #expect(try changed("int8", base) { $0[2] = 0x80 }?.code == .malformed)
  }

  @Test func `places that repeat, or lie outside, are refused`() throws {
    let base: NamedTensors = ["v": Tensor(zeros: [20])]
    // Five of twenty: two low bits each in two bytes, then a 1 for each among 4 + 5 bits.
    let word = "top-k=0.25,f32"
    // All in the first four, so that one repeats.
    #expect(
      try changed(word, base) { ($0[2], $0[3]) = (0b11111, 0) }?.message.contains("do not rise")
        == true)
    // The first four, and of the second four the first; then one less, and one more.
    #expect(
      try changed(word, base) { $0.replaceSubrange(0..<4, with: [0b1110_0100, 0, 0b1111, 0]) }?
        .message.contains("only 4") == true)
    #expect(
      try changed(word, base) { $0.replaceSubrange(0..<4, with: [0b1110_0100, 0, 0b110_1111, 0]) }?
        .message.contains("more") == true)
    #expect(
      try changed(word, base) { $0[3] |= 0b10 }?.message.contains("behind their end") == true)
    // Of nineteen 1, 3, 5, 7 and the one that follows the last.
    #expect(
      try changed(word, ["v": Tensor(zeros: [19])]) {
        $0.replaceSubrange(0..<3, with: [0b11111, 0b0101_0101, 0b10_0000])
      }?.message.contains("go up to 19 of 19") == true)
  }

  @Test(arguments: [1, 2, 7, 63, 64, 65, 1000], [1, 2, 63, 1000, 4097])
  func `places come back as they were written`(count: Int, bound: Int) throws {
    guard count <= bound else { return }
    var random = SeededRandom(seed: UInt64(count * bound))
    for _ in 0..<20 {
      var all = Array(0..<bound)
      all.shuffle(using: &random)
      let places = all.prefix(count).sorted()
      let data = SortedPlaces.encode(places, below: bound)
      #expect(data.count == SortedPlaces.byteCount(of: count, below: bound))
      let read = try data.withUnsafeBytes {
        try SortedPlaces.decode($0, count: count, below: bound)
      }
      #expect(read == places)
    }
  }

  @Test(arguments: words)
  func `bytes changed at random are refused, or read as an adapter of the same shapes`(
    word: String
  ) throws {
    let encoding = try UpdateEncoding(word: word)
    let good = try encoding.encode(tuned(1), from: base, seed: 0)
    var random = SeededRandom(seed: 9)
    let policy = UpdatePolicy(
      run: "r", round: 1, base: base, method: "lora", rank: 4, alpha: 8, sizeLimit: 1000)
    var header = UpdateHeader(exampleCount: 1)
    (header.uploadBits, header.upload) = encoding.wire
    try inTemporaryFolder { folder in
      let file = folder.appendingPathComponent("u")
      for _ in 0..<3000 {
        var data = good
        for _ in 0...random.integer(below: 3) {
          data[random.integer(below: data.count)] = UInt8(random.integer(below: 256))
        }
        if random.integer(below: 5) == 0 { data = data.prefix(random.integer(below: data.count)) }
        try data.write(to: file)
        do {
          let values = try policy.decode(file, header)
          #expect(values.mapValues(\.shape) == base.mapValues(\.shape))
          #expect(values.values.allSatisfy { $0.isFinite })
        } catch { #expect(error is UpdateRefusal) }
      }
    }
  }

  @Test func `an update must be written as its task says`() throws {
    let policy = UpdatePolicy(
      run: "r", round: 1, base: base, method: "lora", rank: 4, alpha: 8, sizeLimit: 1000)
    var task = TrainingTask(
      run: "r", round: 1, client: "c",
      adapter: BlobReference(digest: Digest(of: Data()), bytes: 0), baseDigest: base.digest, seed: 0
    )
    var header = UpdateHeader(exampleCount: 1)
    func refused() -> Bool {
      let refusal = #expect(throws: UpdateRefusal.self) {
        try policy.check(header, followsTask: task)
      }
      return refusal?.code == .wrongEncoding
    }
    task.uploadBits = 8
    #expect(refused())
    header.uploadBits = 8
    try policy.check(header, followsTask: task)
    (task.uploadBits, task.upload) = (nil, "top-k=0.1,int8")
    #expect(refused())
    (header.uploadBits, header.upload) = (nil, "top-k=0.1,int8")
    try policy.check(header, followsTask: task)
  }
}
