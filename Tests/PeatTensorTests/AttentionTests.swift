import PeatTensor
import TestSupport
import Testing

@Suite("Attention") struct AttentionTests {
  /// Heads, key/value heads, head width.
  typealias Heads = (heads: Int, keyValueHeads: Int, width: Int)

  private func check(
    _ shape: Heads, batch: Int, length: Int, keyLength: Int, pattern: AttentionPattern = .causal,
    trains: [Bool] = [true, true, true], seed: UInt64 = 1
  ) {
    var random = SeededRandom(seed: seed)
    let (heads, keyValueHeads, width) = shape
    OperationCase(
      "attention B\(batch) T\(length) S\(keyLength) H\(heads) G\(keyValueHeads) D\(width) \(trains)",
      inputs: [
        Operand(
          "queries", randomTensor([batch * length, heads * width], &random), trains: trains[0]),
        Operand(
          "keys", randomTensor([batch * keyLength, keyValueHeads * width], &random),
          trains: trains[1]),
        Operand(
          "values", randomTensor([batch * keyLength, keyValueHeads * width], &random),
          trains: trains[2]),
      ]
    ) { tape, x, _ in
      .matrix(
        tape.attention(
          queries: x[0], keys: x[1], values: x[2], heads: heads, keyValueHeads: keyValueHeads,
          layout: SequenceLayout(
            rows: batch * length, length: length, firstPosition: keyLength - length),
          pattern: pattern))
    } reference: { x, _ in
      Reference.attention(
        x[0], x[1], x[2], heads: heads, keyValueHeads: keyValueHeads, headWidth: width,
        length: length, keyLength: keyLength, pattern: pattern)
    }.check()
  }

  @Test(arguments: [1, 2, 5, 16, 17, 64, 100, 500])
  func `a window hides the keys that are further back`(window: Int) {
    let pattern = AttentionPattern(window: window)
    for length in [1, 7, 33, 200] {
      check((2, 1, 8), batch: 2, length: length, keyLength: length, pattern: pattern)
    }
    // Few queries behind many keys are attended without packing.
    check((4, 2, 8), batch: 1, length: 3, keyLength: 130, pattern: pattern)
    check((4, 2, 8), batch: 1, length: 20, keyLength: 130, pattern: pattern)
  }

  @Test(arguments: raggedSizes + [130])
  func `queries of who looks both ways see all keys of their sequence`(length: Int) {
    check((4, 2, 9), batch: 2, length: length, keyLength: length, pattern: .bidirectional)
  }

  @Test(arguments: [
    AttentionPattern(scale: 0.7), AttentionPattern(softCap: 0.8),
    AttentionPattern(window: 9, scale: 1.3, softCap: 2),
    AttentionPattern(isCausal: false, scale: 0.4, softCap: 1.5),
  ])
  func `scores may be scaled otherwise, and capped`(pattern: AttentionPattern) {
    for length in [3, 8, 65, 130] {
      check((2, 1, 8), batch: 2, length: length, keyLength: length, pattern: pattern)
    }
  }

  @Test(arguments: raggedSizes + [130])
  func `every length agrees with the reference`(length: Int) {
    check((2, 2, 8), batch: 2, length: length, keyLength: length)
  }

  @Test(arguments: [(1, 1, 1), (3, 1, 7), (4, 2, 9), (6, 3, 16), (4, 4, 5)] as [(Int, Int, Int)])
  func `grouped heads agree with the reference, down to a single key and value head`(
    heads: Int, keyValueHeads: Int, width: Int
  ) {
    check((heads, keyValueHeads, width), batch: 2, length: 10, keyLength: 10)
  }

  @Test(arguments: [(1, 1), (1, 2), (1, 65), (5, 23), (63, 64), (65, 130)])
  func `the queries may be the last of more keys`(length: Int, keyLength: Int) {
    check((4, 2, 8), batch: 2, length: length, keyLength: keyLength)
  }

  @Test(arguments: [
    [true, false, false], [false, true, false], [false, false, true], [true, true, false],
    [true, false, true], [false, true, true],
  ])
  func `each of queries, keys and values may be frozen`(trains: [Bool]) {
    check((2, 1, 8), batch: 2, length: 9, keyLength: 9, trains: trains)
  }

  @Test func `queries, keys and values may be ranges of columns of one matrix`() {
    var random = SeededRandom(seed: 9)
    let (length, width) = (11, 6)
    // Four query heads, two key/value heads, and columns that belong to nobody.
    OperationCase(
      "attention of one matrix", inputs: [Operand("x", randomTensor([2 * length, 60], &random))]
    ) { tape, x, _ in
      .matrix(
        tape.attention(
          queries: x[0].columns(5..<29), keys: x[0].columns(30..<42),
          values: x[0].columns(42..<54), heads: 4, keyValueHeads: 2,
          layout: SequenceLayout(rows: 2 * length, length: length)))
    } reference: { x, _ in
      Reference.attention(
        Reference.columns(x[0], width: 60, 5..<29), Reference.columns(x[0], width: 60, 30..<42),
        Reference.columns(x[0], width: 60, 42..<54), heads: 4, keyValueHeads: 2, headWidth: width,
        length: length, keyLength: length)
    }.check()
  }

