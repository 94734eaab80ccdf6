import PeatTensor

/// How long an encoding may be, and what goes where it is longer. Mirrors tokenizers 0.23 `utils/truncation.rs`.
///
///     var truncation = Truncation(maximumLength: 128)
///     truncation.stride = 16
public struct Truncation: Equatable, Sendable {
  /// Of a pair, which text is shortened.
  public enum Strategy: String, CaseIterable, Sendable {
    /// The longer one, down to the length of the shorter; then both.
    case longestFirst = "LongestFirst"
    case onlyFirst = "OnlyFirst"
    case onlySecond = "OnlySecond"
  }
  /// At which end tokens go.
  public enum Direction: String, CaseIterable, Sendable {
    case left = "Left"
    case right = "Right"
  }

  /// In tokens, with those that the post-processor adds.
  public var maximumLength: Int
  public var strategy: Strategy
  /// How many tokens a part that overflows shares with the one before it.
  public var stride: Int
  public var direction: Direction

  public init(
    maximumLength: Int, strategy: Strategy = .longestFirst, stride: Int = 0,
    direction: Direction = .right
  ) {
    self.maximumLength = maximumLength
    self.strategy = strategy
    self.stride = stride
    self.direction = direction
  }

  /// Reads "truncation" of tokenizer.json.
  init(_ part: TokenizerPart) throws {
    let limit = 0...Int(Int32.max)
    maximumLength = try part.required("max_length").integer(in: limit)
    strategy = try part.choice("strategy", of: Strategy.allCases) ?? .longestFirst
    stride = try part.optional("stride")?.integer(in: limit) ?? 0
    direction = try part.choice("direction", of: Direction.allCases) ?? .right
  }

  /// The texts, one or two, shortened so that with `addedCount` more tokens they are no longer than allowed.
  ///
  /// - Throws: `badData` where that can't be done.
  func applied(to texts: [TokenEncoding], addedCount: Int) throws -> [TokenEncoding] {
    let limit = maximumLength - addedCount
    guard limit >= 0 else {
      throw PeatError.badData(
        "Truncation to \(maximumLength) tokens leaves no room for the \(addedCount) that the tokenizer adds. "
          + "Allow more, or encode without special tokens.")
    }
    let total = texts.reduce(0) { $0 + $1.count }
    if limit == 0 { return try texts.map { try truncated($0, to: 0) } }
    if total <= limit { return texts }
    var texts = texts
    switch strategy {
    case .longestFirst:
      let lengths = Self.longestFirst(texts.map(\.count), limit)
      for index in texts.indices { texts[index] = try truncated(texts[index], to: lengths[index]) }
    case .onlyFirst, .onlySecond:
      let index = strategy == .onlyFirst ? 0 : 1
      guard texts.indices.contains(index) else {
        throw PeatError.badData(
          "Truncation shortens only the second text, but there is one of \(total) tokens, more than \(limit)."
        )
      }
      let kept = texts[index].count - (total - limit)
      guard kept > 0 else {
        throw PeatError.badData(
          "Truncation would have to take \(total - limit) tokens of the \(index == 0 ? "first" : "second") text, "
            + "which has \(texts[index].count).")
      }
      texts[index] = try truncated(texts[index], to: kept)
    }
    return texts
  }

  private static func longestFirst(_ lengths: [Int], _ limit: Int) -> [Int] {
    guard lengths.count == 2 else { return [limit] }
    var short = lengths.min() ?? 0
    var long = short > limit ? short : max(short, limit - short)
    if short + long > limit {
      short = limit / 2
      long = short + limit % 2
    }
    return lengths[0] > lengths[1] ? [long, short] : [short, long]
  }

  /// One text in parts of at most `length` tokens: the first, with the others as what overflows.
  private func truncated(_ text: TokenEncoding, to length: Int) throws -> TokenEncoding {
    if length >= text.count { return text }
    if length == 0 {
      var result = TokenEncoding()
      result.overflowing = [text]
      return result
    }
    guard (0..<length).contains(stride) else {
      throw PeatError.badData(
        "Truncation has a stride of \(stride) tokens, but a text is cut to \(length); expected fewer than that."
      )
    }
    var parts: [TokenEncoding] = []
    var place = 0
    while true {
      // From the end that stays.
      let end = min(place + length, text.count)
      parts.append(
        direction == .right ? text[place..<end] : text[text.count - end..<text.count - place])
      if end == text.count { break }
      place += length - stride
    }
    var result = parts[0]
    result.overflowing = Array(parts.dropFirst())
    return result
  }
}
