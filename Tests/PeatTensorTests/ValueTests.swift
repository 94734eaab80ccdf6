import Foundation
import PeatTensor
import TestSupport
import Testing

@Suite("Digest") struct DigestTests {
  @Test func `plain bytes have their SHA-256`() {
    #expect(
      Digest(of: Data()).hex == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
    #expect(
      Digest(of: Data("abc".utf8)).hex
        == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
    var pieces = IncrementalDigest()
    pieces.update(Data("a".utf8))
    pieces.update(Data("bc".utf8))
    #expect(pieces.finish() == Digest(of: Data("abc".utf8)))
    #expect(Digest(of: Data("abc".utf8)).short == "ba7816bf8f01")
  }

  // Computed in Python from the rule: name, type and shape each ended by a zero byte, then the values.
  @Test func `tensors are digested by name, type, shape and values in the order of their names`() {
    let tensors: NamedTensors = [
      "a.b": Tensor([7], shape: []), "é": Tensor([], shape: [0, 3]), "B": [1.5, -2],
      "a": Tensor([0, 1, 2, 3], shape: [2, 2]),
    ]
    #expect(
      tensors.digest.hex == "bdff709676448a97eaba0123dcc7e31fc162707618adda488ce393060784cb2c")
  }

  @Test func `any change to a name, shape or value changes the digest`() {
    let base: NamedTensors = ["a": Tensor([1, 2, 3, 4], shape: [2, 2])]
    let others: [NamedTensors] = [
      ["b": Tensor([1, 2, 3, 4], shape: [2, 2])], ["a": Tensor([1, 2, 3, 4], shape: [4])],
      ["a": Tensor([1, 2, 3, Float(4).nextUp], shape: [2, 2])], [:],
      ["a": Tensor([1, 2], shape: [2]), "b": Tensor([3, 4], shape: [2])],
    ]
    let digests = Set(([base] + others).map(\.digest))
    #expect(digests.count == others.count + 1)
  }

  @Test func `only 64 lower-case hexadecimal digits are a digest`() throws {
    let hex = Digest(of: Data()).hex
    #expect(Digest(hex: hex)?.hex == hex)
    for bad in ["", String(hex.dropLast()), hex + "0", hex.uppercased(), "g" + hex.dropFirst()] {
      #expect(Digest(hex: bad) == nil)
    }
    let data = try JSONEncoder().encode([Digest(of: Data())])
    #expect(try JSONDecoder().decode([Digest].self, from: data) == [Digest(of: Data())])
    #expect(throws: (any Error).self) {
      try JSONDecoder().decode([Digest].self, from: Data("[\"abc\"]".utf8))
    }
  }
}

@Suite("Nearest word") struct NearestWordTests {
  @Test func `a slip of the finger finds its word`() {
    let known = ["q_proj", "k_proj", "v_proj", "o_proj"]
    #expect(nearestWord(to: "q_porj", among: known) == "q_proj")
    #expect(nearestWord(to: "Q_PROJ", among: known) == "q_proj")
    #expect(nearestWord(to: "kproj", among: known) == "k_proj")
    #expect(nearestWord(to: "v_projj", among: known) == "v_proj")
  }

  @Test func `what is near to nothing finds nothing`() {
    #expect(nearestWord(to: "attention", among: ["mlp", "norm"]) == nil)
    #expect(nearestWord(to: "x", among: []) == nil)
    #expect(nearestWord(to: "", among: ["abc"]) == nil)
    #expect(nearestWord(to: "", among: [""]) == "")
  }

  @Test func `of two equally near words the first in order is taken`() {
    #expect(nearestWord(to: "ac", among: ["ad", "ab"]) == "ab")
  }

  @Test func `the tail of an error names the known words`() {
    #expect(
      suggestion(for: "ranj", among: ["rank", "alpha"])
        == "Did you mean 'rank'? Known: alpha, rank.")
    #expect(suggestion(for: "something", among: ["b", "a"]) == "Known: a, b.")
  }
}

@Suite("Tensor") struct TensorTests {
  @Test func `reshaping and taking rows share the values`() {
    let tensor = Tensor([1, 2, 3, 4, 5, 6], shape: [3, 2])
    #expect(tensor.reshaped([2, 3]) == Tensor([1, 2, 3, 4, 5, 6], shape: [2, 3]))
    #expect(tensor.rows(1..<3) == Tensor([3, 4, 5, 6], shape: [2, 2]))
    #expect(tensor.rows(1..<1).scalars == [])
    #expect(tensor.copied() == tensor)
    #expect(tensor.map { $0 * 2 }.scalars == [2, 4, 6, 8, 10, 12])
  }

