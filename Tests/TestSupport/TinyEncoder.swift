import Foundation
import PeatTensor

/// A tiny BERT among the golden families, with a tokenizer of whole words.
public enum TinyEncoder {
  private static let specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
  /// Those of `TinyWorkshop.sentences`, and a few more.
  public static let words =
    "the cat dog bird sat ran flew on under over a mat tree hill in rain sun and then . not"
    .split(separator: " ").map(String.init)

  /// The number of a word or of a special token.
  public static func number(of word: String) -> Int32 {
    Int32((specials + words).firstIndex(of: word) ?? 1)
  }

  /// Copies a family and writes a tokenizer beside it.
  ///
  /// - Parameter family: one of BERT's kind with a vocabulary of 53, such as `bert-masked`.
  public static func write(_ family: String, to folder: URL) throws {
    try FileManager.default.copyItem(
      at: ProjectFolders.golden.appendingPathComponent("families/\(family)"), to: folder)
    try tokenizerJSON().write(to: folder.appendingPathComponent("tokenizer.json"))
  }

  /// tokenizer.json: WordPiece of whole words; `[CLS] A [SEP]`, and `[CLS] A [SEP] B [SEP]` with the types 0 and 1.
  public static func tokenizerJSON() throws -> Data {
    let vocabulary = Dictionary(
      uniqueKeysWithValues: (specials + words).enumerated().map { ($1, $0) })
    func special(_ token: String, _ type: Int) -> [String: Any] {
      ["SpecialToken": ["id": token, "type_id": type]]
    }
    func text(_ name: String, _ type: Int) -> [String: Any] {
      ["Sequence": ["id": name, "type_id": type]]
    }
    let file: [String: Any] = [
      "version": "1.0",
      "added_tokens": specials.enumerated().map { number, token in
        [
          "id": number, "content": token, "special": true, "normalized": false, "lstrip": false,
          "rstrip": false, "single_word": false,
        ] as [String: Any]
      },
      "normalizer": ["type": "Lowercase"],
      "pre_tokenizer": ["type": "Whitespace"],
      "post_processor": [
        "type": "TemplateProcessing",
        "single": [special("[CLS]", 0), text("A", 0), special("[SEP]", 0)],
        "pair": [
          special("[CLS]", 0), text("A", 0), special("[SEP]", 0), text("B", 1),
          special("[SEP]", 1),
        ],
        "special_tokens": [
          "[CLS]": ["id": "[CLS]", "ids": [2], "tokens": ["[CLS]"]],
          "[SEP]": ["id": "[SEP]", "ids": [3], "tokens": ["[SEP]"]],
        ],
      ],
      "model": [
        "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
        "max_input_chars_per_word": 100, "vocab": vocabulary,
      ],
    ]
    return try JSONSerialization.data(withJSONObject: file)
  }
}
