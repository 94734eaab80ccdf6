import PeatTensor

/// Tokens and their numbers, both ways; tokens are compared by their bytes.
struct Vocabulary: Sendable {
  /// Token numbers lie below this: four million, several times the largest vocabulary in use.
  static let numberLimit = 1 << 22

  private(set) var numbers: [ByteString: Int32] = [:]
  private(set) var tokens: [ByteString?] = []

  init() {}

  /// Reads an object of token to number.
  ///
  /// - Throws: `PeatError.badData` for a number that is negative, too large, not whole, or given twice.
  init(_ part: TokenizerPart) throws {
    let entries = try part.rawEntries()
    numbers.reserveCapacity(entries.count)
    for entry in entries {
      guard let number = entry.value.integer else {
        throw part.failure(
          "gives the token '\(entry.key.text)' \(entry.value.kind), expected an integer.")
      }
      try add(entry.key, number: number, part)
    }
  }

  mutating func add(_ token: ByteString, number: Int, _ part: TokenizerPart) throws {
    guard (0..<Self.numberLimit).contains(number) else {
      throw part.failure(
        "gives the token '\(token.text)' the number \(number), expected 0 to \(Self.numberLimit - 1)."
      )
    }
    if number >= tokens.count {
      tokens.append(contentsOf: repeatElement(nil, count: number + 1 - tokens.count))
    }
    if let other = tokens[number] {
      throw part.failure(
        "gives the number \(number) to two tokens, '\(other.text)' and '\(token.text)'.")
    }
    if let other = numbers[token] {
      throw part.failure("gives the token '\(token.text)' two numbers, \(other) and \(number).")
    }
    tokens[number] = token
    numbers[token] = Int32(number)
  }

  /// The token of a number; `nil` where there is none.
  func token(_ number: Int32) -> ByteString? {
    tokens.indices.contains(Int(number)) ? tokens[Int(number)] : nil
  }

  /// The number of the part's "unk_token", which the vocabulary has to have.
  func unknown(_ part: TokenizerPart, default name: ByteString) throws -> Int32 {
    let token = try part.optional("unk_token")?.string() ?? name
    guard let number = numbers[token] else {
      throw part.failure(
        "has the unknown token '\(token.text)' ('unk_token'), which 'vocab' does not have.")
    }
    return number
  }

  /// The tokens `<0x00>` … `<0xFF>`; -1 where one is missing.
  var byteTokens: [Int32] {
    (0..<256).map { byte in
      let digits = String(byte, radix: 16, uppercase: true)
      return numbers[ByteString("<0x\(byte < 16 ? "0" : "")\(digits)>")] ?? -1
    }
  }
}
