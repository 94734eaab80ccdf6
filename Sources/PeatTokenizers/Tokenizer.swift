import Foundation
import PeatTensor

/// A tokenizer as Hugging Face's `tokenizer.json` describes it.
///
///     let tokenizer = try Tokenizer(folder: checkpointFolder)
///     let numbers = try tokenizer.encode("Once upon a time", addSpecialTokens: true)
///     let text = tokenizer.decode(numbers, skipSpecialTokens: true)
///
/// A text goes through: added tokens cut out → normalizer → pre-tokenizer → model → post-processor; token numbers go back
/// through the decoder. Supported: the models and parts listed in `TokenModels`, `Normalizers`, `PreTokenizers`, `PostProcessor`
/// and `Decoders`; any other part is refused by name. The file's "truncation" and "padding" are applied by `encodeBatch` alone:
/// elsewhere who encodes decides on lengths.
///
/// Mirrors tokenizers 0.23 (<https://github.com/huggingface/tokenizers>), with the versions of Unicode that its parts know.
public struct Tokenizer: TextTokenizer {
  /// The files as they were read, by name, so that another checkpoint can carry the same tokenizer on.
  public let sourceFiles: [String: Data]
  public let vocabularySize: Int
  public let beginToken: Int32?
  public let endToken: Int32?
  /// What the file says on the length of encodings; what `encodeBatch` does if not told otherwise.
  public let truncation: Truncation?
  public let padding: Padding?

  private let normalizer: (any Normalizer)?
  private let preTokenizer: (any PreTokenizer)?
  private let model: any TokenModel
  private let postProcessor: PostProcessor
  let decoder: [any DecoderStage]
  /// Where the decoder makes the same of a token wherever it stands.
  private let decodingRule: DecodingRule?
  private let tokenTexts = LazyTokenTexts()

  private let rawAddedTokens: AddedTokenFinder
  private let normalizedAddedTokens: AddedTokenFinder
  private let addedTokens: [Int32: AddedToken]
  /// What the decoder is given for an added token: its normalised form, where that is what is looked for.
  private let addedContents: [Int32: ByteString]
  private let addedNumbers: [ByteString: Int32]
  /// Numbers that decoding leaves out where it leaves special tokens out.
  private let skippedNumbers: Set<Int32>

  /// Names of the files that a tokenizer may consist of.
  public static let fileNames = [
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "vocab.json",
    "merges.txt", "tokenizer.model", "chat_template.jinja",
  ]

  /// Reads the tokenizer of a checkpoint folder.
  ///
  /// - Throws: `PeatError.inputOutput` where `tokenizer.json` is missing or can't be read; `badData` where a file is wrong.
  public init(folder: URL) throws {
    var files: [String: Data] = [:]
    for name in Self.fileNames {
      let url = folder.appendingPathComponent(name)
      guard FileManager.default.fileExists(atPath: url.path) else { continue }
      do {
        files[name] = try Data(contentsOf: url)
      } catch {
        throw PeatError(.inputOutput, "\(url.path): the file can't be read.", cause: error)
      }
    }
    guard files["tokenizer.json"] != nil else {
      throw PeatError.inputOutput(
        "\(folder.path): there is no tokenizer.json. A checkpoint with another tokenizer file can be converted with "
          + "transformers: AutoTokenizer.from_pretrained(…).save_pretrained(…).")
    }
    try self.init(files: files)
  }

  /// Reads a tokenizer from the bytes of `tokenizer.json` and, if there, `tokenizer_config.json`.
  public init(json: Data, configuration: Data? = nil) throws {
    var files = ["tokenizer.json": json]
    files["tokenizer_config.json"] = configuration
    try self.init(files: files)
  }

