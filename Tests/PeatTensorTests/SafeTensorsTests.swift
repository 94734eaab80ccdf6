import Foundation
import PeatTensor
import TestSupport
import Testing

@Suite("SafeTensors") struct SafeTensorsTests {
  /// A file of this header text and `payload` bytes after it.
  private func file(_ header: String, payload: Int = 0, length: UInt64? = nil) -> Data {
    var data = Data()
    withUnsafeBytes(of: (length ?? UInt64(header.utf8.count)).littleEndian) {
      data.append(contentsOf: $0)
    }
    return data + Data(header.utf8) + Data(count: payload)
  }

  @Test func `float64 is read as float32`() throws {
    let values: [Double] = [1, -0.1, 1e300, 3.0000000001]
    let bytes = values.reduce(into: Data()) { data, value in
      withUnsafeBytes(of: value.bitPattern.littleEndian) { data.append(contentsOf: $0) }
    }
    let data = SafeTensors.encode(["x": SafeTensors.Raw("F64", [2, 2], bytes)])
    let found = try #require(try SafeTensors.decode(data, from: "f")["x"])
    #expect(found.shape == [2, 2] && found.scalars == values.map { Float($0) })
  }

  private func expectRefused(
    _ data: Data, _ words: String..., sourceLocation: SourceLocation = #_sourceLocation
  ) throws {
    let error = #expect(throws: PeatError.self, sourceLocation: sourceLocation) {
      try SafeTensors.decode(data, from: "model.safetensors")
    }
    #expect(error?.code == .badData, sourceLocation: sourceLocation)
    for word in words + ["model.safetensors"] {
      #expect(
        error?.message.contains(word) == true, "'\(word)' not in: \(error?.message ?? "")",
        sourceLocation: sourceLocation)
    }
    // The way over a mapped file refuses the same.
    try withTemporaryFolder { folder in
      let url = folder.appendingPathComponent("model.safetensors")
      try data.write(to: url)
      #expect(throws: PeatError.self, sourceLocation: sourceLocation) {
        try SafeTensorsFile(contentsOf: url)
      }
    }
  }

  @Test func `what is written is read back, bit for bit in float32`() throws {
    var random = SeededRandom(seed: 1)
    let tensors: NamedTensors = [
      "a": randomTensor([3, 5], &random), "b.c": randomTensor([7], &random),
      "scalar": Tensor([2.5], shape: []), "empty": Tensor([], shape: [0, 4]),
      "names \"with\" \\ and \u{1}é😀\n": randomTensor([1, 1, 2], &random),
      "special": Tensor([.infinity, -.infinity, -0.0, .leastNonzeroMagnitude], shape: [2, 2]),
    ]
    let metadata = ["format": "pt", "quote\"": "line\nbreak\t\u{2028}"]
    let data = SafeTensors.encode(tensors, metadata: metadata)
    #expect(try SafeTensors.decode(data, from: "data") == tensors)
    #expect(SafeTensors.encode(tensors, metadata: metadata) == data)
    try withTemporaryFolder { folder in
      let url = folder.appendingPathComponent("a.safetensors")
      try SafeTensors.write(tensors, to: url, metadata: metadata)
      #expect(try Data(contentsOf: url) == data)
      let file = try SafeTensorsFile(contentsOf: url)
      #expect(file.metadata == metadata)
      #expect(file.names == tensors.keys.sorted())
      #expect(try file.tensors() == tensors)
      let error = #expect(throws: PeatError.self) { try file.tensor(named: "b.d") }
      #expect(error?.message.contains("'b.c'") == true)
    }
  }

  @Test func `mapped tensors outlive the file object and the file`() throws {
    let tensor = try withTemporaryFolder { folder in
      let url = folder.appendingPathComponent("a.safetensors")
      try SafeTensors.write(["a": [1, 2, 3]], to: url)
      return try SafeTensorsFile(contentsOf: url).tensor(named: "a")
    }
    #expect(tensor == [1, 2, 3])
  }

  @Test func `a NaN keeps its bits`() throws {
    let bits: [UInt32] = [0x7fc0_0000, 0xffc1_2345]
    let data = SafeTensors.encode(["a": Tensor(bits.map { Float(bitPattern: $0) })])
    #expect(try SafeTensors.decode(data, from: "data")["a"]?.scalars.map(\.bitPattern) == bits)
  }

  @Test(arguments: [StorageType.float16, .bfloat16])
  func `the short types round once and are then exact`(type: StorageType) throws {
    var random = SeededRandom(seed: 2)
    let tensors: NamedTensors = ["a": randomTensor([9, 3], &random), "b": [1, 0.5, -2]]
    let once = try SafeTensors.decode(SafeTensors.encode(tensors, as: type), from: "data")
    let twice = try SafeTensors.decode(SafeTensors.encode(once, as: type), from: "data")
    #expect(once == twice)
    #expect(once["b"] == tensors["b"])
    for (name, tensor) in once {
      let other = try #require(tensors[name])
      expectClose(tensor, other, within: type == .float16 ? 0x1p-11 : 0x1p-8, name)
    }
  }

  @Test func `each tensor may have a type of its own`() throws {
    try withTemporaryFolder { folder in
      let url = folder.appendingPathComponent("a.safetensors")
      let tensors: NamedTensors = ["a": [1, 2, 3], "b": [1, 2, 3], "c": [4]]
      try SafeTensors.write(tensors, to: url, as: { $0 == "b" ? .float16 : .float32 })
      let file = try SafeTensorsFile(contentsOf: url)
      #expect(file.entries["a"]?.type == .float32)
      #expect(file.entries["b"]?.type == .float16)
      // The third tensor lies at an odd place for a float and is read all the same.
      #expect(try file.tensors() == tensors)
    }
  }

  @Test func `a small file is what the format says, byte by byte`() {
    let data = SafeTensors.encode(["a": [1, -2]])
    let header = "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}"
    let padded = header + String(repeating: " ", count: (8 - header.utf8.count % 8) % 8)
    #expect(data == file(padded) + Data([0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0]))
  }

  @Test func `spaces, any order of keys and unknown metadata are read`() throws {
    let data = file(
      " { \"__metadata__\" : {} , \"a\" : { \"shape\":[1,1], \"data_offsets\": [0,4], \"dtype\":\"F32\"} } ",
      payload: 4)
    #expect(try SafeTensors.decode(data, from: "x") == ["a": Tensor([0], shape: [1, 1])])
    #expect(try SafeTensors.decode(file("{}"), from: "x") == [:])
  }

  // MARK: Hostile files

  @Test func `files that are too short are refused`() throws {
    try expectRefused(Data(), "0 bytes")
    try expectRefused(Data(count: 7), "7 bytes")
    let whole = SafeTensors.encode(["a": [1, 2, 3], "b": Tensor([1, 2], shape: [2, 1])])
    for length in 0..<whole.count { try expectRefused(whole.prefix(length)) }
    try expectRefused(whole + Data(count: 1), "after its last tensor")
  }

  @Test(arguments: [3, 1000, 100_000_001, 1 << 32, 1 << 62, 1 << 63, .max] as [UInt64])
  func `a header longer than the file is refused`(length: UInt64) throws {
    try expectRefused(file("{}", length: length), "\(length) bytes")
  }

  @Test func `a header that is not JSON, or not the right JSON, is refused`() throws {
    for header in [
      "", " ", "x", "[]", "null", "1", "\"a\"", "{", "}", "{}}", "{\"a\"}", "{\"a\":}", "{\"a\":1}",
      "{\"a\":null}", "{\"a\":{}}", "{\"a\":[]}", "{\"a\":{\"dtype\":\"F32\"}}",
      "{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}",
      "{\"a\":{\"dtype\":\"F32\",\"shape\":1,\"data_offsets\":[0,4]}}",
      "{\"a\":{\"dtype\":\"F32\",\"shape\":[1.5],\"data_offsets\":[0,4]}}",
      "{\"a\":{\"dtype\":\"F32\",\"shape\":[\"1\"],\"data_offsets\":[0,4]}}",
      "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}}",
      "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4,8]}}",
      "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[]}}",
      "{\"a\":{\"dtype\":4,\"shape\":[1],\"data_offsets\":[0,4]}}",
      "{\"__metadata__\":1}", "{\"__metadata__\":{\"a\":1}}",
      "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,1e400]}}",
      "{\"a\":{\"dtype\":\"F32\",\"shape\":[99999999999999999999],\"data_offsets\":[0,4]}}",
      "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},}x",
    ] {
      try expectRefused(file(header, payload: 4))
    }
    var bytes = file(
      "{\"aa\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", payload: 4)
    bytes[10] = 0xff
    bytes[11] = 0xfe
    try expectRefused(bytes)
  }

  @Test func `a type that is not read is named`() throws {
    let bytes = file(
      "{\"a\":{\"dtype\":\"I64\",\"shape\":[1],\"data_offsets\":[0,8]}}", payload: 8)
    let error = #expect(throws: PeatError.self) { try SafeTensors.decode(bytes, from: "x") }
    #expect(error?.code == .badData)
    #expect(error?.message.contains("I64") == true && error?.message.contains("BF16") == true)
  }

  @Test(arguments: [
    "[-1]", "[-1,-1]", "[2]", "[]", "[0]", "[1,-1,-1]", "[4611686018427387904]",
    "[4611686018427387904,4]", "[4294967296,4294967296]", "[9223372036854775807,2]",
    "[3037000500,3037000500,0]", "[0,4294967296,4294967296]", "[0,-1]",
    "[9223372036854775807,9223372036854775807,9223372036854775807]",
  ])
  func `a shape that does not fit its bytes is refused`(shape: String) throws {
    // Two values of two bytes, unless the shape says otherwise.
    let end = shape.contains("0,") || shape == "[0]" ? 0 : 4
    let wrong = shape == "[0]" ? 2 : end
    let header = "{\"a\":{\"dtype\":\"BF16\",\"shape\":\(shape),\"data_offsets\":[0,\(wrong)]}}"
    if shape == "[2]" {
      #expect(try SafeTensors.decode(file(header, payload: wrong), from: "x")["a"]?.count == 2)
    } else {
      try expectRefused(file(header, payload: wrong), "'a'")
    }
  }

  @Test(arguments: [
    (-4, 0), (0, -4), (4, 0), (0, 8), (8, 12), (1, 5), (0, Int.max), (Int.min, 4),
    (Int.max, Int.max),
    (Int.min, Int.max), (Int.max - 3, Int.max), (-1, 3),
  ])
  func `offsets outside the file, or out of order, are refused`(begin: Int, end: Int) throws {
    try expectRefused(
      file(
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[\(begin),\(end)]}}", payload: 4))
  }

  @Test func `tensors that overlap or leave a gap are refused`() throws {
    func two(_ first: (Int, Int), _ second: (Int, Int), payload: Int) -> Data {
      file(
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[\(first.0),\(first.1)]},"
          + "\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[\(second.0),\(second.1)]}}",
        payload: payload)
    }
    #expect(throws: Never.self) {
      try SafeTensors.decode(two((0, 8), (8, 16), payload: 16), from: "x")
    }
    #expect(throws: Never.self) {
      try SafeTensors.decode(two((8, 16), (0, 8), payload: 16), from: "x")
    }
    try expectRefused(two((0, 8), (4, 12), payload: 12), "overlap")
    try expectRefused(two((0, 8), (0, 8), payload: 8), "overlap")
    try expectRefused(two((0, 8), (12, 20), payload: 20), "gap")
    try expectRefused(two((4, 12), (12, 20), payload: 20), "gap")
    try expectRefused(two((0, 8), (8, 16), payload: 17), "after its last tensor")
  }

  @Test func `a name that stands twice is refused`() throws {
    let entry = "{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}"
    try expectRefused(file("{\"a\":\(entry),\"a\":\(entry)}", payload: 4), "twice")
    // The same name in another spelling.
    try expectRefused(file("{\"a\":\(entry),\"\\u0061\":\(entry)}", payload: 4), "twice")
    try expectRefused(file("{\"__metadata__\":{},\"__metadata__\":{}}"), "twice")
  }

  @Test func `a deeply nested header is refused before it is parsed`() throws {
    for opening in ["[", "{\"a\":", "{\"a\":["] {
      try expectRefused(file(String(repeating: opening, count: 100_000)), "nested")
    }
    try expectRefused(file(String(repeating: "}", count: 1000)))
    try expectRefused(
      file(String(repeating: "]", count: 1000) + String(repeating: "[", count: 1008)))
  }

  @Test func `no folder, missing file or device is taken for a model`() throws {
    try withTemporaryFolder { folder in
      for place in [folder, folder.appendingPathComponent("no"), URL(fileURLWithPath: "/dev/null")]
      {
        let error = #expect(throws: PeatError.self) { try SafeTensorsFile(contentsOf: place) }
        #expect(error?.code == .inputOutput)
        #expect(error?.message.contains(place.path) == true)
      }
    }
  }

  // MARK: Random bytes

  /// What a reader may do with any bytes: give tensors that fit, or throw a `PeatError` about bad data.
  private func feed(_ data: Data, _ accepted: inout Int) {
    do {
      let tensors = try SafeTensors.decode(data, from: "fuzz")
      accepted += 1
      for (_, tensor) in tensors {
        #expect(tensor.scalars.count == tensor.count)
        #expect(tensor.count * 2 <= data.count)
      }
      _ = tensors.digest
    } catch let error as PeatError {
      #expect(error.code == .badData)
    } catch {
      Issue.record("an error of another kind: \(error)")
    }
  }

  private func fuzz(_ count: Int) {
    var random = SeededRandom(seed: 20)
    let good = [
      SafeTensors.encode(["a": [1, 2, 3], "b": Tensor([1, 2], shape: [2, 1])]),
      SafeTensors.encode(["x": [1]], as: .bfloat16, metadata: ["format": "pt"]),
      file("{}"),
    ]
    let words = [
      "{", "}", "[", "]", ",", ":", "\"", "-", "0", "9", "\\u0000", "e9", "null", "F16", "BF16",
      "shape", "dtype", "data_offsets", "__metadata__", "9223372036854775807", "\u{0}", "é",
    ].map { Data($0.utf8) }
    var accepted = 0
    for round in 0..<count {
      if round % 4 == 0 {
        // Nothing but noise, with a plausible header length half the time.
        var data = Data(
          (0..<random.integer(below: 80)).map { _ in UInt8(random.integer(below: 256)) })
        if data.count > 8, round % 8 == 0 {
          data.replaceSubrange(
            0..<8, with: [UInt8(random.integer(below: data.count - 7)), 0, 0, 0, 0, 0, 0, 0])
        }
        feed(data, &accepted)
        continue
      }
      // A good file with some bytes changed, removed or added; the header's length is put right half the time.
      var data = good[random.integer(below: good.count)]
      let headerLength = Int(data[0])
      var change = 0
      for _ in 0...random.integer(below: 3) where data.count > 9 {
        let inHeader = random.integer(below: 4) > 0
        let place = 8 + random.integer(below: inHeader ? max(headerLength, 1) : data.count - 8)
        guard place < data.count else { continue }
        switch random.integer(below: 4) {
        case 0: data[place] = UInt8(random.integer(below: 256))
        case 1:
          data.remove(at: place)
          change -= 1
        case 2:
          let word = words[random.integer(below: words.count)]
          data.insert(contentsOf: word, at: place)
          change += word.count
        default: data[place] ^= 1 << UInt8(random.integer(below: 8))
        }
      }
      if round % 2 == 0 { data[0] = UInt8(clamping: headerLength + change) }
      feed(data, &accepted)
    }
    // The fuzzer must also get through to what follows the parser.
    #expect(accepted > count / 100)
    #expect(accepted < count)
  }

  @Test func `no bytes crash the reader`() { fuzz(20_000) }

  @Test(.tags(.long), .onlyWithAll) func `a million inputs do not crash the reader`() {
    fuzz(1_000_000)
  }

  @Test func `values of other types are passed over until somebody asks for them`() throws {
    let header =
      #"{"mask":{"dtype":"BOOL","shape":[1,3],"data_offsets":[0,3]},"w":{"dtype":"F32","shape":[1],"data_offsets":[3,7]}}"#
    var data = withUnsafeBytes(of: UInt64(header.utf8.count).littleEndian) { Data($0) }
    data += Data(header.utf8) + Data([1, 0, 1]) + withUnsafeBytes(of: Float(2.5)) { Data($0) }
    try withTemporaryFolder { folder in
      let url = folder.appendingPathComponent("model.safetensors")
      try data.write(to: url)
      let file = try SafeTensorsFile(contentsOf: url)
      #expect(try file.tensor(named: "w") == [2.5])
      #expect(file.entries["mask"]?.type == nil)
      let asked = #expect(throws: PeatError.self) { try file.tensor(named: "mask") }
      #expect(asked?.code == .badData && asked?.message.contains("as BOOL") == true)
      // A size that does not fit the type is still a damaged file.
      try Data(data.map { $0 }).replacing("[0,3]", with: "[0,4]").write(to: url)
      let damaged = #expect(throws: PeatError.self) { try SafeTensorsFile(contentsOf: url) }
      #expect(damaged?.message.contains("damaged") == true)
    }
  }
}