  @Test func `equality looks at shape and values, and NaN is not itself`() {
    #expect(Tensor([1, 2]) != Tensor([1, 2], shape: [1, 2]))
    #expect(Tensor([1, .nan]) != Tensor([1, .nan]))
    #expect(Tensor([]).isFinite)
    #expect(!Tensor([1, .infinity]).isFinite)
    #expect(!Tensor([.nan]).isFinite)
    #expect(Tensor([], shape: [0, 5]).count == 0)
    #expect(Tensor([3], shape: []).count == 1)
  }
}

@Suite("Atomic output") struct AtomicOutputTests {
  private struct Failure: Error {}

  private func names(_ folder: URL) throws -> [String] {
    try FileManager.default.contentsOfDirectory(atPath: folder.path).sorted()
  }

  @Test func `a file is written whole, and replaces the one before`() throws {
    try withTemporaryFolder { folder in
      let file = folder.appendingPathComponent("a.txt")
      try AtomicOutput.write(Data("first".utf8), to: file)
      try AtomicOutput.write(Data("second".utf8), to: file)
      #expect(try Data(contentsOf: file) == Data("second".utf8))
      #expect(try names(folder) == ["a.txt"])
    }
  }

  @Test func `a body that throws leaves the file before and nothing else`() throws {
    try withTemporaryFolder { folder in
      let file = folder.appendingPathComponent("a.txt")
      func fail() throws {
        try AtomicOutput.write(to: file) { handle in
          try handle.write(contentsOf: Data("half".utf8))
          throw Failure()
        }
      }
      #expect(throws: PeatError.self) { try fail() }
      #expect(try names(folder) == [])
      try AtomicOutput.write(Data("first".utf8), to: file)
      #expect(throws: PeatError.self) { try fail() }
      #expect(try Data(contentsOf: file) == Data("first".utf8))
      #expect(try names(folder) == ["a.txt"])
    }
  }

