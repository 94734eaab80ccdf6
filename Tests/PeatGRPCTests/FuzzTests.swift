import Foundation
import PeatFederation
import PeatGRPC
import PeatTensor
import TestSupport
import Testing

/// Whatever bytes a client sends end in a value or in a refusal: no crash, no value that is not finite, bounded memory.
///
/// FEDPEAT_FUZZ says how many inputs each test tries where 100,000 are not enough. A few thousand are tried in every run of the tests.
@Suite("Bytes from clients, changed at random", .timeLimit(.minutes(600))) struct FuzzTests {
  private static let fewer = 2_000
  private static var more: Int {
    ProcessInfo.processInfo.environment["FEDPEAT_FUZZ"].flatMap { Int($0) } ?? 100_000
  }
  /// By how much a test may let the process grow.
  private static let memory = 256 << 20

  /// Flips, cuts, doubles, inserts, and puts in numbers that are at the ends of what there is.
  static func changed(_ data: Data, using random: inout SeededRandom) -> Data {
    var bytes = [UInt8](data)
    for _ in 0...random.integer(below: 3) {
      if bytes.isEmpty { bytes = [0] }
      let place = random.integer(below: bytes.count)
      switch random.integer(below: 7) {
      case 0: bytes[place] ^= 1 << UInt8(random.integer(below: 8))
      case 1: bytes[place] = UInt8(random.integer(below: 256))
      case 2: bytes.removeSubrange(place...)
      case 3:
        let end = min(bytes.count, place + 1 + random.integer(below: 16))
        bytes.insert(contentsOf: Array(bytes[place..<end]), at: place)
      case 4:
        let end = min(bytes.count, place + 1 + random.integer(below: 8))
        bytes.removeSubrange(place..<end)
      case 5:
        let words: [[UInt8]] = [
          Array("9999999999999999999".utf8), Array("-1".utf8), Array("1e999".utf8),
          Array("null".utf8), Array("[[[[".utf8), Array("\u{0}\u{FFFF}".utf8),
          [0xFF, 0xFF, 0xC0, 0x7F],
          [0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F],
        ]
        bytes.insert(contentsOf: words[random.integer(below: words.count)], at: place)
      default:
        let end = min(bytes.count, place + 4)
        bytes.replaceSubrange(place..<end, with: [0, 0, 0xC0, 0x7F].prefix(end - place))
      }
    }
    return Data(bytes)
  }

  private func measured(_ what: String, _ count: Int, _ body: () async throws -> Int) async throws {
    let before = (ProcessMeasurement.peakMemoryBytes, ProcessMeasurement.heapBytes ?? 0)
    let start = ContinuousClock.now
    let taken = try await body()
    let grown = ProcessMeasurement.peakMemoryBytes - before.0
    let kept = (ProcessMeasurement.heapBytes ?? 0) - before.1
    print(
      "\(count) inputs to \(what): \(taken) taken, \(ContinuousClock.now - start), \(grown >> 20) MiB more at most, "
        + "\(kept >> 20) MiB of it still in use")
    // A few inputs are tried beside other tests, whose memory it is too.
    if count > Self.fewer { #expect(grown < Self.memory) }
    #expect(taken > 0 && taken < count)
  }

  // MARK: Messages and headers

  private func messages(_ count: Int) async throws {
    var random = SeededRandom(seed: 41)
    let examples = try ClientMessage.allCases.map { ($0, try $0.example()) }
    for (kind, data) in examples { try kind.read(data) }
    let header = try UpdateHeader(
      run: "run-0", round: 3, client: "ada", exampleCount: 5, baseDigest: Digest(of: Data()),
      rank: 2, alpha: 4, metrics: ["loss": 1.5]
    ).json()
    try await measured("messages and headers", count) {
      var taken = 0
      for number in 0..<count {
        if number % 4 == 0 {
          let data = Self.changed(header, using: &random)
          if (try? UpdateHeader(json: data, from: "update.json")) != nil { taken += 1 }
        } else {
          let (kind, data) = examples[random.integer(below: examples.count)]
          if (try? kind.read(Self.changed(data, using: &random))) != nil { taken += 1 }
        }
      }
      return taken
    }
  }

  @Test func `messages and headers are read or refused`() async throws {
    try await messages(Self.fewer)
  }

  @Test(.tags(.long), .onlyWithAll)
  func `messages and headers are read or refused, many`() async throws {
    try await messages(Self.more)
  }

  // MARK: The decoder

  private func decoder(_ count: Int) async throws {
    var random = SeededRandom(seed: 42)
    let base = ToyTrainer.adapter
    let tuned = base.mapValues { $0.map { 1.25 * $0 + 0.01 } }
    var seeds: [(UpdateHeader, Data)] = []
    for (rank, bits, word) in [
      (nil, nil, nil), (nil, 16, nil), (nil, 8, nil), (nil, 4, nil), (1, nil, nil),
      (nil, nil, "top-k=0.5,int8"), (nil, nil, "top-k=0.25,f16"),
    ] as [(Int?, Int?, String?)] {
      let encoding = try UpdateEncoding(rank: rank, bits: bits, word: word)
      var header = UpdateHeader(
        run: "run-0", round: 1, client: "ada", exampleCount: 1, rank: 2, alpha: 4)
      (header.trainedRank, header.uploadBits, header.upload) = (rank, bits, word)
      seeds.append((header, try encoding.encode(tuned, from: base, seed: 1)))
    }
    let policy = UpdatePolicy(
      run: "run-0", round: 1, base: base, method: "lora", rank: 2, alpha: 4, sizeLimit: 10_000)
    for (header, data) in seeds { _ = try Self.decode(data, header, policy) }
    try await measured("the decoder", count) {
      var taken = 0
      for _ in 0..<count {
        let (header, data) = seeds[random.integer(below: seeds.count)]
        do {
          let tensors = try Self.decode(Self.changed(data, using: &random), header, policy)
          taken += 1
          #expect(tensors.mapValues(\.shape) == policy.shapes)
          #expect(tensors.values.allSatisfy { $0.isFinite })
        } catch is UpdateRefusal {}
      }
      return taken
    }
  }

  private static func decode(
    _ data: Data, _ header: UpdateHeader, _ policy: UpdatePolicy
  ) throws -> NamedTensors {
    let file = folder.appendingPathComponent("update.safetensors")
    try data.write(to: file)
    return try policy.decode(file, header)
  }

  private static let folder: URL = {
    // In memory where there is such a place: millions of small files are written.
    let memory = URL(fileURLWithPath: "/dev/shm")
    let place =
      (FileManager.default.isWritableFile(atPath: memory.path)
      ? memory : FileManager.default.temporaryDirectory)
      .appendingPathComponent("fedpeat-fuzz-\(ProcessInfo.processInfo.processIdentifier)")
    try? FileManager.default.createDirectory(at: place, withIntermediateDirectories: true)
    return place
  }()

  @Test func `updates are decoded or refused`() async throws { try await decoder(Self.fewer) }

  @Test(.tags(.long), .onlyWithAll)
  func `updates are decoded or refused, many`() async throws { try await decoder(Self.more) }

  // MARK: The receiver of pieces

  /// Offers, pieces in any order and size under any ticket, ends: one call is one input.
  private func receiver(_ count: Int) async throws {
    var random = SeededRandom(seed: 43)
    let good = SafeTensors.encode(ToyTrainer.adapter)
    try await measured("the receiver of pieces", count) {
      var (calls, taken) = (0, 0)
      while calls < count {
        // A coordinator remembers each round: a new one from time to time.
        let place = Self.folder.appendingPathComponent("receiver")
        try FileManager.default.createDirectory(at: place, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: place) }
        let federation = try await Federation(
          .inMemory, in: place,
          // What waits holds memory until its time, also where it is cancelled: short times.
          rules: RoundRules(
            rounds: 100_000, deadline: .seconds(5), gatheringDeadline: .seconds(5),
            attempts: 1_000_000), pollTimeout: .seconds(2),
          heartbeat: .seconds(5))
        let running = Task { try? await federation.coordinator.run() }
        let client = try await federation.stranger("evil")
        let coordinator = federation.coordinator
        let end = min(count, calls + 2_000)
        while calls < end {
          let task = try await client.task()
          var header = client.header(task)
          if random.integer(below: 8) == 0 { header.exampleCount = random.integer(below: 3) - 1 }
          var payload = good
          if random.integer(below: 2) == 0 { payload = Self.changed(good, using: &random) }
          var json = try header.json()
          if random.integer(below: 8) == 0 { json = Self.changed(json, using: &random) }
          let announced = random.integer(below: 6) == 0 ? random.integer(below: 400) : payload.count
          calls += 1
          guard
            case .send(let ticket, _) = try await coordinator.offer(
              UploadOffer(
                caller: client.caller, header: json,
                payload: BlobReference(digest: Digest(of: payload), bytes: announced)))
          else { continue }
          do {
            var offset = 0
            while offset < payload.count {
              let size = 1 + random.integer(below: 96)
              let piece = payload.dropFirst(offset).prefix(size)
              let wrong = random.integer(below: 24)
              calls += 1
              try await coordinator.receive(
                Data(wrong == 0 ? piece + piece : piece), ticket: wrong == 1 ? "x" : ticket,
                offset: wrong == 2 ? random.integer(below: 500) - 50 : offset)
              offset += size
            }
            calls += 1
            if try await coordinator.finishUpload(ticket: ticket) == .accepted { taken += 1 }
          } catch is UpdateRefusal {
            // A piece under no ticket ends nothing: the upload may still be finished, or not.
            calls += 1
            if try await coordinator.finishUpload(ticket: ticket) == .accepted { taken += 1 }
          }
        }
        await coordinator.cancel(reason: "enough")
        _ = await running.value
      }
      return taken
    }
  }

  @Test func `pieces are taken or refused`() async throws { try await receiver(Self.fewer) }

  @Test(.tags(.long), .onlyWithAll)
  func `pieces are taken or refused, many`() async throws { try await receiver(Self.more) }
}