extension Data {
  fileprivate func replacing(_ text: String, with other: String) -> Data {
    var copy = self
    if let range = copy.range(of: Data(text.utf8)) {
      copy.replaceSubrange(range, with: Data(other.utf8))
    }
    return copy
  }

  @Test
  func `values that lie on disk are the same, read again when they were let go, and leave no file`()
    throws
  {
    var random = SeededRandom(seed: 1)
    let tensors: NamedTensors = [
      "a": Tensor((0..<40_000).map { _ in Float(random.normal()) }, shape: [200, 200]),
      "b": [1, -0.5, .infinity], "c": Tensor(zeros: [0, 3]),
    ]
    try withTemporaryFolder { folder in
      let away = try tensors.onDisk(in: folder)
      #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path).isEmpty)
      #expect(away == tensors)
      #expect(away["a"]?.isMapped == true && tensors["a"]?.isMapped == false)
      for tensor in away.values { tensor.releasePages() }
      #expect(away == tensors)
      tensors["a"]?.releasePages()
      #expect(away["a"] == tensors["a"])
      #expect(throws: PeatError.self) {
        try tensors.onDisk(in: folder.appendingPathComponent("none"))
      }
    }
  }

  @Test func `tensors of more than a piece are written whole in every type`() throws {
    var random = SeededRandom(seed: 2)
    let tensor = Tensor((0..<600_001).map { _ in Float(random.normal()).rounded() }, shape: nil)
    try withTemporaryFolder { folder in
      for type in StorageType.allCases {
        let url = folder.appendingPathComponent(type.rawValue)
        try SafeTensors.write(["t": tensor], to: url, as: type)
        #expect(try SafeTensorsFile(contentsOf: url).tensor(named: "t") == tensor)
      }
    }
  }
}