  @Test func `errors of the project and cancellation pass as they are`() throws {
    try withTemporaryFolder { folder in
      let file = folder.appendingPathComponent("a.txt")
      #expect(throws: CancellationError.self) {
        try AtomicOutput.write(to: file) { _ in throw CancellationError() }
      }
      let error = #expect(throws: PeatError.self) {
        try AtomicOutput.write(to: file) { _ in throw PeatError.badData("reason") }
      }
      #expect(error?.message == "reason")
      #expect(error?.code == .badData)
    }
  }

  @Test func `a missing folder and a folder in the place of the file are errors`() throws {
    try withTemporaryFolder { folder in
      let missing = folder.appendingPathComponent("no/a.txt")
      let error = #expect(throws: PeatError.self) {
        try AtomicOutput.write(Data(), to: missing)
      }
      #expect(error?.code == .inputOutput)
      let place = folder.appendingPathComponent("b")
      try FileManager.default.createDirectory(at: place, withIntermediateDirectories: false)
      #expect(throws: PeatError.self) { try AtomicOutput.write(Data("x".utf8), to: place) }
      #expect(try names(folder) == ["b"])
    }
  }

  @Test func `a folder is filled whole, and replaces one of ours`() throws {
    try withTemporaryFolder { folder in
      let place = folder.appendingPathComponent("model")
      for text in ["first", "second"] {
        try AtomicOutput.folder(at: place, replacing: { $0 == "a.txt" }) { inside in
          try Data(text.utf8).write(to: inside.appendingPathComponent("a.txt"))
        }
        #expect(
          try Data(contentsOf: place.appendingPathComponent("a.txt")) == Data(text.utf8))
        #expect(try names(folder) == ["model"])
      }
      // With a slash at its end it is the same folder.
      let slashed = URL(fileURLWithPath: place.path + "/", isDirectory: true)
      try AtomicOutput.folder(at: slashed, replacing: { $0 == "a.txt" }) { inside in
        try Data("third".utf8).write(to: inside.appendingPathComponent("a.txt"))
      }
      #expect(try Data(contentsOf: place.appendingPathComponent("a.txt")) == Data("third".utf8))
      #expect(try names(folder) == ["model"])
    }
  }

  @Test(arguments: [true, false]) func `a symbolic link is followed and stays`(isRelative: Bool)
    throws
  {
    try withTemporaryFolder { folder in
      let files = FileManager.default
      let disk = folder.appendingPathComponent("disk")
      try files.createDirectory(at: disk, withIntermediateDirectories: false)
      for name in ["model", "a.txt"] {
        try files.createSymbolicLink(
          atPath: folder.appendingPathComponent(name).path,
          withDestinationPath: (isRelative ? "disk/" : disk.path + "/") + name)
      }
      func write(_ text: String) throws {
        try AtomicOutput.folder(
          at: folder.appendingPathComponent("model"), replacing: { $0 == "b.txt" }
        ) { inside in
          try Data(text.utf8).write(to: inside.appendingPathComponent("b.txt"))
        }
        try AtomicOutput.write(Data(text.utf8), to: folder.appendingPathComponent("a.txt"))
      }
      // Where it leads nowhere, nothing is made.
      let error = #expect(throws: PeatError.self) { try write("first") }
      #expect(error?.code == .inputOutput)
      #expect(error?.message.contains("disk/model', which does not exist") == true)
      #expect(try names(disk) == [])
      #expect(throws: PeatError.self) {
        try AtomicOutput.write(Data(), to: folder.appendingPathComponent("a.txt"))
      }
      try files.createDirectory(
        at: disk.appendingPathComponent("model"), withIntermediateDirectories: false)
      try Data().write(to: disk.appendingPathComponent("a.txt"))
      for text in ["first", "second"] {
        try write(text)
        for file in ["model/b.txt", "a.txt"] {
          #expect(try Data(contentsOf: disk.appendingPathComponent(file)) == Data(text.utf8))
        }
      }
      #expect(try names(disk) == ["a.txt", "model"])
      #expect(try names(folder) == ["a.txt", "disk", "model"])
      for name in ["model", "a.txt"] {
        #expect(
          try files.destinationOfSymbolicLink(
            atPath: folder.appendingPathComponent(name).path
          ).hasSuffix("disk/" + name))
      }
    }
  }

  @Test func `a folder with something of somebody else's is not touched`() throws {
    try withTemporaryFolder { folder in
      let place = folder.appendingPathComponent("home")
      try FileManager.default.createDirectory(at: place, withIntermediateDirectories: false)
      try Data("letter".utf8).write(to: place.appendingPathComponent("letter.txt"))
      var ran = false
      let error = #expect(throws: PeatError.self) {
        try AtomicOutput.folder(at: place, replacing: { $0 == "a.txt" }) { _ in ran = true }
      }
      #expect(!ran)
      #expect(error?.code == .inputOutput)
      #expect(error?.message.contains("letter.txt") == true)
      #expect(try names(place) == ["letter.txt"])
      let file = folder.appendingPathComponent("file")
      try Data().write(to: file)
      #expect(throws: PeatError.self) {
        try AtomicOutput.folder(at: file, replacing: { _ in true }) { _ in }
      }
      #expect(try names(folder) == ["file", "home"])
    }
  }

  @Test func `what lies deeper in a folder is not lost either`() throws {
    try withTemporaryFolder { folder in
      let place = folder.appendingPathComponent("result")
      let inner = place.appendingPathComponent("best/deep")
      try FileManager.default.createDirectory(at: inner, withIntermediateDirectories: true)
      let ours: Set = ["best", "best/deep", "best/deep/a.txt", "link"]
      func replace() throws {
        try AtomicOutput.folder(at: place, replacing: ours.contains) { _ in }
      }
      try Data().write(to: inner.appendingPathComponent("a.txt"))
      // What a link leads to stays.
      let elsewhere = folder.appendingPathComponent("elsewhere")
      try FileManager.default.createDirectory(at: elsewhere, withIntermediateDirectories: false)
      try Data("mine".utf8).write(to: elsewhere.appendingPathComponent("diary.txt"))
      try FileManager.default.createSymbolicLink(
        at: place.appendingPathComponent("link"), withDestinationURL: elsewhere)
      try Data("mine".utf8).write(to: inner.appendingPathComponent("notes.txt"))
      let error = #expect(throws: PeatError.self) { try replace() }
      #expect(error?.code == .inputOutput)
      #expect(error?.message.contains("'best/deep/notes.txt'") == true)
      #expect(try names(inner) == ["a.txt", "notes.txt"])
      try FileManager.default.removeItem(at: inner.appendingPathComponent("notes.txt"))
      try replace()
      #expect(try names(place) == [])
      #expect(try names(elsewhere) == ["diary.txt"])
    }
  }

  @Test func `a folder whose body throws leaves the one before and nothing else`() throws {
    try withTemporaryFolder { folder in
      let place = folder.appendingPathComponent("model")
      func fail() throws {
        try AtomicOutput.folder(at: place, replacing: { _ in true }) { inside in
          try Data("half".utf8).write(to: inside.appendingPathComponent("a.txt"))
          throw Failure()
        }
      }
      #expect(throws: PeatError.self) { try fail() }
      #expect(try names(folder) == [])
      try AtomicOutput.folder(at: place, replacing: { _ in true }) { inside in
        try Data("first".utf8).write(to: inside.appendingPathComponent("a.txt"))
      }
      #expect(throws: PeatError.self) { try fail() }
      #expect(try names(folder) == ["model"])
      #expect(try Data(contentsOf: place.appendingPathComponent("a.txt")) == Data("first".utf8))
    }
  }
}
