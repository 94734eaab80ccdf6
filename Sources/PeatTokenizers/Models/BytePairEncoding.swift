// Byte-pair encoding. Mirrors tokenizers 0.23 `models/bpe/model.rs` and `models/bpe/word.rs`.

import PeatTensor

/// Begins with the scalars of a piece and merges neighbours, the most wanted pair first, until none is left to merge.
///
/// Serves both styles: byte-level (the pieces are words in GPT-2's alphabet) and sentencepiece (one piece is the whole
/// text, scalars without a token fall back to byte tokens `<0x00>` … `<0xFF>`). A piece of n scalars takes O(n log n).
///
/// Source: Sennrich, Haddow, Birch 2016, <https://arxiv.org/abs/1508.07909>.
struct BytePairEncoding: TokenModel {
  let vocabulary: Vocabulary
  private let merges: MergeTable
  private let unknown: Int32?
  private let fusesUnknown: Bool
  private let ignoresMerges: Bool
  /// The byte tokens, where the model falls back to them; -1 where one is missing.
  private let byteTokens: [Int32]?
  /// The tokens of single scalars.
  private let plain: ScalarTokens
  /// What is written before a scalar that does not begin the piece, and after the one that ends it ("</w>").
  private let prefix: [UInt8]
  private let suffix: [UInt8]
  private let hasAffixes: Bool

  init(_ part: TokenizerPart) throws {
    let vocabulary = try Vocabulary(part.required("vocab"))
    self.vocabulary = vocabulary
    let prefix = try part.optional("continuing_subword_prefix")?.string().bytes ?? []
    let suffix = try part.optional("end_of_word_suffix")?.string().bytes ?? []
    if let dropout = try part.optional("dropout") {
      guard case .number(let text) = dropout.value, Double(text) == 0 else {
        throw dropout.failure(
          "is set; merges left out at random are not supported. Set it to null.")
      }
    }
    fusesUnknown = try part.bool("fuse_unk", default: false)
    ignoresMerges = try part.bool("ignore_merges", default: false)
    unknown = try Self.readUnknown(part, vocabulary)
    merges = MergeTable(try Self.readMerges(part.required("merges"), vocabulary, prefix))

    byteTokens = try part.bool("byte_fallback", default: false) ? vocabulary.byteTokens : nil
    plain = ScalarTokens(vocabulary)
    hasAffixes = !prefix.isEmpty || !suffix.isEmpty
    self.prefix = prefix
    self.suffix = suffix
  }

  private static func readUnknown(_ part: TokenizerPart, _ vocabulary: Vocabulary) throws -> Int32?
  {
    guard let unknown = try part.optional("unk_token") else { return nil }
    let token = try unknown.string()
    if token.bytes.isEmpty { return nil }
    guard let number = vocabulary.numbers[token] else {
      throw unknown.failure("is '\(token.text)', which 'model.vocab' does not have.")
    }
    return number
  }

  /// The merges, each written `"a b"` or `["a", "b"]`.
  private static func readMerges(
    _ part: TokenizerPart, _ vocabulary: Vocabulary, _ prefix: [UInt8]
  ) throws -> [(left: Int32, right: Int32, product: Int32)] {
    let elements = try part.rawElements()
    var merges: [(left: Int32, right: Int32, product: Int32)] = []
    merges.reserveCapacity(elements.count)
    for (index, element) in elements.enumerated() {
      let pair = try Self.readPair(element, index, part)
      func number(_ token: ByteString) throws -> Int32 {
        guard let number = vocabulary.numbers[token] else {
          throw part.failure(
            "merges '\(pair.left.text)' and '\(pair.right.text)' (number \(index)), but 'model.vocab' has no '\(token.text)'."
          )
        }
        return number
      }
      guard pair.right.bytes.count >= prefix.count else {
        throw part.failure(
          "merges '\(pair.left.text)' and '\(pair.right.text)' (number \(index)), but the second is shorter than 'continuing_subword_prefix'."
        )
      }
      merges.append(
        (
          try number(pair.left), try number(pair.right),
          try number(ByteString(pair.left.bytes + pair.right.bytes[prefix.count...]))
        ))
    }
    return merges
  }

