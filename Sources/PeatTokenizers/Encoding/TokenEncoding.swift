/// A text, or a pair of texts, as token numbers with what a model wants to know beside them; all of one length.
public struct TokenEncoding: Equatable, Sendable {
  public var numbers: [Int32]
  /// Which text a token belongs to, as the post-processor says ("token_type_ids"): mostly 0 for the first, 1 for the second.
  public var typeNumbers: [Int32]
  /// 1 for tokens of the text, 0 for padding.
  public var attentionMask: [Int32]
  /// 1 for tokens that the post-processor or the padding added, 0 for those of the text.
  public var specialTokensMask: [Int32]
  /// What truncation cut off, as further encodings of the same form; `Truncation.stride` tokens stand in both of two neighbours.
  /// Of a pair: every part of the one with every part of the other.
  public var overflowing: [TokenEncoding]

  init() {
    (numbers, typeNumbers, attentionMask, specialTokensMask, overflowing) = ([], [], [], [], [])
  }

  init(_ numbers: [Int32], type: Int32, isSpecial: Bool = false) {
    self.numbers = numbers
    typeNumbers = Array(repeating: type, count: numbers.count)
    attentionMask = Array(repeating: 1, count: numbers.count)
    specialTokensMask = Array(repeating: isSpecial ? 1 : 0, count: numbers.count)
    overflowing = []
  }

  public var count: Int { numbers.count }

  mutating func setType(_ type: Int32) {
    typeNumbers = Array(repeating: type, count: numbers.count)
  }

  /// Appends another encoding; what overflowed of either is put together with each of the other's parts.
  mutating func append(_ other: TokenEncoding) {
    var all: [TokenEncoding] = []
    for part in overflowing {
      all.append(part.joined(other))
      for otherPart in other.overflowing { all.append(part.joined(otherPart)) }
    }
    for otherPart in other.overflowing { all.append(joined(otherPart)) }
    self = joined(other)
    overflowing = all
  }

  /// Both in one, without what overflowed.
  private func joined(_ other: TokenEncoding) -> TokenEncoding {
    var result = self
    result.numbers += other.numbers
    result.typeNumbers += other.typeNumbers
    result.attentionMask += other.attentionMask
    result.specialTokensMask += other.specialTokensMask
    result.overflowing = []
    return result
  }

  /// The tokens of a range, without what overflowed.
  subscript(range: Range<Int>) -> TokenEncoding {
    var result = TokenEncoding()
    result.numbers = Array(numbers[range])
    result.typeNumbers = Array(typeNumbers[range])
    result.attentionMask = Array(attentionMask[range])
    result.specialTokensMask = Array(specialTokensMask[range])
    return result
  }
}
