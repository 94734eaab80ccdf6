import PeatModels
import PeatTensor
import PeatTokenizers

/// Tokens arranged in windows, ready to be drawn in batches.
///
/// A window of `n` inputs covers `n + 1` tokens: each input but the first is also the target of the place before it.
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
    /// stands at the place of the first token or of the last, as the model's head looks at.
    case classes(context: Int, atFirst: Bool)

    /// Whether windows follow documents, so that there are only so many of them.
    public var isByDocument: Bool { if case .stream = self { false } else { true } }

    public var context: Int {
      switch self {
      case .stream(let context), .packed(let context), .documents(let context),
        .classes(let context, _):
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
  /// All tokens, and which of them are to be learned, wherever a window predicts them.
  private let store: TokenStore
  /// Where each document starts in `tokens`, and the end of the last: one more than there are documents.
  let documentStarts: [Int]
  let windows: [Window]
  /// Documents that are in no window: too short, or longer than the context before anything in them is learned.
  public let unusedDocuments: Int
  /// What tokens number where they are patches of pictures.
  public private(set) var patches: PatchTable?
  /// Tells two datasets apart: a hash (FNV-1a) of tokens, marks and arrangement.
  public private(set) var fingerprint: UInt64

  /// Arranges token sequences in windows.
  ///
  /// - Throws: `PeatError.badData` where no window would have anything to learn.
  /// - Precondition: the context is at least 1.
  public init(_ sequences: [TokenSequence], _ arrangement: Arrangement) throws {
    let context = arrangement.context
    precondition(context >= 1, "TokenDataset: a context of \(context)")
    var tokens: [Int32] = []
    var isTarget: [Bool] = []
    var starts = [0]
    tokens.reserveCapacity(sequences.reduce(0) { $0 + $1.tokens.count })
    isTarget.reserveCapacity(tokens.capacity)
    for sequence in sequences {
      tokens += sequence.tokens
      isTarget += sequence.isTarget
      if case .stream = arrangement {
        // Tokens follow each other across documents there, so a first token can be learned.
      } else if !sequence.tokens.isEmpty {
        isTarget[starts[starts.count - 1]] = false
      }
      starts.append(tokens.count)
    }
    // Nothing stands before the first token.
    if !isTarget.isEmpty { isTarget[0] = false }

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
      windows = Self.streamWindows(tokens.count, context)
    case .packed:
      var open: Window?
      func close() {
        if let window = open, window.count > 0 { windows.append(window) }
        open = nil
      }
      for number in sequences.indices {
        let (first, end) = (starts[number], starts[number + 1])
        if first == end { continue }
        if let window = open, end - window.start <= context + 1 {
          open = Window(start: window.start, count: end - 1 - window.start)
          continue
        }
        close()
        var start = first
        while end - start > context + 1 {
          windows.append(Window(start: start, count: context))
          start += context
        }
        open = Window(start: start, count: end - 1 - start)
      }
      close()
    case .documents, .classes:
      for number in sequences.indices {
        let length = starts[number + 1] - starts[number]
        if length >= 2 {
          windows.append(Window(start: starts[number], count: min(context, length - 1)))
        }
      }
    }
    windows.removeAll {
      targetsBefore[$0.start + $0.count + 1] == targetsBefore[$0.start + 1]
    }
    if windows.isEmpty {
      throw PeatError.badData(
        """
        Nothing to learn: \(sequences.count) documents with \(tokens.count) tokens make no window with a \
        target in a context of \(context) tokens. Give more text, or a longer context.
        """)
    }

    self.arrangement = arrangement
    self.store = .memory(tokens: tokens, isTarget: isTarget, targetsBefore: targetsBefore)
    self.documentStarts = starts
    self.windows = windows
    self.unusedDocuments = Self.unusedCount(windows, starts)
    self.fingerprint = store.fingerprint(arrangement)
  }

  /// Arranges tokens that stay on disk as a stream: the same windows as those in memory make.
  ///
  /// - Throws: `PeatError.badData` where no window would have anything to learn.
  /// - Precondition: the context is at least 1.
  public init(_ file: TokenFile, context: Int) throws {
    precondition(context >= 1, "TokenDataset: a context of \(context)")
    store = .file(file)
    arrangement = .stream(context: context)
    documentStarts = file.documentStarts
    let store = store
    windows = Self.streamWindows(file.count, context).filter {
      store.targetCount($0.start + 1..<$0.start + $0.count + 1) > 0
    }
    guard !windows.isEmpty else {
      throw PeatError.badData(
        "Nothing to learn: \(file.count) tokens, none of which is to be learned.")
    }
    unusedDocuments = Self.unusedCount(windows, documentStarts)
    fingerprint = store.fingerprint(arrangement)
  }

  /// Windows one behind the other over so many tokens.
  private static func streamWindows(_ count: Int, _ context: Int) -> [Window] {
    stride(from: 0, to: count - 1, by: context).map {
      Window(start: $0, count: min(context, count - 1 - $0))
    }
  }

  /// How many documents no window has a token of.
  private static func unusedCount(_ windows: [Window], _ starts: [Int]) -> Int {
    var used = Set<Int>()
    for window in windows {
      var number = document(at: window.start, in: starts)
      while number < starts.count - 1, starts[number] < window.start + window.count + 1 {
        used.insert(number)
        number += 1
      }
    }
    return starts.count - 1 - used.count
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
  public var documentCount: Int { documentStarts.count - 1 }
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
    store.targetCount(window.start + 1..<window.start + window.count + 1)
  }

  /// The batch of these windows.
  func batch(_ windows: some Collection<Window>) -> TokenBatch {
    var inputs: [Int32] = []
    var targets: [Int32] = []
    var lengths: [Int] = []
    for window in windows {
      let piece = store.sequence(window.start..<window.start + window.count + 1)
      inputs += piece.tokens.dropLast()
      let first = targets.count
      for place in 1...window.count {
        targets.append(piece.isTarget[place] ? piece.tokens[place] : TokenBatch.ignored)
      }
      if case .classes(_, atFirst: true) = arrangement { targets.swapAt(first, targets.count - 1) }
      lengths += sequenceLengths(in: window)
    }
    return TokenBatch(
      tokens: inputs, targets: targets, windowLengths: windows.map(\.count),
      sequenceLengths: lengths, windowPlaces: windows.map(\.start), patches: patches)
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
