import Foundation
import PeatTensor

extension Checkpoint {
  /// The tokens at which a text that the model writes ends: `eos_token_id` of generation_config.json or, where that file is not there, of config.json; a number or a list.
  ///
  /// Chat models name the token there that ends a turn, which is often another than the tokenizer's `eos_token`. Mirrors transformers `GenerationConfig`.
  ///
  /// A number that is none of the model's tokens ends nothing: small models are often saved with the numbers of large ones.
  ///
  /// - Throws: `badData` that names the file, for what is no number.
  public func endTokens() throws -> Set<Int32> {
    let key = "eos_token_id"
    let url = folder.appendingPathComponent("generation_config.json")
    if FileManager.default.fileExists(atPath: url.path) {
      return try tokens(JSONFile.read(JSONValue.self, from: url)[key], key, in: url.path)
    }
    return try tokens(
      configurationJSON[key], key, in: folder.appendingPathComponent("config.json").path)
  }

  private func tokens(_ value: JSONValue?, _ key: String, in file: String) throws -> Set<Int32> {
    guard let value, !value.isNull else { return [] }
    let known = configuration.vocabularySize
    return Set(
      try (value.array ?? [value]).compactMap { item in
        guard let number = item.integer else {
          let found = item.string.map { "'\($0)'" } ?? "that is no whole number"
          throw PeatError.badData(
            "'\(file)' has \(key) \(found); expected numbers of tokens from 0 to \(known - 1), at which a text ends. Mend the number, or leave the key out."
          )
        }
        return (0..<known).contains(number) ? Int32(number) : nil
      })
  }
}
