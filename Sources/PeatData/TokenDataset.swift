import PeatModels
import PeatTensor
import PeatTokenizers

/// Tokens arranged in windows, ready to be drawn in batches.
///
/// A window of `n` inputs covers `n + 1` tokens: each input but the first is also the target of the place before it. Where tokens are masked it covers `n`, and what is
/// to be said at a place is what stood there.
public struct TokenDataset: Sendable {
  /// How documents become windows of at most `context` inputs.
  public enum Arrangement: Sendable, Equatable, Codable {
    /// All tokens in one row; each window starts with the last token of the one before, so that each token is
    /// predicted once.
    case stream(context: Int)
    /// Whole documents one behind the other in a window, as many as fit; one that is longer is cut into several windows.
    /// Each is read as if it stood alone: it sees nothing of the others, and its first token is not learned.
    case packed(context: Int)
    /// Each document in a window of its own, cut at its end where it is longer.
    case documents(context: Int)
    /// Each document in a window of its own, its last token being no token but the number of its class: what is to be told from the others. It
    /// stands at the place of the first token or of the last that is not `padToken`, as the model's head looks at.
    case classes(context: Int, atFirst: Bool, padToken: Int32? = nil)
    /// Each document in a window of its own: a source and, behind it, what a decoder says, as `TokenSequence.pairs` makes them. The first token that is learned
    /// tells where the border is. Cut at its end where it is longer.
    case pairs(context: Int)

    /// Whether windows follow documents, so that there are only so many of them.
    public var isByDocument: Bool { if case .stream = self { false } else { true } }

    public var context: Int {
      switch self {
      case .stream(let context), .packed(let context), .documents(let context),
        .classes(let context, _, _), .pairs(let context):
        context
      }
    }
  }

  /// A run of tokens: inputs `start ..< start + count`, targets one further.
  struct Window: Sendable, Equatable {
    let start: Int
    let count: Int
  }

  public let arrangement: Arrangement
  /// How tokens are hidden as windows are drawn, where the hidden ones are to be said.
  public let masking: TokenMasking?
  /// All tokens, and which of them are to be learned, wherever a window predicts them.
  let store: TokenStore
  /// Where each document starts in `tokens`, and the end of the last: one more than there are documents. Of tokens on disk, which are one stream, beginning
  /// and end alone.
  let documentStarts: [Int]
  public let documentCount: Int
  let windows: WindowList
  /// Documents that are in no window: too short, or longer than the context before anything in them is learned.
  public let unusedDocuments: Int
  /// Documents that were longer than the context and lost the rest before they came here: of texts of classes.
  public internal(set) var shortenedDocuments = 0
  /// What tokens number where they are patches of pictures.
  public private(set) var patches: PatchTable?
  /// Tells two datasets apart: a hash (FNV-1a) of tokens, marks and arrangement.
  public private(set) var fingerprint: UInt64

