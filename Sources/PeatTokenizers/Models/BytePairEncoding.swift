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
  /// The tokens of single scalars; -1 where there is none. A flat table for those below U+0800.
  private let lowScalars: [Int32]
  private let highScalars: [UInt32: Int32]

  init(_ part: TokenizerPart) throws {
    let vocabulary = try Vocabulary(part.required("vocab"))
    self.vocabulary = vocabulary
    for key in ["continuing_subword_prefix", "end_of_word_suffix"] {
      if let affix = try part.optional(key), try !affix.string().bytes.isEmpty {
        throw affix.failure(
          "is '\(try affix.string().text)'; only models without it are supported (null).")
      }
    }
    if let dropout = try part.optional("dropout") {
      guard case .number(let text) = dropout.value, Double(text) == 0 else {
        throw dropout.failure(
          "is set; merges left out at random are not supported. Set it to null.")
      }
    }
    fusesUnknown = try part.bool("fuse_unk", default: false)
    ignoresMerges = try part.bool("ignore_merges", default: false)
    unknown = try Self.readUnknown(part, vocabulary)
    merges = MergeTable(try Self.readMerges(part.required("merges"), vocabulary))

    if try part.bool("byte_fallback", default: false) {
      byteTokens = (0..<256).map { byte in
        let digits = String(byte, radix: 16, uppercase: true)
        return vocabulary.numbers[ByteString("<0x\(byte < 16 ? "0" : "")\(digits)>")] ?? -1
      }
    } else {
      byteTokens = nil
    }

    var low = [Int32](repeating: -1, count: 0x800)
    var high: [UInt32: Int32] = [:]
    for (token, number) in vocabulary.numbers where !token.bytes.isEmpty {
      let scalar = UTF8Text.scalar(token.bytes, at: 0)
      guard scalar.length == token.bytes.count else { continue }
      if scalar.value < 0x800 {
        low[Int(scalar.value)] = number
      } else {
        high[scalar.value] = number
      }
    }
    lowScalars = low
    highScalars = high
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
    _ part: TokenizerPart, _ vocabulary: Vocabulary
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
      merges.append(
        (
          try number(pair.left), try number(pair.right),
          try number(ByteString(pair.left.bytes + pair.right.bytes))
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

  func encode(_ piece: ByteString, cache: inout WordCache, into numbers: inout [Int32]) {
    if ignoresMerges, let number = vocabulary.numbers[piece] {
      numbers.append(number)
      return
    }
    // Long pieces hardly come twice.
    if piece.bytes.count > 64 {
      numbers.append(contentsOf: merged(symbols(of: piece.bytes)))
    } else if let known = cache[piece] {
      numbers.append(contentsOf: known)
    } else {
      let found = merged(symbols(of: piece.bytes))
      cache[piece] = found
      numbers.append(contentsOf: found)
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
      let number =
        scalar.value < 0x800 ? lowScalars[Int(scalar.value)] : highScalars[scalar.value] ?? -1
      if number >= 0 {
        flush()
        symbols.append(number)
      } else if let byteTokens, piece[range].allSatisfy({ byteTokens[Int($0)] >= 0 }) {
        // As in the original, an unknown token still waiting comes after these.
        for byte in piece[range] { symbols.append(byteTokens[Int(byte)]) }
      } else {
        if !fusesUnknown { flush() }
        hasUnknown = true
      }
    }
    flush()
    return symbols
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
