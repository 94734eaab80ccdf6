/// How the rows of a batch divide into sequences, and which of these rows somebody holds.
///
/// Sequences may have any lengths and stand one behind the other: nothing is filled up, and no row sees another
/// sequence. A part of the rows may begin and end inside sequences.
public struct SequenceLayout: Sendable, Equatable {
  /// Where each sequence begins, in rows of the whole batch, and the end of the last.
  private let starts: [Int]
  /// The rows that are held, of the whole batch.
  public let rows: Range<Int>
  /// The position of each sequence's first row: so many tokens stand before it, in a cache.
  package let firstPosition: Int
  /// How many rows at the beginning of each sequence belong to no token.
  package let prepended: Int
  /// How many rows at the beginning of each sequence are its source, which an encoder reads; the rest is what a decoder says. `nil`: there is no such border.
  private let sources: [Int]?

  private init(
    starts: [Int], rows: Range<Int>, firstPosition: Int, prepended: Int = 0, sources: [Int]? = nil
  ) {
    self.starts = starts
    self.rows = rows
    self.firstPosition = firstPosition
    self.prepended = prepended
    self.sources = sources
  }

  /// Sequences of these lengths, each a source and, behind it, what is said of it.
  ///
  /// - Parameter sources: how many rows of each are its source: at least one, and at least one is left.
  public init(lengths: [Int], sources: [Int]) {
    precondition(
      lengths.count == sources.count && zip(lengths, sources).allSatisfy { $1 > 0 && $1 < $0 },
      "SequenceLayout: sources of \(sources) rows in sequences of \(lengths)")
    let plain = SequenceLayout(lengths: lengths)
    self.init(starts: plain.starts, rows: plain.rows, firstPosition: 0, sources: sources)
  }

  /// Sequences of these lengths.
  ///
  /// - Parameter firstPosition: how many tokens of each stand before its rows, in a cache.
  public init(lengths: some Sequence<Int>, firstPosition: Int = 0) {
    var starts = [0]
    for length in lengths {
      precondition(length > 0, "SequenceLayout: a sequence of \(length) rows")
      starts.append((starts.last ?? 0) + length)
    }
    self.init(starts: starts, rows: 0..<(starts.last ?? 0), firstPosition: firstPosition)
  }

  /// `rows` rows in sequences of one length.
  public init(rows: Int, length: Int, firstPosition: Int = 0) {
    precondition(
      length > 0 && rows % length == 0, "SequenceLayout: \(rows) rows in sequences of \(length)")
    self.init(
      starts: Array(stride(from: 0, through: rows, by: length)), rows: 0..<rows,
      firstPosition: firstPosition)
  }

  /// How many rows are held.
  public var count: Int { rows.count }

  /// A range of the held rows.
  public func part(_ range: Range<Int>) -> SequenceLayout {
    precondition(
      range.lowerBound >= 0 && range.upperBound <= count, "SequenceLayout: \(range) of \(count)")
    precondition(
      firstPosition == 0 || range == 0..<count, "SequenceLayout: a part beside a cache")
    let result = SequenceLayout(
      starts: starts, rows: rows.lowerBound + range.lowerBound..<rows.lowerBound + range.upperBound,
      firstPosition: firstPosition, prepended: prepended, sources: sources)
    precondition(
      sources == nil || result.pieces.allSatisfy { $0.position == 0 && !$0.continues },
      "SequenceLayout: a part of a sequence with a source")
    return result
  }

  /// The same rows, each so many positions later.
  package func shifted(by positions: Int) -> SequenceLayout {
    SequenceLayout(
      starts: starts, rows: rows, firstPosition: firstPosition + positions, prepended: prepended,
      sources: sources)
  }

  /// The same sequences, each with so many more rows in front: rows of no token, held by whoever holds the sequence's first.
  ///
  /// Sequences that go on behind a cache have them there already.
  package func prepending(_ count: Int) -> SequenceLayout {
    guard count > 0, firstPosition == 0 else { return self }
    precondition(prepended == 0, "SequenceLayout: rows are in front already")
    // All sequences that begin before a row have grown.
    func moved(_ row: Int) -> Int { row + count * begun(before: row) }
    return SequenceLayout(
      starts: starts.enumerated().map { $1 + count * $0 },
      rows: moved(rows.lowerBound)..<moved(rows.upperBound), firstPosition: 0, prepended: count,
      sources: sources?.map { $0 + count })
  }

  /// How many sequences begin before a row of the whole batch.
  private func begun(before row: Int) -> Int {
    var (low, high) = (0, starts.count)
    while low < high {
      let middle = (low + high) / 2
      if starts[middle] < row { low = middle + 1 } else { high = middle }
    }
    return low
  }

