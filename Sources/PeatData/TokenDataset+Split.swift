import PeatTensor

extension TokenDataset {
  /// How many documents there must be for a part of them to be held back whole.
  static let fewestDocumentsToSplit = 10

  /// Holds back a share of the tokens to validate with; the two parts have no token in common.
  ///
  /// With ten documents or more, whole documents are held back, chosen by `seed`, until they hold the share; with fewer,
  /// the end of the text is, as of tokens that lie on disk; of pictures and other things of classes, always whole ones. At least one document stays on either side.
  ///
  /// - Throws: `PeatError.usage` where the share is not between 0 and 1; `PeatError.badData` where one part would be left
  ///   with nothing to learn.
  public func split(validationShare: Double, seed: UInt64) throws -> (
    training: TokenDataset, validation: TokenDataset
  ) {
    guard validationShare > 0, validationShare < 1 else {
      throw PeatError.usage(
        "A validation share of \(validationShare) is not between 0 and 1. 0.1 holds back a tenth.")
    }
    let count = Int((Double(tokenCount) * validationShare).rounded())
    return try split(validationTokens: max(1, count), seed: seed)
  }

  /// Holds back about as many tokens to validate with; see `split(validationShare:seed:)`.
  public func split(validationTokens: Int, seed: UInt64) throws -> (
    training: TokenDataset, validation: TokenDataset
  ) {
    guard validationTokens > 0, validationTokens < tokenCount else {
      throw PeatError.usage(
        "\(validationTokens) tokens can't be held back of \(tokenCount). Give more text, or hold back less."
      )
    }
    if case .file(let file) = store {
      let border = tokenCount - validationTokens
      return (
        try TokenDataset(file.part(0..<border), context: context, masking: masking),
        try TokenDataset(file.part(border..<tokenCount), context: context, masking: masking)
      )
    }
    var training: [TokenSequence] = []
    var validation: [TokenSequence] = []
    // A pair that is cut apart is none any more, nor is what has a class; and what stands around a masked document stays there.
    let isWhole =
      switch arrangement {
      case .pairs, .classes: true
      default: masking != nil && arrangement.isByDocument
      }
    if documentCount >= (isWhole ? 2 : Self.fewestDocumentsToSplit) {
      var random = SeededRandom(seed: seed, "validation split")
      var held = Set<Int>()
      var heldTokens = 0
      for number in random.shuffled(Array(0..<documentCount)) {
        if heldTokens >= validationTokens || held.count == documentCount - 1 { break }
        held.insert(number)
        heldTokens += documentStarts[number + 1] - documentStarts[number]
      }
      for number in 0..<documentCount {
        if held.contains(number) {
          validation.append(sequence(number))
        } else {
          training.append(sequence(number))
        }
      }
    } else {
      let border = tokenCount - validationTokens
      for number in 0..<documentCount {
        let whole = sequence(number)
        let cut = min(max(border - documentStarts[number], 0), whole.tokens.count)
        for (range, isHeld) in [(0..<cut, false), (cut..<whole.tokens.count, true)]
        where !range.isEmpty {
          if isHeld {
            validation.append(whole.part(range))
          } else {
            training.append(whole.part(range))
          }
        }
      }
    }
    do {
      return (
        try TokenDataset(training, arrangement, masking: masking).seeing(self),
        try TokenDataset(validation, arrangement, masking: masking).seeing(self)
      )
    } catch {
      throw PeatError.badData(
        """
        Holding back \(validationTokens) of \(tokenCount) tokens leaves one part with nothing to learn. \
        Give more text, or change how much is held back.
        """, cause: error)
    }
  }

  /// The first documents, and of the last as much, that hold so many tokens together.
  ///
  /// - Throws: `badData` where nothing is left to learn.
  public func prefix(tokens count: Int) throws -> TokenDataset {
    if case .file(let file) = store {
      return try TokenDataset(
        file.part(0..<min(max(count, 0), tokenCount)), context: context, masking: masking)
    }
    var left = count
    var parts: [TokenSequence] = []
    for number in 0..<documentCount where left > 0 {
      let whole = sequence(number)
      let kept = min(left, whole.tokens.count)
      left -= kept
      parts.append(whole.part(0..<kept))
    }
    return try TokenDataset(parts, arrangement, masking: masking).seeing(self)
  }
}
