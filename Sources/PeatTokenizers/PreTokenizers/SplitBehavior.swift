import PeatTensor

/// What becomes of the matches at which a text is cut.
enum SplitBehavior: String, CaseIterable, Sendable {
  case removed = "Removed"
  case isolated = "Isolated"
  case mergedWithPrevious = "MergedWithPrevious"
  case mergedWithNext = "MergedWithNext"
  case contiguous = "Contiguous"

  init(_ part: TokenizerPart) throws {
    let name = try part.string().text
    guard let behavior = SplitBehavior(rawValue: name) else {
      throw part.unsupported(name, "behaviour", supported: Self.allCases.map(\.rawValue))
    }
    self = behavior
  }

  /// Cuts a piece at the matches and appends the parts.
  ///
  /// - Parameters:
  ///   - matches: from left to right, without overlap.
  ///   - invert: cut at what lies between the matches instead.
  func split(
    _ piece: Piece, at matches: [Range<Int>], invert: Bool = false, into pieces: inout [Piece]
  ) {
    var segments: [(range: Range<Int>, isMatch: Bool)] = []
    segments.reserveCapacity(2 * matches.count + 1)
    var end = 0
    for match in matches {
      if match.lowerBound > end { segments.append((end..<match.lowerBound, invert)) }
      segments.append((match, !invert))
      end = match.upperBound
    }
    if end < piece.bytes.count { segments.append((end..<piece.bytes.count, invert)) }

    var parts: [Range<Int>] = []
    parts.reserveCapacity(segments.count)
    var previousIsMatch = false
    switch self {
    case .removed:
      for segment in segments where !segment.isMatch { parts.append(segment.range) }
    case .isolated:
      for segment in segments { parts.append(segment.range) }
    case .contiguous:
      for segment in segments {
        if segment.isMatch == previousIsMatch, let last = parts.popLast() {
          parts.append(last.lowerBound..<segment.range.upperBound)
        } else {
          parts.append(segment.range)
        }
        previousIsMatch = segment.isMatch
      }
    case .mergedWithPrevious:
      for segment in segments {
        if segment.isMatch, !previousIsMatch, let last = parts.popLast() {
          parts.append(last.lowerBound..<segment.range.upperBound)
        } else {
          parts.append(segment.range)
        }
        previousIsMatch = segment.isMatch
      }
    case .mergedWithNext:
      for segment in segments.reversed() {
        if segment.isMatch, !previousIsMatch, let last = parts.popLast() {
          parts.append(segment.range.lowerBound..<last.upperBound)
        } else {
          parts.append(segment.range)
        }
        previousIsMatch = segment.isMatch
      }
      parts.reverse()
    }
    for part in parts where !part.isEmpty {
      pieces.append(
        Piece(bytes: Array(piece.bytes[part]), beginsText: piece.beginsText && part.lowerBound == 0)
      )
    }
  }

  /// Cuts a piece at every scalar of a class, each a match of its own.
  func split(_ piece: Piece, atScalars isMatch: (UInt32) -> Bool, into pieces: inout [Piece]) {
    var matches: [Range<Int>] = []
    var index = 0
    while index < piece.bytes.count {
      let scalar = UTF8Text.scalar(piece.bytes, at: index)
      if isMatch(scalar.value) { matches.append(index..<index + scalar.length) }
      index += scalar.length
    }
    split(piece, at: matches, into: &pieces)
  }
}