  /// Reads a tokenizer from files by name; `tokenizer.json` has to be among them.
  public init(files: [String: Data]) throws {
    guard let json = files["tokenizer.json"] else {
      throw PeatError.badData("The tokenizer's files have no tokenizer.json.")
    }
    sourceFiles = files
    let file = try TokenizerPart(json, file: "tokenizer.json")
    guard case .object = file.value else {
      throw file.failure("is \(file.value.kind), expected an object.")
    }

    let model = try TokenModels.read(file.required("model"))
    let normalizer = try file.optional("normalizer").map(Normalizers.read)
    let postProcessor = try file.optional("post_processor").map(PostProcessor.read) ?? .none
    self.model = model
    self.normalizer = normalizer
    self.postProcessor = postProcessor
    preTokenizer = try file.optional("pre_tokenizer").map(PreTokenizers.read)
    decoder = try file.optional("decoder").map(Decoders.read) ?? [JoinDecoder()]
    decodingRule = DecodingRule(decoder)
    truncation = try file.optional("truncation").map { try Truncation($0) }
    padding = try file.optional("padding").map { try Padding($0) }

    let added = try Self.readAddedTokens(file, model.vocabulary)
    addedTokens = Dictionary(added.map { ($0.number, $0) }, uniquingKeysWith: { first, _ in first })
    addedNumbers = Dictionary(
      added.map { (ByteString($0.content), $0.number) }, uniquingKeysWith: { first, _ in first })
    rawAddedTokens = AddedTokenFinder(added.filter { !$0.isNormalized }.map { ($0.content, $0) })
    let normalized = try added.filter(\.isNormalized).map { token in
      (content: try normalizer?.normalized(token.content) ?? token.content, token: token)
    }
    normalizedAddedTokens = AddedTokenFinder(normalized)
    addedContents = Dictionary(
      added.map { ($0.number, ByteString($0.content)) }
        + normalized.map { ($0.token.number, ByteString($0.content)) }, uniquingKeysWith: { $1 })
    // By what the decoder is given, as in tokenizers: a special token that a normalizer changes is none of the special ones there.
    let special = Set(added.filter(\.isSpecial).map { ByteString($0.content) })
    skippedNumbers = Set(addedContents.filter { special.contains($0.value) }.keys)
    vocabularySize = max(
      model.vocabulary.tokens.count, (added.map { Int($0.number) }.max() ?? -1) + 1)

    let addedTokens = addedTokens
    for number in postProcessor.addedNumbers
    where addedTokens[number] == nil && model.vocabulary.token(number) == nil {
      throw file.failure(
        "has a 'post_processor' that adds the token \(number), which does not exist.")
    }
    let names = try SpecialTokenNames(files: files)
    let addedNumbers = addedNumbers
    func number(_ name: (token: ByteString, place: String)?) throws -> Int32? {
      guard let name else { return nil }
      guard let number = addedNumbers[name.token] ?? model.vocabulary.numbers[name.token] else {
        throw PeatError.badData(
          "\(name.place) is '\(name.token.text)', a token that tokenizer.json does not have. "
            + "Check that the two files come from the same checkpoint.")
      }
      return number
    }
    beginToken = try number(names.begin) ?? postProcessor.before.first
    endToken = try number(names.end) ?? postProcessor.after.last
  }

  private static func readAddedTokens(_ file: TokenizerPart, _ vocabulary: Vocabulary) throws
    -> [AddedToken]
  {
    guard let list = try file.optional("added_tokens") else { return [] }
    var tokens: [AddedToken] = []
    var contents: [ByteString: Int32] = [:]
    var numbers: [Int32: ByteString] = [:]
    for part in try list.elements() {
      let token = try AddedToken(part)
      let content = ByteString(token.content)
      if content.bytes.isEmpty { continue }
      if let number = vocabulary.numbers[content] ?? contents[content], number != token.number {
        throw part.failure(
          "gives '\(content.text)' the number \(token.number), but it has \(number) already.")
      }
      if let other = vocabulary.token(token.number) ?? numbers[token.number], other != content {
        throw part.failure("gives '\(content.text)' the number \(token.number) of '\(other.text)'.")
      }
      if contents.updateValue(token.number, forKey: content) != nil {
        throw part.failure("names '\(content.text)' a second time.")
      }
      numbers[token.number] = content
      tokens.append(token)
    }
    return tokens
  }

