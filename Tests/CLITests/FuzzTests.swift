import Foundation
import PeatTensor
import TestSupport
import Testing

/// Files and flags changed at random: whatever comes in, the program ends with one of its exit codes and says why.
@Suite("Fuzzed input") struct FuzzTests {
  /// A file of the workshop, and commands that read it as FILE, or the folder it lies in as FOLDER.
  struct Target: Sendable {
    let folder: String?
    let files: [String]
    let commands: [String]
  }

  static let targets = [
    Target(
      folder: "model", files: ["config.json", "model.safetensors", "tokenizer.json"],
      commands: [
        "inspect FOLDER", "evaluate FOLDER --text TEXT --limit 2", "generate FOLDER --prompt a",
        "compress FOLDER --recipe layer-drop=1 --out x",
        "tune FOLDER --data TEXT --steps 1 --batch 2 --out x",
      ]),
    Target(
      folder: "emulator", files: ["emulator.json", "config.json"],
      commands: [
        "inspect FOLDER", "evaluate FOLDER --text TEXT --limit 2 --adapter ADAPTER",
        "tune FOLDER --data TEXT --steps 1 --batch 2 --out x",
      ]),
    Target(
      folder: "adapter",
      files: [
        "adapter_config.json", "fedpeat.json", "adapter_model.safetensors", "update.json",
        "update.safetensors",
      ],
      commands: [
        "inspect FOLDER", "plug-in MODEL FOLDER --out x", "aggregate ADAPTER FOLDER --out x",
        "evaluate EMULATOR --text TEXT --limit 2 --adapter FOLDER",
      ]),
    Target(
      folder: nil, files: ["documents.jsonl"],
      commands: [
        "tune EMULATOR --data FILE --steps 1 --batch 2 --out x",
        "evaluate MODEL --text FILE --documents --limit 3",
      ]),
    Target(folder: nil, files: ["choices.jsonl"], commands: ["evaluate MODEL --choices FILE"]),
    Target(
      folder: nil, files: ["run.yaml"], commands: ["simulate FILE --rounds 1 --local-steps 1"]),
  ]

  static let numbers = [
    "0", "-1", "1", "99999999999999999999", "9223372036854775807", "2147483647", "1e308", "3.5",
    "null", "\"x\"", "[]", "{}", "true",
  ]

  /// One to four changes: bytes replaced, removed or added, the end cut off, a number or a word replaced.
  private func mutated(_ data: Data, _ random: inout SeededRandom) -> Data {
    var bytes = [UInt8](data)
    for _ in 0...random.integer(below: 3) where !bytes.isEmpty {
      let reach = [16, 400, bytes.count][random.integer(below: 3)]
      let place = random.integer(below: min(reach, bytes.count))
      switch random.integer(below: 6) {
      case 0: bytes[place] = UInt8(random.integer(below: 256))
      case 1:
        bytes.removeSubrange(place..<min(place + 1 + random.integer(below: 50), bytes.count))
      case 2:
        bytes.insert(
          contentsOf: (0...random.integer(below: 8)).map { _ in UInt8(random.integer(below: 256)) },
          at: place)
      case 3: bytes.removeSubrange(place...)
      case 4:
        let isDigit = { (byte: UInt8) in (48...57).contains(byte) }
        guard let first = bytes[place...].firstIndex(where: isDigit) else { continue }
        let end = bytes[first...].firstIndex { !isDigit($0) } ?? bytes.count
        bytes.replaceSubrange(
          first..<end, with: Self.numbers[random.integer(below: Self.numbers.count)].utf8)
      default:
        guard let first = bytes[place...].firstIndex(of: 34),
          let end = bytes[(first + 1)...].firstIndex(of: 34)
        else { continue }
        let words = ["\"x\"", "null", "\"\"", "[]", "\"\u{FFFD}\""]
        bytes.replaceSubrange(first...end, with: words[random.integer(below: words.count)].utf8)
      }
    }
    return Data(bytes)
  }

  private func names(_ workshop: TinyWorkshop) -> [String: String] {
    [
      "MODEL": workshop.model, "EMULATOR": workshop.emulator, "ADAPTER": workshop.adapter,
      "TEXT": workshop.text,
    ]
  }

