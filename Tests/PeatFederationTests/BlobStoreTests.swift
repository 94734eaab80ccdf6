import Foundation
import PeatFederation
import PeatTensor
import Testing

enum StoreKind: String, Sendable, CaseIterable {
  case memory, folder

  func make(in folder: URL) throws -> any BlobStore {
    switch self {
    case .memory: MemoryBlobStore()
    case .folder: try FolderBlobStore(folder.appendingPathComponent("store"))
    }
  }
}

@Suite("BlobStore") struct BlobStoreTests {
  let data = Data((0..<100).map { UInt8($0) })

  func withStore(
    _ kind: StoreKind, _ body: (any BlobStore, URL) async throws -> Void
  ) async throws {
    try await withTemporaryFolder { try await body(try kind.make(in: $0), $0) }
  }

  @Test(arguments: StoreKind.allCases)
  func `gives back what was put, whole and in ranges`(kind: StoreKind) async throws {
    try await withStore(kind) { store, _ in
      let digest = try await store.put(data)
      #expect(digest == Digest(of: data))
      #expect(await store.has(digest))
      #expect(try await store.size(of: digest) == 100)
      #expect(try await store.read(digest, at: 0, count: 1000) == data)
      #expect(try await store.read(digest, at: 10, count: 5) == Data([10, 11, 12, 13, 14]))
      #expect(try await store.read(digest, at: 98, count: 5) == Data([98, 99]))
      #expect(try await store.read(digest, at: 100, count: 5).isEmpty)
      #expect(try await store.read(digest, at: 500, count: 5).isEmpty)
      #expect(try await store.read(digest, at: -1, count: 5).isEmpty)
      await store.removeQuietly(digest)
      #expect(await !store.has(digest))
    }
  }

  @Test(arguments: StoreKind.allCases)
  func `what is not here is an error`(kind: StoreKind) async throws {
    try await withStore(kind) { store, folder in
      let digest = Digest(of: data)
      #expect(await !store.has(digest))
      await #expect(throws: PeatError.self) { try await store.size(of: digest) }
      await #expect(throws: PeatError.self) { try await store.read(digest, at: 0, count: 1) }
      await #expect(throws: PeatError.self) {
        try await store.put(contentsOf: folder.appendingPathComponent("none"))
      }
    }
  }

  @Test(arguments: StoreKind.allCases)
  func `keeps a file's content`(kind: StoreKind) async throws {
    try await withStore(kind) { store, folder in
      let file = folder.appendingPathComponent("file")
      try data.write(to: file)
      let digest = try await store.put(contentsOf: file)
      #expect(digest == Digest(of: data))
      try FileManager.default.removeItem(at: file)
      #expect(try await store.read(digest, at: 0, count: 100) == data)
    }
  }

  @Test(arguments: StoreKind.allCases)
  func `pieces become a blob when the digest is right`(kind: StoreKind) async throws {
    try await withStore(kind) { store, _ in
      let digest = Digest(of: data)
      #expect(try await store.received(digest) == 0)
      try await store.append(data[0..<60], to: digest, at: 0)
      #expect(try await store.received(digest) == 60)
      #expect(await !store.has(digest))
      await #expect(throws: PeatError.self) {
        try await store.append(data[61..<100], to: digest, at: 61)
      }
      await #expect(throws: PeatError.self) {
        try await store.append(data[0..<60], to: digest, at: 0)
      }
      try await store.append(data[60..<100], to: digest, at: 60)
      try await store.finish(digest)
      #expect(try await store.read(digest, at: 0, count: 100) == data)
      #expect(try await store.received(digest) == 0)
    }
  }

  @Test(arguments: StoreKind.allCases)
  func `pieces with another digest are forgotten`(kind: StoreKind) async throws {
    try await withStore(kind) { store, _ in
      let digest = Digest(of: data)
      try await store.append(Data(repeating: 7, count: 100), to: digest, at: 0)
      await #expect(throws: PeatError.self) { try await store.finish(digest) }
      #expect(await !store.has(digest))
      #expect(try await store.received(digest) == 0)
      await #expect(throws: PeatError.self) { try await store.finish(digest) }
    }
  }

  @Test(arguments: StoreKind.allCases)
  func `the empty blob is a blob`(kind: StoreKind) async throws {
    try await withStore(kind) { store, _ in
      let digest = Digest(of: Data())
      try await store.finish(digest)
      #expect(try await store.size(of: digest) == 0)
    }
  }

  @Test func `what has arrived survives the process`() async throws {
    try await withTemporaryFolder { folder in
      let digest = Digest(of: data)
      let first = try FolderBlobStore(folder)
      try await first.append(data[0..<30], to: digest, at: 0)
      let second = try FolderBlobStore(folder)
      #expect(await second.received(digest) == 30)
      try await second.append(data[30..<100], to: digest, at: 30)
      try await second.finish(digest)
      #expect(await first.has(digest))
    }
  }
}

extension BlobStore {
  fileprivate func removeQuietly(_ digest: Digest) async { try? await remove(digest) }
}

@Suite("Package") struct PackageTests {
  @Test func `lists a folder, and its digest stands for names and content`() async throws {
    try await withTemporaryFolder { folder in
      let source = folder.appendingPathComponent("emulator")
      try FileManager.default.createDirectory(at: source, withIntermediateDirectories: true)
      try Data("{}".utf8).write(to: source.appendingPathComponent("config.json"))
      try Data("weights".utf8).write(to: source.appendingPathComponent("model.safetensors"))
      try Data("x".utf8).write(to: source.appendingPathComponent(".hidden"))
      let store = MemoryBlobStore()
      let package = try await Package(folder: source, store: store)
      #expect(package.files.map(\.name) == ["config.json", "model.safetensors"])
      #expect(package.bytes == 9)
      for file in package.files { #expect(await store.has(file.digest)) }

      var renamed = package
      renamed.files[0].name = "config2.json"
      #expect(renamed.digest != package.digest)
      #expect(Package(files: package.files.reversed()).digest == package.digest)
    }
  }

  @Test(arguments: [
    "", ".", "..", "../evil", "/etc/passwd", "a/b", "a\\b", ".hidden", "a\0b", "nul\n",
    String(repeating: "n", count: 129),
  ])
  func `a name that could leave the folder is refused`(name: String) {
    let file = Package.File(name: name, digest: Digest(of: Data()), bytes: 0)
    #expect(throws: PeatError.self) { try Package(files: [file]).validate(sizeLimit: 10) }
  }

  @Test func `sizes, numbers and double names are refused`() {
    func file(_ name: String, _ bytes: Int) -> Package.File {
      Package.File(name: name, digest: Digest(of: Data()), bytes: bytes)
    }
    let bad: [[Package.File]] = [
      [], [file("a", 11)], [file("a", 6), file("b", 5)], [file("a", -1)],
      [file("a", .max), file("b", .max)], [file("a", 1), file("A", 1)],
      (0..<300).map { file("f\($0)", 0) },
    ]
    for files in bad {
      #expect(throws: PeatError.self) { try Package(files: files).validate(sizeLimit: 10) }
    }
    #expect(throws: Never.self) {
      try Package(files: [file("a", 5), file("b", 5)]).validate(sizeLimit: 10)
    }
  }

  @Test func `a folder inside the folder can't be sent`() async throws {
    try await withTemporaryFolder { folder in
      try FileManager.default.createDirectory(
        at: folder.appendingPathComponent("sub"), withIntermediateDirectories: true)
      await #expect(throws: PeatError.self) {
        try await Package(folder: folder, store: MemoryBlobStore())
      }
    }
  }
}
