import Foundation
import PeatModels
import PeatTensor
import TestSupport
import Testing

/// Changed config.json and safetensors end in a model or in an error: no crash, no hang, no memory without bound.
///
/// FEDPEAT_MUTATIONS says how many, where 100,000 are not enough.
@Suite("Checkpoint files, changed at random") struct FuzzTests {
  private static var count: Int {
    ProcessInfo.processInfo.environment["FEDPEAT_MUTATIONS"].flatMap { Int($0) } ?? 100_000
  }

  private static let families = ProjectFolders.golden.appendingPathComponent("families")
  private static let names =
    ((try? FileManager.default.contentsOfDirectory(atPath: families.path)) ?? [])
    .filter { $0 != "manifest.json" }.sorted()

  private static let values: [JSONValue] = [
    0, 1, 2, 3, 7, 16, 48, -1, 0.5, 1e-300, 1e300, .integer(.max), .integer(.min), 2_147_483_647,
    65_536, true, false, .null, "", "gelu", "silu", "relu", "yarn", "llama3", "linear",
    "sliding_attention", "LlamaForSequenceClassification", "BertForMaskedLM", [], [:], [1, 2],
    ["factor": 3, "rope_type": "linear"], ["0": "a", "1": "b"],
  ]

  /// A value with one thing in it changed: a member taken out, set to something else, or set to what another has.
  private static func changed(_ value: JSONValue, _ random: inout SeededRandom) -> JSONValue {
    switch value {
    case .object(var table) where !table.isEmpty:
      let keys = table.keys.sorted()
      let key = keys[random.integer(below: keys.count)]
      switch random.integer(below: 5) {
      case 0: table[key] = nil
      case 1: table[key] = table[keys[random.integer(below: keys.count)]]
      case 2: table[key] = table[key].map { changed($0, &random) }
      default: table[key] = values[random.integer(below: values.count)]
      }
      return .object(table)
    case .array(var list) where !list.isEmpty && random.integer(below: 3) > 0:
      let place = random.integer(below: list.count)
      if random.integer(below: 2) == 0 {
        list.remove(at: place)
      } else {
        list[place] = values[random.integer(below: values.count)]
      }
      return .array(list)
    case .integer(let number) where random.integer(below: 2) == 0:
      return .integer(number &+ random.integer(below: 5) &- 2)
    default: return values[random.integer(below: values.count)]
    }
  }

  @Test(.tags(.long), .onlyWithAll) func `a config.json ends in a model or an error`() throws {
    var random = SeededRandom(seed: 41)
    let cases = try Self.names.map { name in
      let checkpoint = try Checkpoint(folder: Self.families.appendingPathComponent(name))
      return (json: checkpoint.configurationJSON, tensors: try checkpoint.tensors())
    }
    var (read, made, ran) = (0, 0, 0)
    for _ in 0..<Self.count {
      let (json, tensors) = cases[random.integer(below: cases.count)]
      var changed = json
      for _ in 0...random.integer(below: 3) { changed = Self.changed(changed, &random) }
      do {
        let configuration = try Architectures.configuration(
          from: ConfigurationFile(name: "config.json", json: changed))
        read += 1
        // What a file of fewer blocks would say.
        _ = Architectures.configuration(changed, withBlocks: [0])
        let model = try TransformerModel(
          configuration: configuration, tensors: tensors, source: "changed")
        made += 1
        ran += try Self.run(model) ? 1 : 0
      } catch is PeatError {}
    }
    print(
      "\(Self.count) changed config.json: \(read) read, \(made) made a model, \(ran) ran, \(Self.peakMemory) at most"
    )
    #expect(made > Self.count / 50 && ran > made / 2 && read < Self.count)
  }