  /// Arranges token sequences in windows.
  ///
  /// - Throws: `PeatError.badData` where no window would have anything to learn.
  /// - Precondition: the context is at least 1.
  public init(
    _ sequences: [TokenSequence], _ arrangement: Arrangement, masking: TokenMasking? = nil
  ) throws {
    let context = Self.tokensPerWindow(arrangement.context, masking)
    let beyond = Self.tokensBeyond(masking)
    precondition(context >= 1, "TokenDataset: a context of \(context)")
    var tokens: [Int32] = []
    var isTarget: [Bool] = []
    var types: [Int32] = []
    var starts = [0]
    tokens.reserveCapacity(sequences.reduce(0) { $0 + $1.tokens.count })
    isTarget.reserveCapacity(tokens.capacity)
    for sequence in sequences {
      tokens += sequence.tokens
      isTarget += sequence.isTarget
      if !sequence.types.isEmpty {
        types += Array(repeating: 0, count: tokens.count - sequence.tokens.count - types.count)
        types += sequence.types
      }
      if masking != nil {
        // A hidden token can be the first.
      } else if case .stream = arrangement {
        // Tokens follow each other across documents there, so a first token can be learned.
      } else if !sequence.tokens.isEmpty {
        isTarget[starts[starts.count - 1]] = false
      }
      starts.append(tokens.count)
    }
    if !types.isEmpty { types += Array(repeating: 0, count: tokens.count - types.count) }
    // Nothing stands before the first token.
    if masking == nil, !isTarget.isEmpty { isTarget[0] = false }

    var targetsBefore: [Int32] = [0]
    targetsBefore.reserveCapacity(tokens.count + 1)
    var total: Int32 = 0
    for mark in isTarget {
      total += mark ? 1 : 0
      targetsBefore.append(total)
    }

    var windows: [Window] = []
    switch arrangement {
    case .stream:
      windows = Self.streamWindows(tokens.count, context, beyond)
    case .packed:
      var open: Window?
      func close() {
        if let window = open, window.count > 0 { windows.append(window) }
        open = nil
      }
      for number in sequences.indices {
        let (first, end) = (starts[number], starts[number + 1])
        if first == end { continue }
        if let window = open, end - window.start <= context + beyond {
          open = Window(start: window.start, count: end - beyond - window.start)
          continue
        }
        close()
        var start = first
        while end - start > context + beyond {
          windows.append(Window(start: start, count: context))
          start += context
        }
        open = Window(start: start, count: end - beyond - start)
      }
      close()
    case .documents, .classes, .pairs:
      for number in sequences.indices {
        let length = starts[number + 1] - starts[number]
        if length > beyond {
          windows.append(Window(start: starts[number], count: min(context, length - beyond)))
        }
      }
    }
    windows.removeAll {
      targetsBefore[$0.start + $0.count + beyond] == targetsBefore[$0.start + beyond]
    }
    if windows.isEmpty {
      throw PeatError.badData(
        """
        Nothing to learn: \(sequences.count) documents with \(tokens.count) tokens make no window with a \
        target in a context of \(context) tokens. Give more text, or a longer context.
        """)
    }

    self.arrangement = arrangement
    self.masking = masking
    self.store = .memory(
      tokens: tokens, isTarget: isTarget, types: types, targetsBefore: targetsBefore)
    self.documentStarts = starts
    documentCount = starts.count - 1
    self.windows = WindowList(windows)
    self.unusedDocuments = Self.unusedCount(windows, starts)
    self.fingerprint = store.fingerprint(arrangement, masking)
  }

  /// Arranges tokens that stay on disk as a stream: the same windows as those in memory make.
  ///
  /// - Throws: `PeatError.badData` where no window would have anything to learn.
  /// - Precondition: the context is at least 1.
  public init(_ file: TokenFile, context: Int, masking: TokenMasking? = nil) throws {
    let tokens = Self.tokensPerWindow(context, masking)
    precondition(tokens >= 1, "TokenDataset: a context of \(context)")
    store = .file(file)
    arrangement = .stream(context: context)
    self.masking = masking
    documentStarts = [0, file.count]
    documentCount = file.documentCount
    windows = Self.windows(of: file, tokens, Self.tokensBeyond(masking))
    guard !windows.isEmpty else {
      throw PeatError.badData(
        "Nothing to learn: \(file.count) tokens, none of which is to be learned.")
    }
    unusedDocuments = 0
    fingerprint = store.fingerprint(arrangement, masking)
  }

  /// Of the tokens given, how many are a window's inputs at most: what is put around it takes the rest of the context.
  private static func tokensPerWindow(_ context: Int, _ masking: TokenMasking?) -> Int {
    context - (masking?.frameCount ?? 0)
  }

  /// How many tokens a window needs behind its inputs: the target of the last place, where each next token is predicted.
  private static func tokensBeyond(_ masking: TokenMasking?) -> Int { masking == nil ? 1 : 0 }

  var tokensPerWindow: Int { Self.tokensPerWindow(context, masking) }
  var tokensBeyond: Int { Self.tokensBeyond(masking) }

  /// Windows one behind the other over so many tokens.
  private static func streamWindows(_ count: Int, _ context: Int, _ beyond: Int) -> [Window] {
    stride(from: 0, to: count - beyond, by: context).map {
      Window(start: $0, count: min(context, count - beyond - $0))
    }
  }

  /// The windows of a stream on disk that have something to learn, found piece by piece.
  private static func windows(of file: TokenFile, _ context: Int, _ beyond: Int) -> WindowList {
    let perPiece = max(1, (1 << 16) / context) * context
    return WindowList(tokenCount: file.count, context: context, beyond: beyond) { add in
      for first in stride(from: 0, to: file.count - beyond, by: perPiece) {
        let marks = file.sequence(first..<min(first + perPiece + beyond, file.count)).isTarget
        for start in stride(from: 0, to: marks.count - beyond, by: context) {
          let count = min(context, marks.count - beyond - start)
          // Nothing stands before the first token of all.
          let isFirst = first + start + beyond == 0
          if marks[(start + beyond + (isFirst ? 1 : 0))..<(start + count + beyond)].contains(true) {
            add((first + start) / context)
          }
        }
      }
    }
  }