  @Test func `queries, keys and values may be the same matrix`() {
    var random = SeededRandom(seed: 10)
    OperationCase(
      "attention(x, x, x)", inputs: [Operand("x", randomTensor([2 * 11, 12], &random))]
    ) { tape, x, _ in
      .matrix(
        tape.attention(
          queries: x[0], keys: x[0], values: x[0], heads: 2, keyValueHeads: 2,
          layout: SequenceLayout(rows: 22, length: 11)))
    } reference: { x, _ in
      Reference.attention(
        x[0], x[0], x[0], heads: 2, keyValueHeads: 2, headWidth: 6, length: 11, keyLength: 11)
    }.check()
  }

  @Test func `sequences of any lengths stand one behind the other, each by itself`() {
    var random = SeededRandom(seed: 13)
    let lengths = [1, 97, 5, 64, 3, 130]
    let rows = lengths.reduce(0, +)
    let (heads, keyValueHeads, width) = (4, 2, 24)
    OperationCase(
      "attention of lengths \(lengths)",
      inputs: [
        Operand("queries", randomTensor([rows, heads * width], &random)),
        Operand("keys", randomTensor([rows, keyValueHeads * width], &random)),
        Operand("values", randomTensor([rows, keyValueHeads * width], &random)),
      ]
    ) { tape, x, _ in
      .matrix(
        tape.attention(
          queries: x[0], keys: x[1], values: x[2], heads: heads, keyValueHeads: keyValueHeads,
          layout: SequenceLayout(lengths: lengths)))
    } reference: { x, _ in
      var first = 0
      return lengths.flatMap { length in
        func part(_ values: [Double], _ width: Int) -> [Double] {
          Array(values[first * width..<(first + length) * width])
        }
        defer { first += length }
        return Reference.attention(
          part(x[0], heads * width), part(x[1], keyValueHeads * width),
          part(x[2], keyValueHeads * width), heads: heads, keyValueHeads: keyValueHeads,
          headWidth: width, length: length, keyLength: length)
      }
    }.check()
  }

  @Test(arguments: [1, 2, 5]) func `a query that is no number spoils its own row alone`(count: Int)
  {
    var random = SeededRandom(seed: 14)
    let length = 40
    var q = randomTensor([length, 16], &random).scalars
    let spoilt = length - count
    for i in 0..<16 { q[spoilt * 16 + i] = .nan }
    let tape = Tape()
    let output = tape.attention(
      queries: tape.input(Tensor(q, shape: [length, 16])),
      keys: tape.input(randomTensor([length, 16], &random)),
      values: tape.input(randomTensor([length, 16], &random)), heads: 2, keyValueHeads: 2,
      layout: SequenceLayout(lengths: [length])
    ).tensor()
    for row in 0..<length {
      let values = output.rows(row..<row + 1).scalars
      #expect(values.allSatisfy { $0.isNaN == (row == spoilt) }, "row \(row)")
    }
  }

  @Test func `a cached prefix gives the same rows as the whole sequence at once`() {
    var random = SeededRandom(seed: 11)
    let (keyLength, length) = (70, 3)
    let q = randomTensor([keyLength, 16], &random)
    let k = randomTensor([keyLength, 8], &random)
    let v = randomTensor([keyLength, 8], &random)
    let tape = Tape()
    let whole = tape.attention(
      queries: tape.input(q), keys: tape.input(k), values: tape.input(v), heads: 4,
      keyValueHeads: 2, layout: SequenceLayout(lengths: [keyLength])
    ).tensor()
    let last = tape.attention(
      queries: tape.input(q.rows(keyLength - length..<keyLength)), keys: tape.input(k),
      values: tape.input(v), heads: 4, keyValueHeads: 2,
      layout: SequenceLayout(lengths: [length], firstPosition: keyLength - length)
    ).tensor()
    expectClose(last, whole.rows(keyLength - length..<keyLength), within: 1e-6, "last rows")
  }

  @Test(arguments: [2, 3, 4, 8, 12])
  func `large scores pick one key instead of overflowing`(width: Int) {
    // Scores of about ±1e30: the softmax is a one at the largest.
    var random = SeededRandom(seed: 12)
    let length = 9
    let q = randomTensor([length, width], &random, scale: 1e15)
    let k = randomTensor([length, width], &random, scale: 1e15)
    let v = randomTensor([length, width], &random)
    OperationCase(
      "attention with huge scores",
      inputs: [
        Operand("queries", q, trains: false), Operand("keys", k, trains: false),
        Operand("values", v),
      ]
    ) { tape, x, _ in
      .matrix(
        tape.attention(
          queries: x[0], keys: x[1], values: x[2], heads: 1, keyValueHeads: 1,
          layout: SequenceLayout(lengths: [length])))
    } reference: { x, _ in
      Reference.attention(
        x[0], x[1], x[2], heads: 1, keyValueHeads: 1, headWidth: width, length: length,
        keyLength: length)
    }.check()
  }

  @Test func `one token attends to itself alone`() {
    let tape = Tape()
    let output = tape.attention(
      queries: tape.input(Tensor([1, 2], shape: [1, 2])),
      keys: tape.input(Tensor([3, 4], shape: [1, 2])),
      values: tape.input(Tensor([5, 6], shape: [1, 2])), heads: 1, keyValueHeads: 1,
      layout: SequenceLayout(lengths: [1]))
    #expect(output.tensor() == Tensor([5, 6], shape: [1, 2]))
  }
}
