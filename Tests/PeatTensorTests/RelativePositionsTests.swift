import PeatTensor
import TestSupport
import Testing

@Suite("Relative positions") struct RelativePositionsTests {
  /// `T5Attention._relative_position_bucket` of transformers 5.23.0, for the distances −160, −128, −127, −91, −64, −45, −32, −23, −17, −16, −15, −8, −7, −1, 0, 1, 7, 8, 9, 12, 16, 23, 64, 90,
  /// 91, 127, 128, 500.
  static let distances = [
    -160, -128, -127, -91, -64, -45, -32, -23, -17, -16, -15, -8, -7, -1, 0, 1, 7, 8, 9, 12, 16, 23,
    64, 90, 91, 127, 128, 500,
  ]

  @Test func `buckets are those of T5 where both ways are seen`() {
    let buckets = Self.distances.map {
      RelativePositions.bucket(of: $0, buckets: 32, longest: 128, looksBack: false)
    }
    #expect(
      buckets == [
        15, 15, 15, 15, 14, 12, 12, 11, 10, 10, 9, 8, 7, 1, 0, 17, 23, 24, 24, 25, 26, 27, 30, 30,
        31, 31, 31, 31,
      ])
  }

  @Test func `buckets are those of T5 where queries look back`() {
    let buckets = Self.distances.map {
      RelativePositions.bucket(of: $0, buckets: 32, longest: 128, looksBack: true)
    }
    #expect(
      buckets == [
        31, 31, 31, 29, 26, 23, 21, 18, 16, 16, 15, 8, 7, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0,
      ])
  }

  /// Heads, head width, queries, keys.
  struct Shape: CustomTestStringConvertible {
    var heads = 2
    var width = 5
    var queries: Int
    var keys: Int
    var testDescription: String { "\(heads)·\(width), \(queries) queries, \(keys) keys" }
  }

  private static let (bucketCount, longest) = (8, 14)

  private func check(
    _ shape: Shape, batch: Int = 2, pattern: AttentionPattern, crosses: Bool = false
  ) {
    var random = SeededRandom(seed: 5)
    let (heads, width) = (shape.heads, shape.width)
    OperationCase(
      "attention by distance, \(shape.testDescription), \(pattern)",
      inputs: [
        Operand("queries", randomTensor([batch * shape.queries, heads * width], &random)),
        Operand("keys", randomTensor([batch * shape.keys, heads * width], &random)),
        Operand("values", randomTensor([batch * shape.keys, heads * width], &random)),
      ],
      weights: crosses ? [] : [Operand("table", randomTensor([Self.bucketCount, heads], &random))]
    ) { tape, x, weights in
      .matrix(
        tape.attention(
          queries: x[0], keys: x[1], values: x[2], heads: heads, keyValueHeads: heads,
          layout: SequenceLayout(
            rows: batch * shape.queries, length: shape.queries,
            firstPosition: crosses ? 0 : shape.keys - shape.queries),
          pattern: pattern,
          relative: weights.first.map { RelativePositions(table: $0, longest: Self.longest) },
          keyLayout: crosses
            ? SequenceLayout(rows: batch * shape.keys, length: shape.keys) : nil))
    } reference: { x, weights in
      Reference.attention(
        x[0], x[1], x[2], heads: heads, keyValueHeads: heads, headWidth: width,
        length: shape.queries, keyLength: shape.keys, pattern: pattern
      ) { head, distance in
        guard let table = weights.first else { return 0 }
        let bucket = RelativePositions.bucket(
          of: distance, buckets: Self.bucketCount, longest: Self.longest,
          looksBack: pattern.isCausal)
        return table[bucket * heads + head]
      }
    }.check()
  }

  @Test(arguments: [1, 2, 4, 5, 8, 17, 31, 64, 97, 130])
  func `scores and the table's gradient agree with the reference`(length: Int) {
    for pattern in [
      AttentionPattern(scale: 1), AttentionPattern(isCausal: false, scale: 1),
      AttentionPattern(isCausal: false), AttentionPattern(),
    ] {
      check(Shape(queries: length, keys: length), pattern: pattern)
    }
  }

  @Test(arguments: [
    Shape(queries: 1, keys: 9), Shape(queries: 3, keys: 66), Shape(queries: 20, keys: 130),
  ])
  func `queries behind a cache have their distances`(shape: Shape) {
    check(shape, batch: 1, pattern: AttentionPattern(scale: 1))
  }

  @Test(arguments: [
    Shape(queries: 1, keys: 1), Shape(queries: 1, keys: 40), Shape(queries: 7, keys: 3),
    Shape(heads: 3, width: 9, queries: 20, keys: 65), Shape(queries: 130, keys: 17),
    Shape(queries: 64, keys: 128),
  ])
  func `queries see all keys of another sequence`(shape: Shape) {
    check(shape, pattern: AttentionPattern(isCausal: false, scale: 1), crosses: true)
  }

  @Test func `sequences of different lengths see each its own`() {
    var random = SeededRandom(seed: 8)
    let (queryLengths, keyLengths) = ([3, 1, 9], [2, 20, 5])
    let queries = randomTensor([13, 8], &random)
    let keys = randomTensor([27, 8], &random)
    let values = randomTensor([27, 8], &random)
    let tape = Tape()
    func attend(_ q: Range<Int>, _ k: Range<Int>, _ lengths: ([Int], [Int])) -> Tensor {
      tape.attention(
        queries: tape.input(queries.rows(q)), keys: tape.input(keys.rows(k)),
        values: tape.input(values.rows(k)), heads: 2, keyValueHeads: 2,
        layout: SequenceLayout(lengths: lengths.0),
        pattern: AttentionPattern(isCausal: false, scale: 1),
        keyLayout: SequenceLayout(lengths: lengths.1)
      ).tensor()
    }
    let together = attend(0..<13, 0..<27, (queryLengths, keyLengths))
    var (row, key) = (0, 0)
    for (queryCount, keyCount) in zip(queryLengths, keyLengths) {
      let alone = attend(row..<row + queryCount, key..<key + keyCount, ([queryCount], [keyCount]))
      expectClose(together.rows(row..<row + queryCount), alone, within: 1e-6, "a sequence")
      row += queryCount
      key += keyCount
    }
  }

  @Test func `a layout with sources divides into sides`() {
    let layout = SequenceLayout(lengths: [5, 3, 4], sources: [2, 1, 3])
    #expect(layout.sides.sources == [0..<2, 5..<6, 8..<11])
    #expect(layout.sides.targets == [2..<5, 6..<8, 11..<12])
    #expect(layout.sideLayouts.sources == SequenceLayout(lengths: [2, 1, 3]))
    let part = layout.part(5..<12)
    #expect(part.sides.sources == [0..<1, 3..<6])
    // Rows in front of a sequence are read with its source.
    let longer = layout.prepending(2)
    #expect(longer.sides.sources == [0..<4, 7..<10, 12..<17])
    #expect(longer.sides.targets == [4..<7, 10..<12, 17..<18])
  }

  @Test func `rows that were taken apart are joined, and so are their gradients`() {
    var random = SeededRandom(seed: 3)
    let ranges = ([0..<2, 5..<6], [2..<5, 6..<8])
    OperationCase(
      "rows joined", inputs: [Operand("x", randomTensor([8, 3], &random))]
    ) { tape, x, _ in
      let second = tape.scaled(tape.rows(x[0], ranges.1), by: 2)
      return .matrix(tape.joined([(tape.rows(x[0], ranges.0), ranges.0), (second, ranges.1)]))
    } reference: { x, _ in
      x[0].enumerated().map { place, value in
        ranges.1.contains { $0.contains(place / 3) } ? 2 * value : value
      }
    }.check()
  }
}
