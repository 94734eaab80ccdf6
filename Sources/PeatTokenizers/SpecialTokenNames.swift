import Foundation
import PeatTensor

/// The tokens that begin and end a text, as the files beside `tokenizer.json` name them.
///
/// `tokenizer_config.json` comes before `special_tokens_map.json`; a token is a string or an object with "content".
struct SpecialTokenNames {
  var begin: (token: ByteString, place: String)?
  var end: (token: ByteString, place: String)?

  init(files: [String: Data]) throws {
    let tokens = try Self.read(["bos_token", "eos_token"], in: files)
    (begin, end) = (tokens["bos_token"], tokens["eos_token"])
  }

  /// The tokens that the files name under some keys, and where they do.
  static func read(
    _ keys: [String], in files: [String: Data]
  ) throws -> [String: (token: ByteString, place: String)] {
    var tokens: [String: (token: ByteString, place: String)] = [:]
    for name in ["tokenizer_config.json", "special_tokens_map.json"] {
      guard let data = files[name] else { continue }
      let file = try TokenizerPart(data, file: name)
      for key in keys where tokens[key] == nil {
        guard let part = try file.optional(key) else { continue }
        let isObject = if case .object = part.value { true } else { false }
        tokens[key] = (
          try isObject ? part.string("content") : part.string(), "\(file.file): '\(key)'"
        )
      }
    }
    return tokens
  }
}
