import Foundation
import TestSupport
import Testing

/// Staying below a limit of memory that the system enforces.
@Suite("Memory limits", .timeLimit(.minutes(20))) struct MemoryLimitTests {
  @Test(arguments: ["f32", "bf16", "f16", "int8", "int4"])
  func `tune keeps frozen weights as it is told`(storage: String) async throws {
    let workshop = try await TinyWorkshop.shared()
    try await withTemporaryFolder { folder in
      let outcome = try await FedpeatCommand.succeed(
        [
          "tune", workshop.emulator, "--data", workshop.text, "--steps", "3", "--context", "16",
          "--storage", storage, "--out", "adapter", "--json",
        ], in: folder)
      #expect(try outcome.object()["storage"] as? String == storage)
      try await FedpeatCommand.succeed(
        ["plug-in", workshop.model, "adapter", "--out", "tuned"], in: folder)
    }
  }

  @Test func `a limit says what it chose, or what would be needed`() async throws {
    let workshop = try await TinyWorkshop.shared()
    try await withTemporaryFolder { folder in
      func tune(_ limit: String) async throws -> CommandResult {
        try await FedpeatCommand.run(
          [
            "tune", workshop.emulator, "--data", workshop.text, "--steps", "2", "--context", "16",
            "--memory-limit", limit, "--out", "adapter", "--json",
          ], in: folder)
      }
      let fits = try await tune("1GB")
      #expect(fits.status == 0, "\(fits)")
      let plan = try #require(fits.object()["memoryPlan"] as? [String: Any])
      #expect(plan["storage"] as? String == "f32" && plan["accumulation"] as? Int == 1)
      #expect(fits.errors.contains("memory       f32 weights"))
      let little = try await tune("1MB")
      #expect(little.status == 64 && little.errors.contains("would take about"), "\(little)")
      // More text than may be held is refused before it is read.
      let long = folder.appendingPathComponent("long.txt")
      try String(repeating: "A river of stones. ", count: 400_000).write(
        to: long, atomically: true, encoding: .utf8)
      let much = try await FedpeatCommand.run(
        [
          "tune", workshop.emulator, "--data", long.path, "--steps", "2", "--context", "16",
          "--memory-limit", "100MB", "--out", "adapter",
        ], in: folder)
      #expect(much.status == 64 && much.errors.contains("Reading"), "\(much)")
      for word in ["12XB", "-5MB", "0", "", "1e30GB"] {
        #expect(try await tune(word).status == 64, "\(word)")
      }
    }
  }

  @Test func `documents of different lengths stay below a limit`() async throws {
    try await withTemporaryFolder { folder in
      // From a few words to several windows, each with a prompt that is not learned.
      func words(_ count: Int) -> String {
        (0..<count).map { ["the ", "river ", "of ", "stones. "][$0 % 7 % 4] }.joined()
      }
      let lines = (0..<120).map { number in
        let length = 1 << (number * 7 % 10)
        return #"{"prompt": "\#(words(length / 3 + 1))", "completion": "\#(words(length))"}"#
      }
      try lines.joined(separator: "\n").write(
        to: folder.appendingPathComponent("pairs.jsonl"), atomically: true, encoding: .utf8)
      try await FedpeatCommand.succeed(
        [
          "pretrain", "--text", "pairs.jsonl", "--out", "model", "--hidden-size", "256", "--blocks",
          "6", "--vocabulary", "300", "--context", "512", "--batch", "1", "--steps", "1",
        ], in: folder)
      for (layout, more) in [
        ("documents", []), ("packed", ["--validation-share", "0.2"]),
        ("documents", ["--rank", "64", "--save-every", "1", "--update"]),
      ] {
        for limit in more.contains("--update") ? [170, 210, 280] : [130, 170, 240] {
          let outcome = try await FedpeatCommand.succeed(
            [
              "tune", "model", "--data", "pairs.jsonl", "--layout", layout, "--context", "512",
              "--batch", "4", "--steps", "8", "--memory-limit", "\(limit)MB", "--out", "adapter",
              "--threads", "2", "--json",
            ] + more, in: folder)
          let peak = try #require(try outcome.object()["peakMemoryBytes"] as? Int)
          #expect(peak <= limit * 1_000_000, "\(layout), \(limit) MB")
          try FileManager.default.removeItem(at: folder.appendingPathComponent("adapter"))
        }
      }
    }
  }

  @Test func `few addresses are no obstacle`() async throws {
    let workshop = try await TinyWorkshop.shared()
    try await withTemporaryFolder { folder in
      let process = Process()
      process.executableURL = URL(fileURLWithPath: "/bin/sh")
      process.currentDirectoryURL = folder
      process.arguments = [
        "-c",
        "ulimit -v 700000 && exec '\(FedpeatCommand.binary.path)' tune '\(workshop.emulator)' --data '\(workshop.text)' --steps 3 --context 16 --memory-limit 100MB --threads 2 --out adapter --quiet",
      ]
      process.standardError = FileHandle.nullDevice
      process.standardOutput = FileHandle.nullDevice
      try process.run()
      while process.isRunning { try await Task.sleep(for: .milliseconds(20)) }
      #expect(process.terminationStatus == 0 && process.terminationReason == .exit)
    }
  }

  @Test func `all weights of a model that trains can't be packed`() async throws {
    let workshop = try await TinyWorkshop.shared()
    try await withTemporaryFolder { folder in
      let outcome = try await FedpeatCommand.run(
        [
          "tune", workshop.model, "--data", workshop.text, "--steps", "1", "--method", "full",
          "--storage", "int8", "--out", "full",
        ], in: folder)
      #expect(outcome.status == 64 && outcome.errors.contains("are frozen"), "\(outcome)")
    }
  }

  /// A control group of our own, where the system lets us make one.
  private struct Group {
    let folder: URL

    init?(bytes: Int) {
      let parents = ["/sys/fs/cgroup/memory", "/sys/fs/cgroup"].map(URL.init(fileURLWithPath:))
      for parent in parents {
        let folder = parent.appendingPathComponent("fedpeat-test-\(UUID().uuidString.prefix(8))")
        guard mkdir(folder.path, 0o755) == 0 else { continue }
        for file in ["memory.limit_in_bytes", "memory.max"] {
          let url = folder.appendingPathComponent(file)
          guard FileManager.default.fileExists(atPath: url.path) else { continue }
          guard let handle = try? FileHandle(forWritingTo: url),
            (try? handle.write(contentsOf: Data("\(bytes)".utf8))) != nil
          else { continue }
          self.folder = folder
          return
        }
        rmdir(folder.path)
      }
      return nil
    }

    static let isPossible: Bool = {
      guard let group = Group(bytes: 1 << 30) else { return false }
      group.remove()
      return true
    }()

    func remove() { rmdir(folder.path) }
  }

  /// The command in a shell that first enters the group.
  private func run(_ arguments: [String], in group: Group, output: URL) async throws -> Int32 {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/bin/sh")
    let words = ([FedpeatCommand.binary.path] + arguments).map { "'\($0)'" }.joined(separator: " ")
    process.arguments = [
      "-c", "echo $$ > '\(group.folder.path)/cgroup.procs' && exec \(words)",
    ]
    try Data().write(to: output)
    process.standardOutput = try FileHandle(forWritingTo: output)
    process.standardError = FileHandle.nullDevice
    process.standardInput = FileHandle.nullDevice
    try process.run()
    while process.isRunning { try await Task.sleep(for: .milliseconds(50)) }
    return process.terminationReason == .exit ? process.terminationStatus : 137
  }

  @Test(
    .tags(.long), .onlyWithAll,
    .enabled(if: Group.isPossible, "no control group with a memory limit can be made here"))
  func `a GPT-2-sized model tunes 50 steps in 512 MB`() async throws {
    try await withTemporaryFolder { folder in
      let group = try #require(Group(bytes: 512_000_000))
      defer { group.remove() }
      let output = folder.appendingPathComponent("out.json")
      let status = try await run(
        ["bench", "step", "--runs", "50", "--memory-limit", "512MB", "--json"], in: group,
        output: output)
      #expect(status == 0)
      let report = try JSONSerialization.jsonObject(with: Data(contentsOf: output))
      let peak = (report as? [String: Any])?["peakMemoryBytes"] as? Int
      #expect(try #require(peak) <= 512_000_000)
    }
  }
}
