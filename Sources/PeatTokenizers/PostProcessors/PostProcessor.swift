import PeatTensor

/// What a tokenizer puts around the numbers of a text or a pair of texts, such as BOS and EOS.
struct PostProcessor: Sendable {
  enum Element: Sendable, Equatable {
    case special([Int32], type: Int32)
    /// The first text (0) or the second (1).
    case text(Int, type: Int32)
  }
  var single: [Element]
  var pair: [Element]
  /// Whether the tokens that overflow get their text's type too, where special tokens are added; else it is 0 for the first text
  /// and 1 for the second.
  var typesOverflow = false

  static let none = PostProcessor(
    single: [.text(0, type: 0)], pair: [.text(0, type: 0), .text(1, type: 1)])

  /// The post-processors that this reader knows; a new one is a function and a line here.
  private static let known:
    [(name: String, value: @Sendable (TokenizerPart) throws -> PostProcessor)] = [
      ("TemplateProcessing", { try template($0) }),
      ("BertProcessing", { try bert($0) }),
      ("RobertaProcessing", { try roberta($0) }),
      ("ByteLevel", { _ in none }),  // It moves offsets, which are not kept here.
      ("Sequence", { try sequence($0) }),
    ]

  static func read(_ part: TokenizerPart) throws -> PostProcessor {
    try part.type(in: known, of: "post-processor")(part)
  }

  /// The numbers put before and after a single text.
  var before: [Int32] { numbers(of: single.prefix { !$0.isText }) }
  var after: [Int32] { numbers(of: single.drop { !$0.isText }) }

  private func numbers(of elements: some Sequence<Element>) -> [Int32] {
    elements.flatMap { if case .special(let numbers, _) = $0 { numbers } else { [Int32]() } }
  }

  /// Every number that is added to one text or two.
  var addedNumbers: [Int32] { numbers(of: single + pair) }

  /// How many tokens are added to so many texts, one or two.
  func addedCount(textCount: Int) -> Int { numbers(of: textCount == 1 ? single : pair).count }

  /// One text or two with what is put around them.
  func applied(to texts: [TokenEncoding], addSpecialTokens: Bool) -> TokenEncoding {
    var result = TokenEncoding()
    for element in texts.count == 1 ? single : pair {
      switch element {
      case .special(let numbers, let type):
        if addSpecialTokens { result.append(TokenEncoding(numbers, type: type, isSpecial: true)) }
      case .text(let index, let type):
        var text = texts[index]
        text.setType(type)
        if typesOverflow, addSpecialTokens {
          for part in text.overflowing.indices { text.overflowing[part].setType(type) }
        }
        result.append(text)
      }
    }
    return result
  }

  // MARK: Reading

  private static func sequence(_ part: TokenizerPart) throws -> PostProcessor {
    let processors = try part.required("processors")
    let parts = try processors.elements().map(read)
    let adding = parts.filter { $0.single != none.single || $0.pair != none.pair }
    guard adding.count <= 1 else {
      throw processors.failure(
        "has \(adding.count) processors that add tokens; a sequence with more than one is not supported."
      )
    }
    return adding.first ?? none
  }

  /// `[CLS] A [SEP] B [SEP]`, types 0 up to the first `[SEP]`, then 1.
  private static func bert(_ part: TokenizerPart) throws -> PostProcessor {
    let (single, end) = try framed(part)
    return PostProcessor(
      single: single, pair: single + [.text(1, type: 1), .special([end], type: 1)])
  }

  /// `<s> A </s> </s> B </s>`, all of type 0. Its options are about offsets, which are not kept here.
  private static func roberta(_ part: TokenizerPart) throws -> PostProcessor {
    let (single, end) = try framed(part)
    return PostProcessor(
      single: single,
      pair: single + [.special([end], type: 0), .text(1, type: 0), .special([end], type: 0)],
      typesOverflow: true)
  }

  /// One text between the first token and the last, and which that is.
  private static func framed(_ part: TokenizerPart) throws -> (single: [Element], end: Int32) {
    let (begin, end) = (try token(part, "cls"), try token(part, "sep"))
    return ([.special([begin], type: 0), .text(0, type: 0), .special([end], type: 0)], end)
  }

  /// A token written `["[SEP]", 102]`.
  private static func token(_ part: TokenizerPart, _ key: String) throws -> Int32 {
    let token = try part.required(key)
    let pair = try token.elements()
    guard pair.count == 2 else { throw token.failure("is no pair of a token and its number.") }
    return Int32(try pair[1].integer(in: 0...Vocabulary.numberLimit - 1))
  }

  private static func template(_ part: TokenizerPart) throws -> PostProcessor {
    var numbers: [ByteString: [Int32]] = [:]
    if let tokens = try part.optional("special_tokens") {
      for entry in try tokens.entries() {
        numbers[entry.key] = try entry.part.required("ids").elements().map {
          Int32(try $0.integer(in: 0...Vocabulary.numberLimit - 1))
        }
      }
    }
    let single = try part.required("single")
    return PostProcessor(
      single: try elements(single, ["A"], numbers),
      pair: try part.optional("pair").map { try elements($0, ["A", "B"], numbers) } ?? none.pair)
  }

  /// Reads a template, in which each of the named texts has to stand once.
  private static func elements(
    _ part: TokenizerPart, _ texts: [String], _ numbers: [ByteString: [Int32]]
  ) throws -> [Element] {
    var found: [String] = []
    let elements: [Element] = try part.elements().map { element in
      func type(_ piece: TokenizerPart) throws -> Int32 {
        Int32(try piece.optional("type_id")?.integer(in: 0...Int(Int32.max)) ?? 0)
      }
      if let special = try element.optional("SpecialToken") {
        let name = try special.string("id")
        guard let tokens = numbers[name] else {
          throw special.failure("names '\(name.text)', which 'special_tokens' does not have.")
        }
        return .special(tokens, type: try type(special))
      }
      guard let sequence = try element.optional("Sequence") else {
        throw element.failure("is neither 'SpecialToken' nor 'Sequence'.")
      }
      let name = try sequence.string("id").text
      guard let index = texts.firstIndex(of: name), !found.contains(name) else {
        throw sequence.failure(
          "is the text $\(name), which has no place here or comes twice; expected each of "
            + texts.map { "$" + $0 }.joined(separator: ", ") + " once.")
      }
      found.append(name)
      return .text(index, type: try type(sequence))
    }
    for name in texts where !found.contains(name) {
      throw part.failure(
        "has no $\(name), the place of \(name == "A" ? "the" : "the second") text.")
    }
    return elements
  }
}

extension PostProcessor.Element {
  var isText: Bool { if case .text = self { true } else { false } }
}
