import Foundation

/// Files that are read piece by piece, their tokens kept on disk.
public enum StreamedText {
  /// From how many bytes on files are read so where nothing is said: in memory, a text takes many times its bytes.
  public static let usualSize = 256 << 20

  /// Whether a file is one that can be read piece by piece and is so large that it should.
  ///
  /// - Parameter asked: whether it was asked for or refused; `nil`: by the file's size.
  /// - Throws: `usage` where it was asked for and the file is of another kind.
  public static func isFor(_ url: URL, asked: Bool? = nil) throws -> Bool {
    if asked == false { return false }
    var isFolder: ObjCBool = false
    let known =
      FileManager.default.fileExists(atPath: url.path, isDirectory: &isFolder)
      && !isFolder.boolValue
      && DocumentStream.format(of: url) != nil
    if asked == true {
      guard known else {
        throw PeatError.usage(
          "'\(url.path)' can't be read piece by piece: that is for text (.txt), JSON lines (.jsonl) and JSON arrays (.json). Make JSON lines of it."
        )
      }
      return true
    }
    let size =
      try? FileManager.default.attributesOfItem(
        atPath: url.resolvingSymlinksInPath().path)[.size] as? Int
    return known && (size ?? 0) >= usualSize
  }

  /// The first documents of a file, about so many bytes of text.
  public static func sample(of url: URL, bytes: Int) throws -> [Document] {
    var stream = try DocumentStream(url)
    var documents: [Document] = []
    var left = bytes
    while left > 0, let document = try stream.next() {
      documents.append(document)
      left -= document.text.utf8.count
    }
    return documents
  }
}

extension TokenFile {
  /// The tokens of a text, JSON lines or a JSON array, conversations as the model's chat template writes them.
  ///
  /// - Parameters:
  ///   - addBegin: whether documents begin with the begin token; `nil`: as the tokenizer does.
  ///   - learnsSpecialTokens: whether special tokens that stand in a text are learned.
  ///   - separator: what documents are joined by to one text, unless they have answers to learn; `nil`: each is one by itself.
  public convenience init(
    stream url: URL, tokenizer: Tokenizer, addBegin: Bool? = nil, addEnd: Bool = false,
    joinedBy separator: String? = nil, learnsSpecialTokens: Bool = true
  ) throws {
    let rendered = try tokenizer.conversationRenderer()
    let stream = try DocumentStream(url)
    // Documents with answers to learn stand for themselves, as they are tuned on.
    let hasAnswers =
      try separator != nil
      && StreamedText.sample(of: url, bytes: 1 << 16).contains { try rendered($0).hasGivenPart }
    let separator = stream.isOneText || hasAnswers ? nil : separator
    try self.init(
      stream, tokenizer: tokenizer,
      addBegin: try (addBegin ?? tokenizer.addsBeginToken), addEnd: addEnd,
      joinedBy: separator,
      isLearnable: { learnsSpecialTokens || !tokenizer.isSpecial($0) },
      prepare: rendered)
  }
}

extension TokenDataset {
  /// A text or JSON lines that may be larger than memory as one stream, for predicting each next token or for saying hidden ones; see `make`.
  ///
  /// - Throws: `usage` where the model's head is for something else.
  public static func streaming(
    _ url: URL, reader: InputReader, for model: TransformerConfiguration, context: Int,
    addBegin: Bool?, addEnd: Bool = false, seed: UInt64 = 0
  ) throws -> TokenDataset {
    try model.requireLearnableHead()
    guard model.head?.labels == nil, !model.hasEncoder else {
      let what = model.hasEncoder ? "Pairs of a source and a target" : "Texts with classes"
      throw PeatError.usage(
        "\(what) are read whole: '\(url.path)' can't be read piece by piece (--no-stream).")
    }
    let tokenizer = try reader.tokenizer
    let masks = model.predictsMaskedTokens
    let file = try TokenFile(
      stream: url, tokenizer: tokenizer, addBegin: masks ? false : addBegin, addEnd: addEnd,
      learnsSpecialTokens: !masks)
    guard masks else { return try TokenDataset(file, context: context) }
    return try MaskedTokenTask(tokenizer, addsSpecialTokens: addBegin ?? true).dataset(
      file, context: context, vocabularySize: model.vocabularySize, seed: seed)
  }
}
