import Foundation
import PeatTokenizers

/// The files under `Golden`, made by Tools/golden/tokenizers/make_goldens.py.
enum Golden {
  struct Encoding: Decodable {
    let text: String
    let ids: [Int32]
    let idsWithSpecial: [Int32]
    let decoded: String
    let decodedSkipping: String
  }
  struct Decoding: Decodable {
    let ids: [Int32]
    let decoded: String
    let decodedSkipping: String
  }
  struct Cases: Decodable {
    let encodings: [Encoding]
    let decodings: [Decoding]
  }

  static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    .appendingPathComponent("Golden")
  /// The small tokenizers.
  static let names = [
    "gpt2-style", "sentencepiece-style", "metaspace", "llama3-style", "roberta-style",
    "qwen2-style", "clip-style", "affixes", "gemma-style", "bert-uncased", "bert-cased", "t5-style",
    "unigram-bytes",
  ]
  /// Those that lie with models among the assets.
  static let modelNames = ["stories260K", "all-MiniLM-L6-v2"]
  static var hasModels: Bool {
    modelNames.allSatisfy { asset("models/\($0)/tokenizer.json") != nil }
  }

  /// The lowest 16 bits of the FNV-1a hash of a text's UTF-8 bytes, in hexadecimal.
  static func fingerprint(_ text: String) -> String {
    var value: UInt64 = 0xCBF2_9CE4_8422_2325
    for byte in text.utf8 { value = (value ^ UInt64(byte)) &* 0x100_0000_01B3 }
    let digits = String(value & 0xFFFF, radix: 16)
    return String(repeating: "0", count: 4 - digits.count) + digits
  }

  static func data(_ path: String) throws -> Data {
    try Data(contentsOf: folder.appendingPathComponent(path))
  }

  static func tokenizer(_ name: String) throws -> Tokenizer {
    try Tokenizer(folder: folder.appendingPathComponent(name))
  }

  static func cases(_ path: String) throws -> Cases {
    try JSONDecoder().decode(Cases.self, from: data(path))
  }

  /// A folder of the assets that lie beside the project; `nil` where they are not there.
  static func asset(_ path: String) -> URL? {
    let root = folder.deletingLastPathComponent().deletingLastPathComponent()
      .deletingLastPathComponent()
    let assets =
      ProcessInfo.processInfo.environment["FEDPEAT_ASSETS"].map { URL(fileURLWithPath: $0) }
      ?? root.deletingLastPathComponent().appendingPathComponent("shared/assets")
    let url = assets.appendingPathComponent(path)
    return FileManager.default.fileExists(atPath: url.path) ? url : nil
  }
}

extension String {
  /// Its bytes: two texts are the same here only if these are.
  var bytes: [UInt8] { Array(utf8) }

  /// Random text of all of Unicode, with more of what is difficult.
  static func random(length: Int, using random: inout some RandomNumberGenerator) -> String {
    let difficult: [Unicode.Scalar] = [
      "a", "Z", "é", "'", "s", " ", " ", "\n", "\r", "\t", "\0", "1", "٣", "\u{301}", "\u{200D}",
      "\u{FE0F}", "👩",
      "中", "م", "\u{85}", "\u{A0}", "\u{2581}", "<", "|", ">", "\u{FFFD}", "\u{10FFFF}", "Ġ", ".",
      "_",
    ]
    var text = String.UnicodeScalarView()
    while text.count < length {
      if Bool.random(using: &random), let scalar = difficult.randomElement(using: &random) {
        text.append(scalar)
      } else if let scalar = Unicode.Scalar(UInt32.random(in: 0...0x10FFFF, using: &random)) {
        text.append(scalar)
      }
    }
    return String(text)
  }
}
