import Foundation
import PeatHub
import PeatTensor
import TestSupport
import Testing

@Suite("HubPull") struct HubPullTests {
  private let name = FakeHub.model
  private let weights = FakeHub.weights(seed: 1)

  private func expectRefusal(
    _ code: PeatError.Code, _ words: String..., from hub: FakeHub, name: String = FakeHub.model,
    token: String? = nil, sourceLocation: SourceLocation = #_sourceLocation
  ) async throws {
    try await withTemporaryFolder { folder in
      let pull = HubPull(hub.settings(folder, token: token), patience: .hasty())
      let error = await #expect(throws: PeatError.self, sourceLocation: sourceLocation) {
        _ = try await pull.pull(HubName(name))
      }
      guard let error else { return }
      #expect(error.code == code, "\(error)", sourceLocation: sourceLocation)
      for word in words {
        #expect(
          error.message.contains(word), "'\(word)' in: \(error)", sourceLocation: sourceLocation)
      }
      // Nothing that looks whole is left.
      let snapshot = try HubCache(folder).snapshot(of: HubName(name))
      #expect(snapshot == nil, sourceLocation: sourceLocation)
    }
  }

  @Test func `a pull gives the folder of a model, with what belongs to it and no more`()
    async throws
  {
    let hub = try FakeHub()
    try await withTemporaryFolder { folder in
      let result = try await HubPull(hub.settings(folder)).pull(HubName(name))
      #expect(
        result.files == [
          "1_Pooling/config.json", "README.md", "config.json", "model.safetensors",
          "tokenizer.json",
        ])
      #expect(result.commit == FakeHub.commit)
      for file in result.files {
        #expect(
          try Data(contentsOf: result.folder.appendingPathComponent(file)) == FakeHub.files[file])
      }
      #expect(result.fetchedBytes == result.bytes)
      #expect(result.bytes == result.files.reduce(0) { $0 + (FakeHub.files[$1]?.count ?? 0) })
    }
  }

  @Test func `the cache is laid out as Python's is`() async throws {
    let hub = try FakeHub()
    try await withTemporaryFolder { folder in
      _ = try await HubPull(hub.settings(folder)).pull(HubName(name))
      let repository = folder.appendingPathComponent("models--someone--tiny")
      let files = FileManager.default
      #expect(
        try String(contentsOf: repository.appendingPathComponent("refs/main"), encoding: .utf8)
          == FakeHub.commit)
      let snapshot = repository.appendingPathComponent("snapshots/\(FakeHub.commit)")
      let sha = FakeHub.sha256(weights)
      #expect(
        try files.destinationOfSymbolicLink(
          atPath: snapshot.appendingPathComponent("model.safetensors").path) == "../../blobs/\(sha)"
      )
      #expect(
        try files.destinationOfSymbolicLink(
          atPath: snapshot.appendingPathComponent("1_Pooling/config.json").path)
          == "../../../blobs/\(FakeHub.gitName(Data("{}".utf8)))")
      #expect(
        try files.contentsOfDirectory(
          atPath: repository.appendingPathComponent("blobs").path
        ).count == 5)
      #expect(
        files.fileExists(
          atPath: folder.appendingPathComponent(".locks/models--someone--tiny/\(sha).lock").path))
    }
  }

  @Test func `a second pull fetches no file again`() async throws {
    let hub = try FakeHub()
    try await withTemporaryFolder { folder in
      let pull = HubPull(hub.settings(folder))
      _ = try await pull.pull(HubName(name))
      let before = hub.hub.requests.count
      let again = try await pull.pull(HubName(name))
      #expect(again.fetchedBytes == 0)
      #expect(hub.hub.requests.count == before + 1)
      // Another name of the same commit.
      let tagged = try await pull.pull(HubName("\(name)@v1"))
      #expect(tagged.fetchedBytes == 0)
      #expect(try HubCache(folder).snapshot(of: HubName("\(name)@v1")) == tagged.folder)
    }
  }

  @Test func `a token goes to the Hub and to no other server`() async throws {
    let hub = try FakeHub()
    try await withTemporaryFolder { folder in
      _ = try await HubPull(hub.settings(folder, token: "hf_secret")).pull(HubName(name))
      #expect(!hub.storage.requests.isEmpty)
      #expect(hub.storage.requests.allSatisfy { $0.headers["authorization"] == nil })
      #expect(hub.hub.requests.allSatisfy { $0.headers["authorization"] == "Bearer hf_secret" })
    }
  }

  @Test func `a connection that breaks is gone on with where it broke`() async throws {
    let hub = try FakeHub { request, response, count in
      var response = response
      if request.path == "/blob/model.safetensors", count < 2 { response.cutAfter = 100_000 }
      return response
    }
    try await withTemporaryFolder { folder in
      let waits = Waits()
      let result = try await HubPull(hub.settings(folder), patience: .hasty(waits))
        .pull(HubName(name))
      let file = result.folder.appendingPathComponent("model.safetensors")
      #expect(try Data(contentsOf: file) == weights)
      #expect(result.fetchedBytes == result.bytes)
      let ranges = hub.storage.requests.compactMap { $0.headers["range"] }
      #expect(
        ranges == ["bytes=0-299999", "bytes=100000-299999", "bytes=200000-299999"])
      // Each try came further, so none counts as the second in vain.
      #expect(waits.all == [.seconds(1), .seconds(1)])
    }
  }

  @Test func `large files are asked for in parts`() async throws {
    let hub = try FakeHub()
    try await withTemporaryFolder { folder in
      let result = try await HubPull(hub.settings(folder), partBytes: 128_000).pull(HubName(name))
      let file = result.folder.appendingPathComponent("model.safetensors")
      #expect(try Data(contentsOf: file) == weights)
      #expect(
        hub.storage.requests.compactMap { $0.headers["range"] } == [
          "bytes=0-127999", "bytes=128000-255999", "bytes=256000-299999",
        ])
    }
  }

  /// URLSession on Linux takes a whole core while the first answer on a connection comes: it is to be a small one.
  @Test func `of what is long a little is asked for first`() async throws {
    var files = FakeHub.files
    let long = Data(repeating: 7, count: 3_000_000)
    files["model.safetensors"] = long
    let hub = try FakeHub(files: files) { request, response, count in
      var response = response
      if request.path == "/blob/model.safetensors", count == 1 { response.cutAfter = 1_500_000 }
      return response
    }
    try await withTemporaryFolder { folder in
      let result = try await HubPull(hub.settings(folder), patience: .hasty()).pull(HubName(name))
      let file = result.folder.appendingPathComponent("model.safetensors")
      #expect(try Data(contentsOf: file) == long)
      #expect(
        hub.storage.requests.compactMap { $0.headers["range"] } == [
          "bytes=0-65535", "bytes=65536-2999999",
          // A new connection.
          "bytes=1565536-1631071", "bytes=1631072-2999999",
        ])
    }
  }

  @Test func `a server that knows no ranges sends all of it again`() async throws {
    let hub = try FakeHub(knowsRanges: false) { request, response, count in
      var response = response
      if request.path == "/blob/model.safetensors", count == 0 { response.cutAfter = 100_000 }
      return response
    }
    try await withTemporaryFolder { folder in
      let result = try await HubPull(hub.settings(folder), patience: .hasty()).pull(HubName(name))
      let file = result.folder.appendingPathComponent("model.safetensors")
      #expect(try Data(contentsOf: file) == weights)
      #expect(result.fetchedBytes == result.bytes + 100_000)
    }
  }

  @Test func `a damaged file is refused, and nothing that looks whole is left`() async throws {
    let hub = try FakeHub { request, response, _ in
      var response = response
      if request.path == "/blob/model.safetensors" { response.body[response.body.startIndex] ^= 1 }
      return response
    }
    try await expectRefusal(.badData, "model.safetensors", "damaged", "digest", from: hub)
    let small = try FakeHub { request, response, _ in
      var response = response
      if request.method == "GET", request.path.hasSuffix("\(FakeHub.commit)/config.json") {
        response.body = Data(#"{"model_type": "gemma"}"#.utf8)
      }
      return response
    }
    try await expectRefusal(.badData, "config.json", "damaged", from: small)
  }

  @Test func `what an earlier pull left damaged is fetched anew`() async throws {
    let hub = try FakeHub()
    try await withTemporaryFolder { folder in
      let blobs = folder.appendingPathComponent("models--someone--tiny/blobs")
      try FileManager.default.createDirectory(at: blobs, withIntermediateDirectories: true)
      let partial = blobs.appendingPathComponent("\(FakeHub.sha256(weights)).incomplete")
      try Data(repeating: 7, count: 1000).write(to: partial)
      let result = try await HubPull(hub.settings(folder), patience: .hasty()).pull(HubName(name))
      let file = result.folder.appendingPathComponent("model.safetensors")
      #expect(try Data(contentsOf: file) == weights)
      #expect(
        hub.storage.requests.compactMap { $0.headers["range"] } == [
          "bytes=1000-299999", "bytes=0-299999",
        ])
      #expect(!FileManager.default.fileExists(atPath: partial.path))
    }
  }

  @Test func `a file of another size than announced is refused`() async throws {
    let longer = try FakeHub(knowsRanges: false) { request, response, _ in
      var response = response
      if request.path == "/blob/model.safetensors" { response.body += Data(count: 10) }
      return response
    }
    try await expectRefusal(
      .badData, "model.safetensors", "More than the 300000 bytes", from: longer)
    let shorter = try FakeHub(knowsRanges: false) { request, response, _ in
      var response = response
      if request.path == "/blob/model.safetensors" { response.body = Data() }
      return response
    }
    try await expectRefusal(.unavailable, "sent nothing", from: shorter)
  }

  @Test func `refusals say what to do`() async throws {
    func always(_ status: Int, _ headers: [String: String] = [:]) throws -> FakeHub {
      try FakeHub { _, _, _ in .init(status: status, headers: headers) }
    }
    try await expectRefusal(.usage, "HF_TOKEN", "no public model", from: always(401))
    try await expectRefusal(.usage, "HF_TOKEN", "refuses", from: always(401), token: "hf_old")
    try await expectRefusal(
      .usage, "gated", "accept", "must be approved",
      from: always(403, ["X-Error-Message": "must be approved"]), token: "hf_x")
    try await expectRefusal(
      .usage, "no model 'someone/else'", from: FakeHub(), name: "someone/else")
    try await expectRefusal(
      .usage, "no revision 'v9'", from: FakeHub(), name: "someone/tiny@v9")
    try await expectRefusal(.unavailable, "status 418", from: always(418))
  }

  @Test func `a server that fails now and then is asked again`() async throws {
    let hub = try FakeHub { request, response, count in
      count < 2 && !request.path.hasPrefix("/blob") ? .init(status: 503) : response
    }
    try await withTemporaryFolder { folder in
      let waits = Waits()
      let result = try await HubPull(hub.settings(folder), patience: .hasty(waits))
        .pull(HubName(name))
      #expect(result.files.count == 5)
      #expect(waits.all.prefix(2) == [.seconds(1), .seconds(2)])
    }
    try await expectRefusal(
      .unavailable, "status 500", "4 times", from: FakeHub { _, _, _ in .init(status: 500) })
  }

  @Test func `a server that asks to be left alone is`() async throws {
    let hub = try FakeHub { request, response, count in
      guard request.path.hasPrefix("/api"), count < 2 else { return response }
      return .init(status: 429, headers: ["Retry-After": count == 0 ? "17" : "1000000"])
    }
    try await withTemporaryFolder { folder in
      let waits = Waits()
      _ = try await HubPull(hub.settings(folder), patience: .hasty(waits)).pull(HubName(name))
      #expect(waits.all == [.seconds(17), .seconds(60)])
    }
  }

  @Test func `a server that says nothing, or is not there, is given up`() async throws {
    let hub = try FakeHub { request, response, _ in
      var response = response
      response.silence = .seconds(3)
      return response
    }
    try await withTemporaryFolder { folder in
      let settings = hub.settings(folder)
      let quiet = HubPull(settings, patience: .hasty(tries: 1, silence: .seconds(1)))
      let error = await #expect(throws: PeatError.self) { _ = try await quiet.pull(HubName(name)) }
      #expect(error?.code == .unavailable)
      #expect(error?.message.contains("said nothing") == true)
    }
    let gone = try FakeHub()
    gone.hub.stop()
    try await expectRefusal(.unavailable, "4 times", from: gone)
  }

  @Test func `redirects without end, to nowhere, or to an unprotected place are refused`()
    async throws
  {
    let loop = try FakeHub { request, _, _ in
      .init(status: 302, headers: ["Location": request.path])
    }
    try await expectRefusal(.badData, "redirects more than", from: loop)
    let nowhere = try FakeHub { _, _, _ in
      .init(status: 302, headers: ["Location": "file:///etc/passwd"])
    }
    try await expectRefusal(.badData, "redirects to no address", from: nowhere)
    let without = try FakeHub { _, _, _ in .init(status: 301) }
    try await expectRefusal(.unavailable, from: without)
  }

  @Test(arguments: ["../../x", "/etc/passwd", "", "a/../../b.safetensors", "a\\..\\b", "a//b", "."])
  func `a file that would not stay in its folder stops everything`(file: String) async throws {
    let hub = try FakeHub(listed: ["config.json", file, "model.safetensors"])
    try await expectRefusal(.badData, "would not stay in its folder", from: hub)
  }

  @Test func `lists without end and answers that are no list are refused`() async throws {
    try await expectRefusal(
      .badData, "at most 100,000",
      from: FakeHub(listed: (0...100_000).map { "f\($0)" }))
    for body in [
      "", "{", "[]", #"{"sha": 3, "siblings": []}"#, #"{"sha": "../x", "siblings": []}"#,
      #"{"sha": "0123456789abcdef0123456789abcdef01234567", "siblings": [{"rfilename": 1}]}"#,
      String(repeating: "[", count: 100_000),
    ] {
      let hub = try FakeHub { _, response, _ in .init(body: Data(body.utf8)) }
      try await expectRefusal(.badData, from: hub)
    }
    try await expectRefusal(
      .badData, "more than 32 MB",
      from: FakeHub { _, _, _ in .init(body: Data(count: 33 << 20)) })
  }

  @Test func `tags that are no digest and sizes that are none are refused`() async throws {
    for headers in [
      ["ETag": "\"../../../x\""], ["ETag": "\"abc\""], [:],
      ["ETag": "\"\(String(repeating: "a", count: 64))\"", "X-Linked-Size": "-5"],
      ["ETag": "\"\(String(repeating: "a", count: 64))\"", "X-Linked-Size": "\(Int.max)"],
    ] {
      let hub = try FakeHub { request, response, _ in
        guard request.method == "HEAD" else { return response }
        return .init(headers: headers)
      }
      try await expectRefusal(.badData, from: hub)
    }
  }

  @Test func `a disk without room is seen before anything is fetched`() async throws {
    let hub = try FakeHub { request, response, _ in
      var response = response
      if request.method == "HEAD", request.path.hasSuffix("model.safetensors") {
        response.headers["X-Linked-Size"] = "\(1 << 60)"
      }
      return response
    }
    try await expectRefusal(.inputOutput, "MB free", "HF_HOME", from: hub)
    #expect(hub.storage.requests.isEmpty)
  }

  @Test func `a model with pickles only is refused, and the refusal says how to convert`()
    async throws
  {
    let hub = try FakeHub(listed: ["config.json", "pytorch_model.bin", "training_args.bin"])
    try await expectRefusal(
      .badData, "pytorch_model.bin", "pickle", "save_pretrained", "refs/pr/1", from: hub)
    try await expectRefusal(.badData, "no weights", from: FakeHub(listed: ["config.json"]))
    try await expectRefusal(
      .badData, "model.gguf", "llama.cpp", from: FakeHub(listed: ["config.json", "model.gguf"]))
  }

  @Test func `of weights in several files those are taken that the index names`() async throws {
    let index =
      #"{"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}"#
    var files = FakeHub.files
    files["model.safetensors"] = nil
    files["consolidated.safetensors"] = Data("the same in another layout".utf8)
    files["model.safetensors.index.json"] = Data(index.utf8)
    files["model-00001-of-00002.safetensors"] = FakeHub.weights(seed: 2)
    files["model-00002-of-00002.safetensors"] = FakeHub.weights(seed: 3)
    let hub = try FakeHub(files: files)
    try await withTemporaryFolder { folder in
      let result = try await HubPull(hub.settings(folder)).pull(HubName(name))
      #expect(result.files.contains("model-00002-of-00002.safetensors"))
      #expect(!result.files.contains("consolidated.safetensors"))
    }
    files["model-00002-of-00002.safetensors"] = nil
    try await expectRefusal(
      .badData, "model-00002-of-00002.safetensors", "does not have", from: FakeHub(files: files))
  }

  @Test func `two pulls at once do each other no harm and fetch once`() async throws {
    let hub = try FakeHub { request, response, _ in
      var response = response
      if request.path.hasPrefix("/blob") { response.piece = 10_000 }
      return response
    }
    try await withTemporaryFolder { folder in
      let pull = HubPull(hub.settings(folder))
      async let one = pull.pull(HubName(name))
      async let other = pull.pull(HubName(name))
      let results = try await [one, other]
      for result in results {
        let file = result.folder.appendingPathComponent("model.safetensors")
        #expect(try Data(contentsOf: file) == weights)
      }
      #expect(hub.storage.requests.filter { $0.method == "GET" }.count == 1)
    }
  }

  @Test func `a pull that was stopped is gone on with`() async throws {
    let hub = try FakeHub { request, response, count in
      var response = response
      if request.path.hasPrefix("/blob"), count == 0 { response.stallAfter = 150_000 }
      return response
    }
    try await withTemporaryFolder { folder in
      let pull = HubPull(hub.settings(folder), patience: .hasty())
      let stopper = Stopper()
      let work = Task { [name] in
        try await pull.pull(HubName(name)) { progress in
          if progress.file == "model.safetensors", progress.bytes > 50_000 {
            stopper.stop()
          }
        }
      }
      stopper.set { work.cancel() }
      let stopped = await work.result
      #expect(throws: CancellationError.self) { try stopped.get() }
      #expect(try HubCache(folder).snapshot(of: HubName(name)) == nil)
      let partial = folder.appendingPathComponent(
        "models--someone--tiny/blobs/\(FakeHub.sha256(weights)).incomplete")
      let left = try Data(contentsOf: partial)
      #expect(left.count > 40_000 && left.count <= 150_000)
      #expect(left == weights.prefix(left.count))
      let result = try await pull.pull(HubName(name))
      let file = result.folder.appendingPathComponent("model.safetensors")
      #expect(try Data(contentsOf: file) == weights)
      #expect(hub.storage.requests.last?.headers["range"] == "bytes=\(left.count)-299999")
    }
  }

  @Test func `progress counts every byte once`() async throws {
    let hub = try FakeHub()
    try await withTemporaryFolder { folder in
      let last = Last()
      let result = try await HubPull(hub.settings(folder)).pull(HubName(name)) { last.set($0) }
      #expect(last.value?.bytes == result.bytes)
      #expect(last.value?.totalBytes == result.bytes)
      #expect(last.value?.fileNumber == 5 && last.value?.fileCount == 5)
    }
  }

  @Test func `offline, only what is in the cache is given and nobody is asked`() async throws {
    let hub = try FakeHub()
    try await withTemporaryFolder { folder in
      var settings = hub.settings(folder)
      settings.isOffline = true
      let offline = HubPull(settings)
      let error = await #expect(throws: PeatError.self) {
        _ = try await offline.pull(HubName(name))
      }
      #expect(error?.code == .unavailable)
      #expect(error?.message.contains("HF_HUB_OFFLINE") == true)
      #expect(hub.hub.requests.isEmpty)
      let online = try await HubPull(hub.settings(folder)).pull(HubName(name))
      let before = hub.hub.requests.count
      let cached = try await offline.pull(HubName(name))
      #expect(cached.files == online.files && cached.fetchedBytes == 0)
      #expect(hub.hub.requests.count == before)
      // A file that is not what it was, and one that is gone.
      let weights = online.folder.appendingPathComponent("model.safetensors")
      let blob = weights.resolvingSymlinksInPath()
      try Data(try Data(contentsOf: blob).dropLast(7)).write(to: blob)
      func refused(_ words: String..., sourceLocation: SourceLocation = #_sourceLocation) async {
        let error = await #expect(throws: PeatError.self, sourceLocation: sourceLocation) {
          _ = try await offline.pull(HubName(name))
        }
        #expect(error?.code == .unavailable, sourceLocation: sourceLocation)
        for word in words + ["HF_HUB_OFFLINE"] {
          #expect(
            error?.message.contains(word) == true, "\(error?.message ?? "no error")",
            sourceLocation: sourceLocation)
        }
      }
      await refused("model.safetensors", "damaged")
      #expect(
        try await HubPull(hub.settings(folder)).pull(HubName(name)).fetchedBytes == 300_000)
      #expect(try await offline.pull(HubName(name)).bytes == online.bytes)
      try FileManager.default.removeItem(at: blob)
      await refused("only a part", "content of 'model.safetensors' is gone")
      try FileManager.default.removeItem(at: weights)
      await refused("no weights in safetensors")
      try FileManager.default.removeItem(at: online.folder.appendingPathComponent("config.json"))
      await refused("no config.json")
    }
  }
}