  /// The number of a token; `nil` where there is no such token.
  public func number(of token: String) -> Int32? {
    let key = ByteString(token)
    return addedNumbers[key] ?? model.vocabulary.numbers[key]
  }

  /// Whether a text encoded with special tokens starts with the begin token.
  public var addsBeginToken: Bool {
    get throws {
      try beginToken != nil && encode("a", addSpecialTokens: true).first == beginToken
    }
  }

  /// The token that stands in the place of hidden ones: `mask_token` of the files beside tokenizer.json, else `[MASK]` or `<mask>`; `nil` where there is none.
  public var maskToken: Int32? {
    get throws {
      let named = try SpecialTokenNames.read(["mask_token"], in: sourceFiles)["mask_token"]
      if let named { return number(of: named.token.text) }
      return ["[MASK]", "<mask>"].compactMap(number(of:)).first
    }
  }

  /// The token of a number as the vocabulary writes it (`Ġtime`, `▁time`); `nil` where there is none.
  public func token(_ number: Int32) -> String? { content(number)?.text }

  func content(_ number: Int32) -> ByteString? {
    addedContents[number] ?? model.vocabulary.token(number)
  }

  /// Whether a number is that of a special token, such as `[CLS]`.
  package func isSpecial(_ number: Int32) -> Bool { addedTokens[number]?.isSpecial ?? false }

  /// Whether decoding leaves a number out where it leaves special tokens out.
  func isSkipped(_ number: Int32) -> Bool { skippedNumbers.contains(number) }

  /// The token numbers of a text.
  ///
  /// - Throws: `badData` where the text can't be handled; `CancellationError` where the task is cancelled before its end.
  public func encode(_ text: String, addSpecialTokens: Bool) throws -> [Int32] {
    var numbers: [Int32] = addSpecialTokens ? postProcessor.before : []
    var cache = WordCache()
    try append(text, cache: &cache, to: &numbers)
    if addSpecialTokens { numbers.append(contentsOf: postProcessor.after) }
    return numbers
  }

  /// A pair of texts, as the post-processor puts it together: `[CLS] first [SEP] second [SEP]` or the like.
  public func encodePair(_ first: String, _ second: String, addSpecialTokens: Bool) throws
    -> TokenEncoding
  {
    var cache = WordCache()
    return try encoding(
      [first, second], addSpecialTokens: addSpecialTokens, truncation: nil, cache: &cache)
  }

  /// Texts, or pairs of texts, truncated and padded as the file says.
  public func encodeBatch(
    _ texts: [String], pairedWith seconds: [String]? = nil, addSpecialTokens: Bool
  ) throws -> [TokenEncoding] {
    try encodeBatch(
      texts, pairedWith: seconds, addSpecialTokens: addSpecialTokens, truncation: truncation,
      padding: padding)
  }

  /// Texts, or pairs of texts, with what a model wants to know beside their numbers.
  ///
  ///     let batch = try tokenizer.encodeBatch(
  ///       sentences, addSpecialTokens: true, truncation: Truncation(maximumLength: 128), padding: Padding())
  ///
  /// - Parameters:
  ///   - seconds: the second text of each pair; as many as `texts`.
  ///   - truncation: `nil` for none.
  ///   - padding: `nil` for none.
  /// - Throws: `badData` where a text can't be handled, or can't be truncated as asked.
  public func encodeBatch(
    _ texts: [String], pairedWith seconds: [String]? = nil, addSpecialTokens: Bool,
    truncation: Truncation?, padding: Padding?
  ) throws -> [TokenEncoding] {
    precondition(
      seconds == nil || seconds?.count == texts.count,
      "encodeBatch: \(texts.count) texts are paired with \(seconds?.count ?? 0)")
    var cache = WordCache()
    var result: [TokenEncoding] = []
    result.reserveCapacity(texts.count)
    for (index, text) in texts.enumerated() {
      result.append(
        try encoding(
          [text] + (seconds.map { [$0[index]] } ?? []), addSpecialTokens: addSpecialTokens,
          truncation: truncation, cache: &cache))
    }
    padding?.apply(to: &result)
    return result
  }

