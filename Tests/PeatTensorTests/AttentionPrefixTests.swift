import PeatTensor
import TestSupport
import Testing

@Suite("Attention behind a prefix") struct AttentionPrefixTests {
  /// Heads, key/value heads, head width.
  typealias Heads = (heads: Int, keyValueHeads: Int, width: Int)

  /// - Parameter trains: queries, keys, values, the prefix's keys, its values.
  private func check(
    _ shape: Heads, prefix count: Int, lengths: [Int],
    trains: [Bool] = [true, true, true, true, true], byDistance: Bool = false, seed: UInt64 = 1
  ) {
    var random = SeededRandom(seed: seed)
    let (heads, keyValueHeads, width) = shape
    let rows = lengths.reduce(0, +)
    let (wide, narrow) = (heads * width, keyValueHeads * width)
    OperationCase(
      "attention, prefix \(count), lengths \(lengths), H\(heads) G\(keyValueHeads) D\(width) \(trains)",
      inputs: [
        Operand("queries", randomTensor([rows, wide], &random), trains: trains[0]),
        Operand("keys", randomTensor([rows, narrow], &random), trains: trains[1]),
        Operand("values", randomTensor([rows, narrow], &random), trains: trains[2]),
      ],
      weights: [
        Operand("prefix keys", randomTensor([count, narrow], &random), trains: trains[3]),
        Operand("prefix values", randomTensor([count, narrow], &random), trains: trains[4]),
      ] + (byDistance ? [Operand("table", randomTensor([8, heads], &random))] : [])
    ) { tape, x, w in
      .matrix(
        tape.attention(
          queries: x[0], keys: x[1], values: x[2], heads: heads, keyValueHeads: keyValueHeads,
          layout: SequenceLayout(lengths: lengths),
          prefix: KeyValuePrefixWeights(keys: w[0], values: w[1]),
          relative: byDistance ? RelativePositions(table: w[2], longest: 14) : nil))
    } reference: { x, w in
      // The prefix is written in front of each sequence by hand.
      var first = 0
      return lengths.flatMap { length in
        func part(_ values: [Double], _ width: Int) -> [Double] {
          Array(values[first * width..<(first + length) * width])
        }
        defer { first += length }
        return Reference.attention(
          part(x[0], wide), w[0] + part(x[1], narrow), w[1] + part(x[2], narrow), heads: heads,
          keyValueHeads: keyValueHeads, headWidth: width, length: length,
          keyLength: count + length
        ) { head, distance in
          guard byDistance else { return 0 }
          let bucket = RelativePositions.bucket(
            of: distance, buckets: 8, longest: 14, looksBack: true)
          return w[2][bucket * heads + head]
        }
      }
    }.check()
  }

  @Test(arguments: [1, 2, 7, 16, 33, 100])
  func `every query sees all of it`(count: Int) {
    check((2, 2, 8), prefix: count, lengths: [9, 9])
  }

  @Test(arguments: [(1, 1, 1), (3, 1, 7), (4, 2, 9), (6, 3, 16)] as [(Int, Int, Int)])
  func `grouped heads share their keys and values of it`(
    heads: Int, keyValueHeads: Int, width: Int
  ) {
    check((heads, keyValueHeads, width), prefix: 5, lengths: [10, 3])
  }

  @Test func `sequences of any lengths stand behind it, each by itself`() {
    check((4, 2, 24), prefix: 11, lengths: [1, 97, 5, 64, 3, 130])
  }

  /// The distance is that to its place in front of the sequence, and the table's gradient counts it, too.
  @Test(arguments: [1, 6, 20]) func `its keys are far away as their places say`(count: Int) {
    check((2, 2, 8), prefix: count, lengths: [9, 1, 70], byDistance: true)
  }

  @Test(arguments: [
    [true, false, false, false, false], [false, true, false, false, false],
    [false, false, true, false, false], [false, false, false, true, false],
    [false, false, false, false, true], [false, false, false, true, true],
    [true, true, true, false, false],
  ])
  func `each part may be frozen`(trains: [Bool]) {
    check((2, 1, 8), prefix: 6, lengths: [9, 4], trains: trains)
  }

  @Test func `a single token behind a single key weighs both`() {
    let tape = Tape()
    let output = tape.attention(
      queries: tape.input(Tensor([0, 0], shape: [1, 2])),
      keys: tape.input(Tensor([3, 4], shape: [1, 2])),
      values: tape.input(Tensor([5, 6], shape: [1, 2])), heads: 1, keyValueHeads: 1,
      layout: SequenceLayout(lengths: [1]),
      prefix: KeyValuePrefixWeights(
        keys: Weight(Tensor([1, 1], shape: [1, 2])),
        values: Weight(Tensor([7, 10], shape: [1, 2]))))
    #expect(output.tensor() == Tensor([6, 8], shape: [1, 2]))
  }
}