  private static func readPair(
    _ element: ByteJSON, _ index: Int, _ part: TokenizerPart
  ) throws -> (left: ByteString, right: ByteString) {
    switch element {
    case .string(let text):
      let halves = text.bytes.split(separator: 0x20, omittingEmptySubsequences: false)
      if halves.count == 2 { return (ByteString(halves[0]), ByteString(halves[1])) }
    case .array(let halves):
      if halves.count == 2, case .string(let left) = halves[0], case .string(let right) = halves[1]
      {
        return (left, right)
      }
    default: break
    }
    throw part.failure("has at \(index) no merge; expected \"a b\" or [\"a\", \"b\"].")
  }

  func encode(_ piece: [UInt8], into numbers: inout [Int32]) {
    if ignoresMerges, let number = vocabulary.numbers[ByteString(piece)] {
      numbers.append(number)
    } else {
      numbers.append(contentsOf: merged(symbols(of: piece)))
    }
  }

  /// The tokens of a piece's scalars, before any merge.
  private func symbols(of piece: [UInt8]) -> [Int32] {
    var symbols: [Int32] = []
    symbols.reserveCapacity(piece.count)
    var hasUnknown = false
    func flush() {
      if hasUnknown, let unknown { symbols.append(unknown) }
      hasUnknown = false
    }
    var index = 0
    while index < piece.count {
      let scalar = UTF8Text.scalar(piece, at: index)
      let range = index..<index + scalar.length
      index = range.upperBound
      let written = hasAffixes ? affixed(piece[range], of: piece.count)[...] : piece[range]
      let number =
        hasAffixes ? vocabulary.numbers[ByteString(written)] ?? -1 : plain.number(scalar.value)
      if number >= 0 {
        flush()
        symbols.append(number)
      } else if let byteTokens, written.allSatisfy({ byteTokens[Int($0)] >= 0 }) {
        // As in the original, an unknown token still waiting comes after these.
        for byte in written { symbols.append(byteTokens[Int(byte)]) }
      } else {
        if !fusesUnknown { flush() }
        hasUnknown = true
      }
    }
    flush()
    return symbols
  }

  /// A scalar of a piece as the vocabulary writes it: with the prefix unless it is the first, with the suffix if it is the last.
  private func affixed(_ scalar: ArraySlice<UInt8>, of count: Int) -> [UInt8] {
    (scalar.startIndex > 0 ? prefix : []) + scalar + (scalar.endIndex == count ? suffix : [])
  }

  /// Merges neighbours in a linked list, the lowest rank first and of equal ranks the leftmost.
  private func merged(_ symbols: [Int32]) -> [Int32] {
    let count = symbols.count
    if count < 2 { return symbols }
    precondition(count < Int(Int32.max), "a piece of \(count) symbols is too long to merge")
    var symbols = symbols
    var next = (0..<Int32(count)).map { $0 + 1 }
    var previous = (0..<Int32(count)).map { $0 - 1 }
    var queue = MergeQueue()
    for index in 0..<count - 1 {
      if let rank = merges.rank(symbols[index], symbols[index + 1]) {
        queue.push(rank: rank, position: index)
      }
    }
    while let (rank, position) = queue.pop() {
      // Out of date where the symbol has gone, is the last, or has other neighbours by now.
      if symbols[position] < 0 { continue }
      let right = Int(next[position])
      if right >= count { continue }
      let product = merges.products[Int(rank)]
      guard let current = merges.rank(symbols[position], symbols[right]),
        merges.products[Int(current)] == product
      else { continue }
      symbols[position] = product
      symbols[right] = -1
      let after = Int(next[right])
      next[position] = Int32(after)
      if after < count {
        previous[after] = Int32(position)
        if let rank = merges.rank(product, symbols[after]) {
          queue.push(rank: rank, position: position)
        }
      }
      let before = Int(previous[position])
      if before >= 0, let rank = merges.rank(symbols[before], product) {
        queue.push(rank: rank, position: before)
      }
    }
    symbols.removeAll { $0 < 0 }
    return symbols
  }
}