  /// States of a short text, of a picture, or of a source and a target.
  private static func run(_ model: TransformerModel) throws -> Bool {
    let configuration = model.configuration
    let tape = Tape()
    if let image = configuration.image {
      let patches = Tensor(repeating: 0.5, shape: [image.patches, image.patchSize])
      let rows =
        (0..<image.ownTokens).map { Int32(-1 - $0) } + (0..<image.patches).map { Int32($0) }
      let states = rows.withUnsafeBufferPointer {
        model.hiddenStates(
          ModelInputs($0, patches: PatchTable(patches)),
          layout: SequenceLayout(rows: rows.count, length: rows.count), on: tape)
      }
      #expect(states.rows == configuration.contextLength)
      return true
    }
    guard model.contextLength >= 3, configuration.vocabularySize >= 3 else { return false }
    guard configuration.hasEncoder else {
      #expect(model.logits([0, 1, 2], length: 3).shape[0] == 3)
      return true
    }
    let tokens: [Int32] = [0, 1, 2, 0, 1]
    let layout = model.layout(rows: 5, length: 5, sourceLength: 3)
    let states = tokens.withUnsafeBufferPointer {
      model.hiddenStates(.init($0), layout: layout, on: tape)
    }
    #expect(states.rows == 5)
    return true
  }

  private static var peakMemory: String {
    let status = try? String(contentsOfFile: "/proc/self/status", encoding: .utf8)
    let line = status?.split(separator: "\n").first { $0.hasPrefix("VmHWM") }
    return line.map { $0.split(whereSeparator: \.isWhitespace).dropFirst().joined(separator: " ") }
      ?? "?"
  }

  @Test(.tags(.long), .onlyWithAll)
  func `a config.json of changed bytes ends in a value or an error`()
    throws
  {
    var random = SeededRandom(seed: 42)
    let files = try Self.names.map { name in
      try Data(contentsOf: Self.families.appendingPathComponent("\(name)/config.json"))
    }
    var read = 0
    for _ in 0..<Self.count {
      let bytes = Self.changed(files[random.integer(below: files.count)], &random)
      do {
        let json = try JSONFile.decode(JSONValue.self, from: bytes, name: "config.json")
        _ = try JSONFile.encode(json)
        _ = try Architectures.configuration(from: ConfigurationFile(name: "x", json: json))
        read += 1
      } catch is PeatError {}
    }
    print("\(Self.count) config.json of changed bytes: \(read) read")
    #expect(read > 0 && read < Self.count)
  }

  @Test(.tags(.long), .onlyWithAll) func `a safetensors file ends in tensors or an error`() throws {
    var random = SeededRandom(seed: 43)
    let files = try Self.names.map { name in
      try Data(contentsOf: Self.families.appendingPathComponent("\(name)/model.safetensors"))
    }
    var read = 0
    for _ in 0..<Self.count {
      let file = files[random.integer(below: files.count)]
      // The header, mostly: what lies behind it are numbers.
      let bytes = Self.changed(file, &random, within: 4_000)
      do {
        _ = try SafeTensors.decode(bytes, from: "changed")
        read += 1
      } catch is PeatError {}
    }
    print("\(Self.count) changed safetensors: \(read) read")
    #expect(read > 0 && read < Self.count)
  }

  /// One to four changes: a byte replaced, some taken out, repeated or added, the end cut off.
  private static func changed(
    _ data: Data, _ random: inout SeededRandom, within reach: Int = .max
  ) -> Data {
    var bytes = [UInt8](data)
    for _ in 0...random.integer(below: 3) where !bytes.isEmpty {
      let place = random.integer(below: min(reach, bytes.count))
      let end = min(bytes.count, place + 1 + random.integer(below: 12))
      switch random.integer(below: 6) {
      case 0: bytes[place] = UInt8(random.integer(below: 256))
      case 1: bytes.removeSubrange(place..<end)
      case 2: bytes.insert(contentsOf: bytes[place..<end], at: place)
      case 3:
        bytes.insert(
          contentsOf: Array(
            ["0", "-1", "9", "]", "}", "\"", ",", "1e99"][
              random.integer(below: 8)
            ].utf8), at: place)
      case 4 where random.integer(below: 8) == 0: bytes.removeSubrange(place...)
      default: bytes[place] = bytes[random.integer(below: min(reach, bytes.count))]
      }
    }
    return Data(bytes)
  }
}