  private func encoding(
    _ texts: [String], addSpecialTokens: Bool, truncation: Truncation?, cache: inout WordCache
  ) throws -> TokenEncoding {
    var encodings: [TokenEncoding] = []
    for (index, text) in texts.enumerated() {
      var numbers: [Int32] = []
      try append(text, cache: &cache, to: &numbers)
      encodings.append(TokenEncoding(numbers, type: Int32(index)))
    }
    if let truncation {
      let added = addSpecialTokens ? postProcessor.addedCount(textCount: texts.count) : 0
      encodings = try truncation.applied(to: encodings, addedCount: added)
    }
    return postProcessor.applied(to: encodings, addSpecialTokens: addSpecialTokens)
  }

  private func append(_ text: String, cache: inout WordCache, to numbers: inout [Int32]) throws {
    var look = CancellationLook()
    try forEachPart(of: text) { part in
      try look.pass()
      switch part {
      case .token(let number): numbers.append(number)
      case .piece(let piece):
        cache.append(piece.bytes, to: &numbers) { model.encode($0, into: &$1) }
      }
    }
  }

  /// The pieces of a text that reach the model, after normalizer and pre-tokenizer; added tokens are left out.
  package func pieces(of text: String) throws -> [ByteString] {
    var pieces: [ByteString] = []
    try forEachPart(of: text) { part in
      if case .piece(let piece) = part { pieces.append(piece) }
    }
    return pieces
  }

  private enum Part {
    case token(Int32)
    case piece(ByteString)
  }

  /// Cuts a text at its added tokens and gives what lies between to normalizer and pre-tokenizer.
  private func forEachPart(of text: String, _ body: (Part) throws -> Void) throws {
    let bytes = Array(text.utf8)
    for section in rawAddedTokens.sections(of: bytes) {
      switch section {
      case .token(let number): try body(.token(number))
      case .text(let range):
        try forEachPart(ofRaw: Array(bytes[range]), beginsText: range.lowerBound == 0, body)
      }
    }
  }

  private func forEachPart(
    ofRaw text: [UInt8], beginsText: Bool, _ body: (Part) throws -> Void
  ) throws {
    var keepsStart = true
    let normalized = try normalizer?.normalized(text, keepsStart: &keepsStart) ?? text
    for section in normalizedAddedTokens.sections(of: normalized) {
      switch section {
      case .token(let number): try body(.token(number))
      case .text(let range):
        let piece = Piece(
          bytes: Array(normalized[range]),
          beginsText: beginsText && keepsStart && range.lowerBound == 0)
        guard let preTokenizer else {
          try body(.piece(ByteString(piece.bytes)))
          continue
        }
        var pieces: [Piece] = []
        try preTokenizer.split(piece, into: &pieces)
        for piece in pieces { try body(.piece(ByteString(piece.bytes))) }
      }
    }
  }

  /// The text of token numbers. Numbers that no token has, negative ones among them, are left out.
  public func decode(_ tokens: [Int32], skipSpecialTokens: Bool) -> String {
    if let decodingRule {
      let (contents, vocabulary) = (addedContents, model.vocabulary)
      let texts = tokenTexts.value {
        TokenTexts(
          decodingRule, count: vocabularySize,
          content: { contents[$0] ?? vocabulary.token($0) }, isSkipped: isSkipped)
      }
      return texts.text(of: tokens, skipSpecialTokens: skipSpecialTokens)
    }
    var stream = StreamingDecoder(self, skipSpecialTokens: skipSpecialTokens)
    var bytes: [UInt8] = []
    for token in tokens { stream.append(token, into: &bytes) }
    stream.finish(into: &bytes)
    return String(decoding: bytes, as: UTF8.self)
  }
}