  private func check(
    _ arguments: [String], in folder: URL, _ comment: String,
    sourceLocation: SourceLocation = #_sourceLocation
  ) async throws {
    let result = try await RunningCommand(
      arguments + ["--json", "--quiet", "--threads", "1"], in: folder
    ).finish(seconds: 60)
    #expect(
      exitCodes.subtracting([70, 130]).contains(result.status), "\(comment): \(result)",
      sourceLocation: sourceLocation)
    expectNoCrash(result, sourceLocation: sourceLocation)
    if result.status == 0 {
      _ = try result.object(sourceLocation: sourceLocation)
    } else {
      #expect(result.output.isEmpty, "\(comment): \(result)", sourceLocation: sourceLocation)
      #expect(
        result.errors.lowercased().contains("error:"), "\(comment): \(result)",
        sourceLocation: sourceLocation)
    }
    expectNothingPartial(in: folder, sourceLocation: sourceLocation)
  }

  private func fuzzFiles(seeds: Range<UInt64>) async throws {
    let workshop = try await TinyWorkshop.shared()
    for seed in seeds {
      var random = SeededRandom(seed: seed, "fuzzed files")
      let target = Self.targets[random.integer(below: Self.targets.count)]
      let name = target.files[random.integer(below: target.files.count)]
      let command = target.commands[random.integer(below: target.commands.count)]
      try await withTemporaryFolder { folder in
        let copy = try workshop.copy(target.folder ?? name, to: folder)
        let file = target.folder == nil ? copy : copy.appendingPathComponent(name)
        try mutated(Data(contentsOf: file), &random).write(to: file)
        var names = names(workshop)
        names["FOLDER"] = copy.path
        names["FILE"] = copy.path
        let arguments = command.split(separator: " ").map { names[String($0)] ?? String($0) }
        try await check(arguments, in: folder, "seed \(seed), \(name)")
      }
    }
  }

  @Test func `changed files`() async throws { try await fuzzFiles(seeds: 0..<60) }

  @Test(.tags(.long), .onlyWithAll) func `many changed files`() async throws {
    try await fuzzFiles(seeds: 60..<3000)
  }

  @Test func `changed flags`() async throws {
    let workshop = try await TinyWorkshop.shared()
    let commands = [
      "tune EMULATOR --data TEXT --out x --steps 1 --batch 2 --context 16 --rank 2 --alpha 4 --learning-rate 1e-3 --clip 1 --warm-up 1 --validation-share 0.1 --accumulation 1 --weight-decay 0 --seed 1",
      "compress MODEL --bottom 1 --top 1 --recipe layer-drop=1 --out x --seed 1",
      "evaluate MODEL --text TEXT --context 16 --stride 8 --limit 3",
      "generate MODEL --prompt a --max-tokens 3 --temperature 1 --top-tokens 2 --seed 1",
      "pretrain --text TEXT --out x --vocabulary 270 --blocks 1 --hidden-size 8 --heads 2 --key-value-heads 1 --feed-forward-size 8 --context 8 --batch 2 --steps 1 --learning-rate 1e-3",
      "bench step --layers 1 --batch 1 --context 4 --runs 1",
      "simulate RUN --clients 2 --rounds 1 --local-steps 1 --batch 1 --context 8 --rank 1 --alpha 2 --learning-rate 1e-3 --server-weight 0.5 --minimum-clients 1 --seeds 1",
      "join --coordinator 127.0.0.1:1 --data TEXT --retries 1",
    ]
    // Large whole numbers only where they ask for a size, not for an amount of work.
    let amounts: Set<Substring> = [
      "--steps", "--rounds", "--local-steps", "--runs", "--seeds", "--retries",
    ]
    for seed in UInt64(0)..<60 {
      var random = SeededRandom(seed: seed, "fuzzed flags")
      var words = commands[random.integer(below: commands.count)].split(separator: " ")
      let flags = words.indices.filter { words[$0].hasPrefix("--") && $0 + 1 < words.count }
      let flag = flags[random.integer(below: flags.count)]
      var values: [Substring] = ["0", "-1", "nan", "inf", "", "x", "1e308", "0.5", "--json", "☃"]
      if !amounts.contains(words[flag]) {
        values += ["9223372036854775807", "99999999999999999999", "2147483647", "1048575"]
      }
      words[flag + 1] = values[random.integer(below: values.count)]
      var names = names(workshop)
      names["RUN"] = workshop.runFile
      let arguments = words.map { names[String($0)] ?? String($0) }
      try await withTemporaryFolder { folder in
        try await check(arguments, in: folder, "seed \(seed)")
      }
    }
  }
}