  /// How many documents no window has a token of.
  private static func unusedCount(_ windows: [Window], _ starts: [Int]) -> Int {
    var used = 0
    // Windows come in order: of these numbers none was counted yet.
    var next = 0
    for window in windows {
      var number = max(document(at: window.start, in: starts), next)
      while number < starts.count - 1, starts[number] < window.start + window.count + 1 {
        used += 1
        number += 1
      }
      next = max(next, number)
    }
    return starts.count - 1 - used
  }

  /// Pictures of classes: each a window of the numbers of its patches, behind those of the model's own tokens (−1, −2, …).
  ///
  /// - Parameters:
  ///   - pictures: `[channels, height, width]` each, as the model sees them, with the number of its class.
  ///   - image: how the model cuts them.
  /// - Throws: `badData` where there is none.
  public init(pictures: [(values: Tensor, label: Int32)], cut image: ImageInput) throws {
    let table = Tensor(uninitialized: [pictures.count * image.patches, image.patchSize])
    let own = (0..<image.ownTokens).map { Int32(-1 - $0) }
    var sequences: [TokenSequence] = []
    for (number, picture) in pictures.enumerated() {
      let patches = image.patches(of: picture.values)
      let first = number * image.patches
      (table.pointer + first * image.patchSize).update(from: patches.pointer, count: patches.count)
      sequences.append(
        TokenSequence(
          tokens: own + (first..<first + image.patches).map { Int32($0) } + [picture.label],
          isTarget: Array(repeating: false, count: own.count + image.patches) + [true]))
    }
    try self.init(
      sequences, .classes(context: image.patches + image.ownTokens, atFirst: true))
    patches = PatchTable(table)
    table.withUnsafeBufferPointer { values in
      for value in values {
        fingerprint = (fingerprint ^ UInt64(value.bitPattern)) &* 0x100_0000_01b3
      }
    }
  }

  /// The same, where tokens number patches of another dataset's pictures, which this is a part of.
  func seeing(_ whole: TokenDataset) -> TokenDataset {
    guard let patches = whole.patches else { return self }
    var result = self
    result.patches = patches
    result.fingerprint = (fingerprint &* 0x100_0000_01b3) ^ whole.fingerprint
    return result
  }

  /// Encodes documents and arranges them in windows.
  ///
  /// - Throws: `PeatError.usage` where `addBegin` or `addEnd` asks for a token that the tokenizer does not have, or packed
  ///   documents would have neither between them; `PeatError.badData` where nothing is left to learn.
  public init(
    _ documents: [Document], tokenizer: some TextTokenizer, _ arrangement: Arrangement,
    addBegin: Bool = false, addEnd: Bool = false
  ) throws {
    if case .packed = arrangement, !addBegin, !addEnd {
      throw PeatError.usage(
        "Packed documents need a begin or an end token between them. Allow one of them, or use a stream."
      )
    }
    try self.init(
      documents.map {
        try TokenSequence($0, tokenizer: tokenizer, addBegin: addBegin, addEnd: addEnd)
      }, arrangement)
  }

  /// All tokens, document after document; read from the disk where they lie there.
  public var tokens: [Int32] { store.sequence(0..<tokenCount).tokens }
  public var tokenCount: Int { store.count }

  /// All tokens, without what are classes' numbers.
  public var inputTokens: [Int32] {
    guard case .classes = arrangement else { return tokens }
    return (0..<documentCount).flatMap { sequence($0).tokens.dropLast() }
  }

  /// The most inputs in a window.
  public var context: Int { arrangement.context }
  public var windowCount: Int { windows.count }
  /// How many predictions all windows together make.
  public var targetCount: Int {
    windows.reduce(0) { $0 + targetCount(of: $1) }
  }

  /// The document with a number, as it was given but for first tokens that can't be learned.
  func sequence(_ number: Int) -> TokenSequence {
    store.sequence(documentStarts[number]..<documentStarts[number + 1])
  }

  func targetCount(of window: Window) -> Int {
    let count = store.targetCount(
      window.start + tokensBeyond..<window.start + window.count + tokensBeyond)
    return masking?.chosenCount(of: count) ?? count
  }

  /// The first token that is no number of a vocabulary, classes' numbers left out.
  package func tokenOutside(vocabularySize: Int) -> Int32? {
    func isOutside(_ token: Int32) -> Bool { token < 0 || token >= vocabularySize }
    if let masking,
      let token = ([masking.maskToken] + masking.before + masking.after).first(where: isOutside)
    {
      return token
    }
    if case .classes = arrangement { return inputTokens.first(where: isOutside) }
    // Piece by piece: they may lie on disk.
    for start in stride(from: 0, to: tokenCount, by: 1 << 16) {
      let piece = store.sequence(start..<Swift.min(start + (1 << 16), tokenCount))
      if let token = piece.tokens.first(where: isOutside) { return token }
    }
    return nil
  }

