import Foundation
import PeatTensor

/// The tokens that begin and end a text, as the files beside `tokenizer.json` name them.
///
/// `tokenizer_config.json` comes before `special_tokens_map.json`; a token is a string or an object with "content".
struct SpecialTokenNames {
  var begin: (token: ByteString, place: String)?
  var end: (token: ByteString, place: String)?

  init(files: [String: Data]) throws {
    for name in ["tokenizer_config.json", "special_tokens_map.json"] {
      guard let data = files[name] else { continue }
      let file = try TokenizerPart(data, file: name)
      begin = try begin ?? Self.read(file, "bos_token")
      end = try end ?? Self.read(file, "eos_token")
    }
  }

  private static func read(_ file: TokenizerPart, _ key: String) throws -> (ByteString, String)? {
    guard let part = try file.optional(key) else { return nil }
    let place = "\(file.file): '\(key)'"
    if case .object = part.value { return (try part.string("content"), place) }
    return (try part.string(), place)
  }
}
