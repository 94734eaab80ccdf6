/// Where a dataset's tokens lie: in memory, or in a mapped file.
enum TokenStore: Sendable {
  /// `types` is empty where all tokens are of type 0. `targetsBefore`: how many targets stand before each place, for quick counting.
  case memory(tokens: [Int32], isTarget: [Bool], types: [Int32], targetsBefore: [Int32])
  case file(TokenFile)

  var count: Int {
    switch self {
    case .memory(let tokens, _, _, _): tokens.count
    case .file(let file): file.count
    }
  }

  /// The tokens of a range, and which of them are learned. The first of all is not: nothing stands before it.
  func sequence(_ range: Range<Int>) -> TokenSequence {
    switch self {
    case .memory(let tokens, let isTarget, let types, _):
      return TokenSequence(
        tokens: Array(tokens[range]), isTarget: Array(isTarget[range]),
        types: types.isEmpty ? [] : Array(types[range]))
    case .file(let file):
      let sequence = file.sequence(range)
      guard range.lowerBound == 0, !range.isEmpty else { return sequence }
      return TokenSequence(
        tokens: sequence.tokens, isTarget: [false] + sequence.isTarget.dropFirst())
    }
  }

  /// How many tokens of a range are learned.
  func targetCount(_ range: Range<Int>) -> Int {
    switch self {
    case .memory(_, _, _, let before): Int(before[range.upperBound] - before[range.lowerBound])
    case .file: sequence(range).isTarget.count { $0 }
    }
  }

  /// A hash (FNV-1a) of tokens, marks, types, arrangement and masking.
  func fingerprint(
    _ arrangement: TokenDataset.Arrangement, _ masking: TokenMasking?
  ) -> UInt64 {
    var hash: UInt64 = 0xcbf2_9ce4_8422_2325
    func add(_ value: UInt64) { hash = (hash ^ value) &* 0x100_0000_01b3 }
    for start in stride(from: 0, to: count, by: 1 << 16) {
      let piece = sequence(start..<min(start + (1 << 16), count))
      for (token, mark) in zip(piece.tokens, piece.isTarget) {
        add(UInt64(UInt32(bitPattern: token)) << 1 | (mark ? 1 : 0))
      }
      for type in piece.types { add(UInt64(UInt32(bitPattern: type))) }
    }
    add(UInt64(arrangement.context))
    switch arrangement {
    case .stream: add(1)
    case .packed: add(2)
    case .documents: add(3)
    case .classes(_, let atFirst, let padToken):
      add(atFirst ? 4 : 5)
      if let padToken, !atFirst { add(UInt64(UInt32(bitPattern: padToken))) }
    case .pairs: add(6)
    }
    if let masking {
      for number in [masking.maskToken] + masking.before + masking.after {
        add(UInt64(UInt32(bitPattern: number)))
      }
      add(UInt64(masking.vocabularySize))
      add(masking.share.bitPattern)
      add(masking.seed)
    }
    return hash
  }
}