  /// The batch of these windows.
  ///
  /// - Parameter maskSeeds: for each window the seed of what is hidden; the masks that repeat if not given.
  func batch(_ windows: some Collection<Window>, maskSeeds: [UInt64] = []) -> TokenBatch {
    if let masking { return batch(windows, masking, maskSeeds) }
    var inputs: [Int32] = []
    var targets: [Int32] = []
    var lengths: [Int] = []
    var types: [Int32] = []
    var sources: [Int] = []
    for window in windows {
      let piece = store.sequence(window.start..<window.start + window.count + 1)
      inputs += piece.tokens.dropLast()
      types += piece.types.dropLast()
      let first = targets.count
      for place in 1...window.count {
        targets.append(piece.isTarget[place] ? piece.tokens[place] : TokenBatch.ignored)
      }
      if case .classes(_, let atFirst, let padToken) = arrangement {
        let place = HeadLayout.place(
          ofClassIn: piece.tokens.dropLast(), atFirst: atFirst, padToken: padToken)
        targets.swapAt(first + place, targets.count - 1)
      }
      if case .pairs = arrangement { sources.append(sourceLength(of: piece)) }
      lengths += sequenceLengths(in: window)
    }
    return TokenBatch(
      tokens: inputs, targets: targets, windowLengths: windows.map(\.count),
      sequenceLengths: lengths, sourceLengths: sources.isEmpty ? nil : sources,
      windowPlaces: windows.map(\.start), types: types, patches: patches)
  }

  private func batch(
    _ windows: some Collection<Window>, _ masking: TokenMasking, _ seeds: [UInt64]
  ) -> TokenBatch {
    var inputs: [Int32] = []
    var targets: [Int32] = []
    var lengths: [Int] = []
    for (number, window) in windows.enumerated() {
      let piece = store.sequence(window.start..<window.start + window.count)
      var tokens = masking.before + piece.tokens + masking.after
      let mayBeChosen =
        masking.before.map { _ in false } + piece.isTarget + masking.after.map { _ in false }
      targets += masking.hide(
        &tokens, mayBeChosen: mayBeChosen,
        seed: seeds.isEmpty ? masking.seed(ofWindowAt: window.start) : seeds[number])
      inputs += tokens
      lengths +=
        arrangement.isByDocument ? sequenceLengths(in: window) : [tokens.count]
    }
    return TokenBatch(
      tokens: inputs, targets: targets,
      windowLengths: windows.map { $0.count + masking.frameCount },
      sequenceLengths: lengths, windowPlaces: windows.map(\.start))
  }

  /// The most sequences that a window divides into: documents in a packed one, else one.
  public var mostSequencesInWindow: Int {
    guard case .packed = arrangement else { return 1 }
    return windows.reduce(1) { max($0, sequenceLengths(in: $1).count) }
  }

  /// How many places of a window belong to each of its documents; in a stream, all belong together.
  private func sequenceLengths(in window: Window) -> [Int] {
    guard case .packed = arrangement else { return [window.count] }
    let end = window.start + window.count
    var result: [Int] = []
    var start = window.start
    var document = Self.document(at: start, in: documentStarts)
    while start < end {
      let next = min(documentStarts[document + 1], end)
      if next > start { result.append(next - start) }
      start = next
      document += 1
    }
    return result
  }

  /// One of the batches of so many windows that the dataset divides into, in order; the last may have fewer.
  ///
  /// - Precondition: there is such a batch.
  public func batch(_ number: Int, rows: Int) -> TokenBatch {
    batch(windows[number * rows..<Swift.min((number + 1) * rows, windows.count)])
  }

  /// Every window once, in order, `rows` at a time; the last batch may have fewer. What an evaluation goes through.
  ///
  /// - Precondition: `rows` is at least 1.
  public func batches(rows: Int) -> some Sequence<TokenBatch> {
    precondition(rows >= 1, "TokenDataset: batches of \(rows) rows")
    return stride(from: 0, to: windows.count, by: rows).lazy.map { first in
      batch(windows[first..<Swift.min(first + rows, windows.count)])
    }
  }

  /// The document that a place in `tokens` belongs to; the last one of those that start there.
  private static func document(at place: Int, in starts: [Int]) -> Int {
    var low = 0
    var high = starts.count - 1
    while low + 1 < high {
      let middle = (low + high) / 2
      if starts[middle] <= place { low = middle } else { high = middle }
    }
    return low
  }
}
