import PeatTensor

/// What a tokenizer puts before and after the numbers of a text, such as BOS and EOS.
struct PostProcessor: Sendable {
  var before: [Int32] = []
  var after: [Int32] = []

  static let none = PostProcessor()

  /// The post-processors that this reader knows; a new one is a function and a line here.
  private static let known:
    [(name: String, value: @Sendable (TokenizerPart) throws -> PostProcessor)] = [
      ("TemplateProcessing", { try template($0) }),
      ("ByteLevel", { _ in none }),  // It moves offsets, which are not kept here.
      ("Sequence", { try sequence($0) }),
    ]

  static func read(_ part: TokenizerPart) throws -> PostProcessor {
    try part.type(in: known, of: "post-processor")(part)
  }

  private static func sequence(_ part: TokenizerPart) throws -> PostProcessor {
    try part.required("processors").elements().reduce(into: none) { whole, element in
      let next = try read(element)
      whole.before = next.before + whole.before
      whole.after += next.after
    }
  }

  /// Reads the template for a single text: special tokens around `$A`.
  private static func template(_ part: TokenizerPart) throws -> PostProcessor {
    var numbers: [ByteString: [Int32]] = [:]
    if let tokens = try part.optional("special_tokens") {
      for entry in try tokens.entries() {
        numbers[entry.key] = try entry.part.required("ids").elements().map {
          Int32(try $0.integer(in: 0...Vocabulary.numberLimit - 1))
        }
      }
    }
    var result = none
    var hasText = false
    let single = try part.required("single")
    for element in try single.elements() {
      if let special = try element.optional("SpecialToken") {
        let name = try special.string("id")
        guard let tokens = numbers[name] else {
          throw special.failure("names '\(name.text)', which 'special_tokens' does not have.")
        }
        if hasText { result.after += tokens } else { result.before += tokens }
      } else if let sequence = try element.optional("Sequence") {
        guard try sequence.string("id") == "A", !hasText else {
          throw sequence.failure(
            "is not the text $A, or comes twice; the template for a single text has $A once.")
        }
        hasText = true
      } else {
        throw element.failure("is neither 'SpecialToken' nor 'Sequence'.")
      }
    }
    if !hasText { throw single.failure("has no $A, the place of the text.") }
    return result
  }
}