  /// The rows in front of sequences that are held: where they begin, counted from the first held row, and which of their sequence's they are.
  package var prependedRows: [(row: Int, rows: Range<Int>)] {
    if prepended == 0 { return [] }
    return pieces.compactMap { piece in
      let first = piece.position - firstPosition
      return first < prepended
        ? (piece.row, first..<min(first + piece.count, prepended)) : nil
    }
  }

  /// The held rows that belong to tokens, counted from the first held one.
  package var tokenRows: [Range<Int>] {
    if prepended == 0 { return [0..<count] }
    return pieces.compactMap { piece in
      let skipped = max(0, prepended - (piece.position - firstPosition))
      return skipped < piece.count ? piece.row + skipped..<piece.row + piece.count : nil
    }
  }

  /// As many rows as `tokenRows`, with the first row of each sequence that begins here in the place of its first token's.
  package var headedRows: [Range<Int>] {
    if prepended == 0 { return [0..<count] }
    return pieces.flatMap { piece -> [Range<Int>] in
      let offset = piece.position - firstPosition
      let tokens = piece.row + max(0, prepended - offset)..<piece.row + piece.count
      guard offset == 0, !tokens.isEmpty else { return tokens.isEmpty ? [] : [tokens] }
      return [piece.row..<piece.row + 1, tokens.dropFirst()].filter { !$0.isEmpty }
    }
  }

  /// Whether sequences begin with a source.
  package var hasSources: Bool { sources != nil }

  /// The held rows of sources and those behind them, counted from the first held one, sequence by sequence. Without sources all are behind.
  package var sides: (sources: [Range<Int>], targets: [Range<Int>]) {
    guard let sources else { return ([], [0..<count]) }
    let pieces = pieces
    return (
      pieces.map { $0.row..<$0.row + sources[$0.sequence] },
      pieces.map { $0.row + sources[$0.sequence]..<$0.row + $0.count }
    )
  }

  /// The layouts of both sides, as if each stood alone.
  package var sideLayouts: (sources: SequenceLayout, targets: SequenceLayout) {
    guard sources != nil else { return (SequenceLayout(lengths: []), self) }
    let sides = sides
    return (
      SequenceLayout(lengths: sides.sources.map(\.count)),
      SequenceLayout(lengths: sides.targets.map(\.count))
    )
  }

  /// Consecutive rows of one sequence.
  package struct Piece: Sendable, Equatable {
    /// The sequence's number in the batch.
    package let sequence: Int
    /// The first row, counted from the first held one.
    package let row: Int
    package let count: Int
    /// The first row's position in its sequence.
    package let position: Int
    /// Whether the sequence goes on behind the held rows.
    package let continues: Bool
  }

  /// The held rows, sequence by sequence.
  package var pieces: [Piece] {
    guard !rows.isEmpty else { return [] }
    var sequence = self.sequence(of: rows.lowerBound)
    var result: [Piece] = []
    var row = rows.lowerBound
    while row < rows.upperBound {
      let end = min(starts[sequence + 1], rows.upperBound)
      result.append(
        Piece(
          sequence: sequence, row: row - rows.lowerBound, count: end - row,
          position: firstPosition + row - starts[sequence], continues: end < starts[sequence + 1]))
      row = end
      sequence += 1
    }
    return result
  }

  private func sequence(of row: Int) -> Int {
    var (low, high) = (0, starts.count - 1)
    while low + 1 < high {
      let middle = (low + high) / 2
      if starts[middle] <= row { low = middle } else { high = middle }
    }
    return low
  }

  /// How many positions the held rows reach.
  public var positions: Int { pieces.reduce(0) { max($0, $1.position + $1.count) } }

  /// Cuts the held rows into at most so many parts of about the same size; none is empty.
  ///
  /// A cut moves to the border of a sequence that is near, within a sixteenth of a part: there the parts need nothing of
  /// each other.
  ///
  /// - Parameter wholeSequences: whether to cut at borders alone.
  package func split(into parts: Int, wholeSequences: Bool = false) -> [Range<Int>] {
    let parts = min(parts, count)
    guard parts > 0 else { return [] }
    let borders = pieces.map(\.row)
    let reach = wholeSequences ? count : count / parts / 16
    var cuts = [0]
    for number in 1..<max(parts, 1) {
      let even = count * number / parts
      let border = borders.min { abs($0 - even) < abs($1 - even) } ?? even
      let cut = abs(border - even) <= reach ? border : even
      if cut > cuts[cuts.count - 1], cut < count { cuts.append(cut) }
    }
    cuts.append(count)
    return zip(cuts, cuts.dropFirst()).map { $0..<$1 }
  }
}
