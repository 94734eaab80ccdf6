import PeatTensor
import TestSupport
import Testing

/// The shape of a small block: norm, one matrix for q, k and v, rotary, attention, residual, norm, SwiGLU, residual.
private struct Block {
  static let width = 12
  static let heads = 4
  static let keyValueHeads = 2
  static let headWidth = 6
  static let hidden = 20
  static let length = 9
  static let layout = SequenceLayout(rows: 18, length: 9)
  static let qkvWidth = (heads + 2 * keyValueHeads) * headWidth
  static let table = RotaryTable(headWidth: headWidth, positions: 32, theta: 10_000)

  static func weights(_ random: inout SeededRandom, trains: (String) -> Bool = { _ in true })
    -> [Operand]
  {
    func operand(_ name: String, _ shape: [Int], mean: Float = 0) -> Operand {
      Operand(name, randomTensor(shape, &random, scale: 0.3, mean: mean), trains: trains(name))
    }
    return [
      operand("norm1", [width], mean: 1), operand("qkv", [qkvWidth, width]),
      operand("o", [width, heads * headWidth]), operand("norm2", [width], mean: 1),
      operand("gateUp", [2 * hidden, width]), operand("down", [width, hidden]),
      operand("loraA", [2, width]), operand("loraB", [qkvWidth, 2]),
    ]
  }

  static func forward(_ tape: Tape, _ x: Activation, _ w: [Weight]) -> Activation {
    let qWidth = heads * headWidth
    let kWidth = keyValueHeads * headWidth
    let qkv = tape.linear(
      tape.rmsNorm(x, weight: w[0], epsilon: 1e-5), weight: w[1],
      lowRank: LowRankWeights(down: w[6], up: w[7], scale: 2))
    let attended = tape.attention(
      queries: tape.rotary(qkv.columns(0..<qWidth), table: table, layout: layout),
      keys: tape.rotary(qkv.columns(qWidth..<qWidth + kWidth), table: table, layout: layout),
      values: qkv.columns(qWidth + kWidth..<qkvWidth), heads: heads, keyValueHeads: keyValueHeads,
      layout: layout)
    let middle = tape.linear(attended, weight: w[2], residual: x)
    let gateUp = tape.linear(tape.rmsNorm(middle, weight: w[3], epsilon: 1e-5), weight: w[4])
    let gated = tape.gated(
      gate: gateUp.columns(0..<hidden), up: gateUp.columns(hidden..<2 * hidden))
    return tape.linear(gated, weight: w[5], residual: middle)
  }

  static func reference(_ x: [Double], _ w: [[Double]]) -> [Double] {
    let qWidth = heads * headWidth
    let kWidth = keyValueHeads * headWidth
    let normed = Reference.rmsNorm(x, width: width, weight: w[0], epsilon: 1e-5)
    let update = Reference.product(
      Reference.product(normed, w[6], inputs: width, outputs: 2), w[7], inputs: 2,
      outputs: qkvWidth)
    let qkv = Reference.sum(
      Reference.product(normed, w[1], inputs: width, outputs: qkvWidth), update.map { 2 * $0 })
    func turned(_ range: Range<Int>) -> [Double] {
      Reference.rotary(
        Reference.columns(qkv, width: qkvWidth, range), headWidth: headWidth,
        heads: range.count / headWidth, length: length, theta: 10_000, firstPosition: 0)
    }
    let attended = Reference.attention(
      turned(0..<qWidth), turned(qWidth..<qWidth + kWidth),
      Reference.columns(qkv, width: qkvWidth, qWidth + kWidth..<qkvWidth), heads: heads,
      keyValueHeads: keyValueHeads, headWidth: headWidth, length: length, keyLength: length)
    let middle = Reference.sum(
      x, Reference.product(attended, w[2], inputs: qWidth, outputs: width))
    let gateUp = Reference.product(
      Reference.rmsNorm(middle, width: width, weight: w[3], epsilon: 1e-5), w[4], inputs: width,
      outputs: 2 * hidden)
    let gated = Reference.swiGLU(
      gate: Reference.columns(gateUp, width: 2 * hidden, 0..<hidden),
      up: Reference.columns(gateUp, width: 2 * hidden, hidden..<2 * hidden))
    return Reference.sum(middle, Reference.product(gated, w[5], inputs: hidden, outputs: width))
  }
}

@Suite("Tape") struct TapeTests {
  @Test func `a whole block agrees with its reference`() {
    var random = SeededRandom(seed: 1)
    OperationCase(
      "block", inputs: [Operand("x", randomTensor([2 * Block.length, Block.width], &random))],
      weights: Block.weights(&random)
    ) { tape, x, w in
      .matrix(Block.forward(tape, x[0], w))
    } reference: { x, w in
      Block.reference(x[0], w)
    }.check(gradient: 2e-5)
  }

  // MARK: Checkpoints

  /// Three blocks after one another, run by `body(tape, x, one block)`.
  private func threeBlocks(
    inputTrains: Bool = true, trainable: Set<String>? = nil,
    _ apply: @escaping (Tape, Activation, @escaping (Tape, Activation) -> Activation) -> Activation
  ) -> OperationRun {
    var random = SeededRandom(seed: 2)
    let x = Operand(
      "x", randomTensor([2 * Block.length, Block.width], &random), trains: inputTrains)
    let weights = (0..<3).flatMap { _ in Block.weights(&random) { trainable?.contains($0) ?? true }
    }
    let upstream = randomTensor([2 * Block.length, Block.width], &random).scalars
    return OperationRun(inputs: [x], weights: weights, upstream: upstream) { tape, x, w in
      var h = x[0]
      for block in 0..<3 {
        let own = Array(w[block * 8..<block * 8 + 8])
        h = apply(tape, h) { Block.forward($0, $1, own) }
      }
      return .matrix(h)
    }
  }

  private func expectSame(
    _ run: OperationRun, _ plain: OperationRun, sourceLocation: SourceLocation = #_sourceLocation
  ) {
    #expect(run.output == plain.output, sourceLocation: sourceLocation)
    let pairs =
      zip(run.inputGradients, plain.inputGradients).map { $0 }
      + zip(run.weightGradients, plain.weightGradients).map { $0 }
    for (number, pair) in pairs.enumerated() {
      expectClose(
        pair.0, pair.1, within: 1e-6, "gradient \(number)", sourceLocation: sourceLocation)
    }
  }

  @Test func `a checkpoint gives the same values and gradients`() {
    let plain = threeBlocks { $2($0, $1) }
    let checkpointed = threeBlocks { tape, x, block in tape.checkpoint(x, trains: true, block) }
    expectSame(checkpointed, plain)
    #expect(checkpointed.records == 3)
    #expect(plain.records > 3)
  }

  @Test func `checkpoints nest`() {
    let plain = threeBlocks { $2($0, $1) }
    let nested = threeBlocks { tape, x, block in
      tape.checkpoint(x, trains: true) { tape, x in
        tape.checkpoint(x, trains: true) { tape, x in
          tape.checkpoint(x, trains: true, block)
        }
      }
    }
    expectSame(nested, plain)
  }

  @Test func `a checkpoint around several blocks, with checkpoints inside, gives the same`() {
    var random = SeededRandom(seed: 2)
    let x = Operand("x", randomTensor([2 * Block.length, Block.width], &random))
    let weights = (0..<3).flatMap { _ in Block.weights(&random) }
    func run(_ checkpoints: Bool) -> OperationRun {
      OperationRun(inputs: [x], weights: weights) { tape, x, w in
        func all(_ tape: Tape, _ x: Activation) -> Activation {
          (0..<3).reduce(x) { h, block in
            let own = Array(w[block * 8..<block * 8 + 8])
            return checkpoints
              ? tape.checkpoint(h, trains: true) { Block.forward($0, $1, own) }
              : Block.forward(tape, h, own)
          }
        }
        return .matrix(checkpoints ? tape.checkpoint(x[0], trains: true, all) : all(tape, x[0]))
      }
    }
    expectSame(run(true), run(false))
  }

  @Test func `a checkpoint over frozen input, or over frozen weights, gives what trains`() {
    for (input, lora) in [(false, true), (true, false)] {
      let names: Set<String> = lora ? ["loraA", "loraB"] : []
      let plain = threeBlocks(inputTrains: input, trainable: names) { $2($0, $1) }
      let checkpointed = threeBlocks(inputTrains: input, trainable: names) { tape, x, block in
        tape.checkpoint(x, trains: lora, block)
      }
      expectSame(checkpointed, plain)
      let gradients = checkpointed.inputGradients + checkpointed.weightGradients
      #expect(gradients.contains { $0.scalars.contains { $0 != 0 } })
    }
  }

  @Test func `a checkpoint over frozen input and frozen weights leaves no record`() {
    let run = threeBlocks(inputTrains: false, trainable: []) { tape, x, block in
      tape.checkpoint(x, trains: false, block)
    }
    #expect(run.records == 0)
  }

  @Test func `an input used beside its checkpoint collects both gradients`() {
    var random = SeededRandom(seed: 3)
    let x = Operand("x", randomTensor([4, 6], &random))
    let weights = [Operand("w", randomTensor([6, 6], &random))]
    func run(_ checkpoints: Bool) -> OperationRun {
      OperationRun(inputs: [x], weights: weights) { tape, x, w in
        func inner(_ tape: Tape, _ x: Activation) -> Activation {
          tape.activated(tape.linear(x, weight: w[0], residual: x), by: .gelu)
        }
        let h = checkpoints ? tape.checkpoint(x[0], trains: true, inner) : inner(tape, x[0])
        return .matrix(tape.linear(h, weight: w[0], residual: x[0]))
      }
    }
    expectSame(run(true), run(false))
  }

  @Test func `a checkpoint takes and gives ranges of columns`() {
    var random = SeededRandom(seed: 3)
    let x = Operand("x", randomTensor([4, 16], &random))
    func run(_ checkpoints: Bool) -> OperationRun {
      OperationRun(inputs: [x], weights: []) { tape, x, w in
        func inner(_ tape: Tape, _ x: Activation) -> Activation {
          tape.activated(x, by: .gelu).columns(1..<7)
        }
        let part = x[0].columns(3..<12)
        let h = checkpoints ? tape.checkpoint(part, trains: false, inner) : inner(tape, part)
        return .matrix(tape.gated(gate: h, up: x[0].columns(4..<10)))
      }
    }
    expectSame(run(true), run(false))
  }

  // MARK: Frozen parts

  @Test func `a tape without gradients records nothing and gives no slots`() {
    var random = SeededRandom(seed: 4)
    let tape = Tape()
    #expect(!tape.isRecording)
    let x = tape.input(randomTensor([2 * Block.length, Block.width], &random), needsGradient: true)
    #expect(!x.needsGradient)
    let weights = Block.weights(&random).enumerated().map {
      Weight($0.element.tensor, gradientOffset: $0.offset * 1000)
    }
    let y = Block.forward(tape, x, weights)
    #expect(!y.needsGradient)
    #expect(tape.recordCount == 0)
  }

  @Test func `where nothing upstream trains, nothing is recorded`() {
    var random = SeededRandom(seed: 5)
    let x = Operand("x", randomTensor([2 * Block.length, Block.width], &random), trains: false)
    let frozen = OperationRun(
      inputs: [x], weights: Block.weights(&random) { _ in false }
    ) { tape, x, w in
      let y = Block.forward(tape, x[0], w)
      #expect(!y.needsGradient)
      return .matrix(y)
    }
    #expect(frozen.records == 0)
    // Only the last layer trains: it alone is recorded.
    let last = OperationRun(
      inputs: [x], weights: Block.weights(&random) { $0 == "down" }
    ) { tape, x, w in .matrix(Block.forward(tape, x[0], w)) }
    #expect(last.records == 1)
    #expect(last.weightGradients[5].scalars.contains { $0 != 0 })
  }

  @Test func `a low-rank update in the middle records only what lies downstream`() {
    var random = SeededRandom(seed: 6)
    let x = Operand("x", randomTensor([2 * Block.length, Block.width], &random), trains: false)
    let run = OperationRun(
      inputs: [x], weights: Block.weights(&random) { $0.hasPrefix("lora") }
    ) { tape, x, w in .matrix(Block.forward(tape, x[0], w)) }
    // All but the first norm: qkv, two rotaries, attention, o, norm, gate and up, SwiGLU, down.
    #expect(run.records == 9)
    #expect(run.weightGradients[6].scalars.contains { $0 != 0 })
    #expect(run.weightGradients[7].scalars.contains { $0 != 0 })
    #expect(run.inputGradients[0] == Tensor(zeros: x.tensor.shape))
  }

  @Test func `no gradient at an output means none anywhere`() {
    var random = SeededRandom(seed: 7)
    var vector = [Float](repeating: 0, count: 9)
    let weight = randomTensor([3, 3], &random)
    let x = randomTensor([2, 3], &random)
    let gradients = vector.withUnsafeMutableBufferPointer { buffer in
      let tape = Tape(pool: BufferPool(), weightGradients: buffer.baseAddress)
      let input = tape.input(x, needsGradient: true)
      _ = tape.linear(input, weight: Weight(weight, gradientOffset: 0))
      return tape.backward(gradientsOf: [input])
    }
    #expect(gradients[0] == Tensor(zeros: [2, 3]))
    #expect(vector == Array(repeating: 0, count: 9))
  }

  @Test func `gradients of weights are added to what was there`() {
    var random = SeededRandom(seed: 8)
    let x = Operand("x", randomTensor([2 * Block.length, Block.width], &random))
    let weights = Block.weights(&random)
    func run(_ before: Float) -> OperationRun {
      OperationRun(inputs: [x], weights: weights, accumulated: before) { tape, x, w in
        .matrix(Block.forward(tape, x[0], w))
      }
    }
    let (zero, one) = (run(0), run(1))
    for (a, b) in zip(zero.weightGradients, one.weightGradients) {
      expectClose(b, a.map { $0 + 1 }, within: 1e-6, "gradient on top of ones")
    }
  }

  @Test func `seeds at one output add`() {
    var random = SeededRandom(seed: 9)
    let x = randomTensor([3, 5], &random)
    let seed = randomTensor([3, 5], &random)
    var vector: [Float] = [0]
    let gradients = vector.withUnsafeMutableBufferPointer { buffer in
      let tape = Tape(pool: BufferPool(), weightGradients: buffer.baseAddress)
      let input = tape.input(x, needsGradient: true)
      tape.seed(seed, for: input)
      tape.seed(seed, for: input)
      tape.seed(Tensor(repeating: 1, shape: [3, 2]), for: input.columns(1..<3))
      return tape.backward(gradientsOf: [input, input.columns(1..<3)])
    }
    let expected = (0..<15).map { seed.scalars[$0] * 2 + ((1...2).contains($0 % 5) ? 1 : 0) }
    #expect(gradients[0] == Tensor(expected, shape: [3, 5]))
    #expect(gradients[1].shape == [3, 2])
    #expect(gradients[1].scalars[0] == expected[1])
  }

  // MARK: Views

  @Test func `some of the rows, and copied rows are where they should be`() {
    let tape = Tape()
    let x = tape.input(Tensor((0..<12).map { Float($0) }, shape: [3, 4]))
    let part = x.columns(1..<3)
    #expect(part.tensor() == Tensor([1, 2, 5, 6, 9, 10], shape: [3, 2]))
    #expect(part.rows(0..<2).tensor() == Tensor([1, 2, 5, 6], shape: [2, 2]))
    #expect(part.rows(2..<3).tensor() == Tensor([9, 10], shape: [1, 2]))
    let target = tape.input(Tensor(zeros: [4, 2]))
    part.rows(0..<2).copyRows(to: target, at: 1)
    #expect(target.tensor() == Tensor([0, 0, 1, 2, 5, 6, 0, 0], shape: [4, 2]))
  }

  // MARK: Memory

  @Test(arguments: [false, true]) func `equal steps allocate nothing after the first`(
    checkpoints: Bool
  ) {
    var random = SeededRandom(seed: 10)
    let x = Operand("x", randomTensor([2 * Block.length, Block.width], &random))
    let weights = Block.weights(&random)
    let pool = BufferPool()
    var sizes: [Int] = []
    var outputs: [[Double]] = []
    var gradients: [[Tensor]] = []
    for _ in 0..<6 {
      let run = OperationRun(inputs: [x], weights: weights, pool: pool) { tape, x, w in
        .matrix(
          checkpoints
            ? tape.checkpoint(x[0], trains: true) { Block.forward($0, $1, w) }
            : Block.forward(tape, x[0], w))
      }
      sizes.append(pool.usedBytes)
      outputs.append(run.output)
      gradients.append(run.inputGradients + run.weightGradients)
    }
    #expect(sizes[0] > 0)
    #expect(sizes.allSatisfy { $0 == sizes[0] }, "\(sizes)")
    // Used memory gives the same bits as fresh memory.
    #expect(outputs.allSatisfy { $0 == outputs[0] })
    #expect(gradients.allSatisfy { $0 == gradients[0] })
  }

  @Test func `a pool joins free neighbours and fills the smallest gap`() {
    let pool = BufferPool()
    var buffers = [100, 200, 300, 400].map(pool.take)
    let starts = buffers.map(\.pointer)
    let used = pool.usedBytes
    #expect(Set(starts.map { UInt(bitPattern: $0) % 64 }) == [0])
    // 200 and 300 beside each other hold 500; a buffer that is held is not touched.
    buffers.removeSubrange(1...2)
    buffers.append(pool.take(500))
    #expect(buffers[2].pointer == starts[1])
    #expect(pool.usedBytes == used)
    // Of two gaps the smaller is filled.
    buffers = []
    buffers = [100, 200, 100, 60, 100].map(pool.take)
    let gap = buffers[3].pointer
    buffers.remove(at: 3)
    buffers.remove(at: 1)
    buffers.append(pool.take(60))
    #expect(buffers[3].pointer == gap)
    #expect(pool.usedBytes == used)
  }

  @Test func `a checkpoint keeps less than the block itself`() {
    var random = SeededRandom(seed: 11)
    let x = Operand("x", randomTensor([2 * Block.length, Block.width], &random))
    let weights = Block.weights(&random)
    func peak(_ checkpoints: Bool) -> Int {
      let pool = BufferPool()
      _ = OperationRun(inputs: [x], weights: weights, pool: pool) { tape, x, w in
        var h = x[0]
        for _ in 0..<8 {
          h =
            checkpoints
            ? tape.checkpoint(h, trains: true) { Block.forward($0, $1, w) }
            : Block.forward(tape, h, w)
        }
        return .matrix(h)
      }
      return pool.usedBytes
    }
    #expect(peak(true) * 2 < peak(false))
  }
}

@Suite("Not-a-numbers") struct NotANumberTests {
  /// Puts a NaN first and last in each operand in turn, and expects NaN in the output.
  private func check(
    _ name: String, inputs: [Operand], weights: [Operand] = [],
    sourceLocation: SourceLocation = #_sourceLocation,
    _ body: (Tape, [Activation], [Weight]) -> OperationResult
  ) {
    for poisoned in 0..<(inputs.count + weights.count) {
      for position in [0, (inputs + weights)[poisoned].tensor.count - 1] {
        func poison(_ operand: Operand, _ number: Int) -> Operand {
          guard number == poisoned else { return operand }
          var values = operand.tensor.scalars
          values[position] = .nan
          return Operand(operand.name, Tensor(values, shape: operand.tensor.shape))
        }
        let run = OperationRun(
          inputs: inputs.enumerated().map { poison($0.element, $0.offset) },
          weights: weights.enumerated().map { poison($0.element, $0.offset + inputs.count) }, body)
        #expect(
          run.output.contains { $0.isNaN },
          "\(name): NaN in \((inputs + weights)[poisoned].name)[\(position)] does not come out",
          sourceLocation: sourceLocation)
      }
    }
  }

  @Test(arguments: [7, 8, 9, 16, 17, 30])
  func `a NaN anywhere comes out of every operation`(width: Int) {
    var random = SeededRandom(seed: 1)
    let x = Operand("x", randomTensor([3, width], &random))
    let up = Operand("up", randomTensor([3, width], &random))
    let weight = Operand("weight", randomTensor([width], &random))
    let bias = Operand("bias", randomTensor([width], &random))
    let matrix = Operand("matrix", randomTensor([width, width], &random))
    check("rmsNorm", inputs: [x], weights: [weight]) { tape, x, w in
      .matrix(tape.rmsNorm(x[0], weight: w[0], epsilon: 1e-5))
    }
    check("layerNorm", inputs: [x], weights: [weight, bias]) { tape, x, w in
      .matrix(tape.layerNorm(x[0], weight: w[0], bias: w[1], epsilon: 1e-5))
    }
    check("gelu exact", inputs: [x]) { tape, x, _ in .matrix(tape.activated(x[0], by: .gelu)) }
    check("gelu tanh", inputs: [x]) { tape, x, _ in
      .matrix(tape.activated(x[0], by: .tanhGELU))
    }
    check("relu", inputs: [x]) { tape, x, _ in .matrix(tape.relu(x[0])) }
    check("addition", inputs: [x, up]) { tape, x, _ in .matrix(tape.addition(x[0], x[1])) }
    check("swiGLU", inputs: [x, up]) { tape, x, _ in .matrix(tape.gated(gate: x[0], up: x[1])) }
    check("linear", inputs: [x, up], weights: [matrix, bias]) { tape, x, w in
      .matrix(tape.linear(x[0], weight: w[0], bias: w[1], residual: x[1]))
    }
    check("attention", inputs: [x, up, x]) { tape, x, _ in
      .matrix(
        tape.attention(
          queries: x[0], keys: x[1], values: x[2], heads: 1, keyValueHeads: 1,
          layout: SequenceLayout(lengths: [3])))
    }
    let prefix = Operand("prefix", randomTensor([5, width], &random))
    check("attention with a prefix", inputs: [x], weights: [prefix, prefix]) { tape, x, w in
      .matrix(
        tape.attention(
          queries: x[0], keys: x[0], values: x[0], heads: 1, keyValueHeads: 1,
          layout: SequenceLayout(lengths: [3]),
          prefix: KeyValuePrefixWeights(keys: w[0], values: w[1])))
    }
    let targets: [Int32] = [0, -1, 2]
    check("cross-entropy", inputs: [x], weights: [matrix]) { tape, x, w in
      .loss(
        targets.withUnsafeBufferPointer {
          tape.linearCrossEntropy(x[0], weight: w[0], targets: $0, scale: 1)
        }.sum)
    }
  }

  @Test func `tiny values do not become NaN`() {
    var random = SeededRandom(seed: 2)
    for scale in [1e-20, 1e-30, 1e-38, 0] as [Float] {
      let x = Operand("x", randomTensor([3, 12], &random, scale: scale))
      let weight = Operand("weight", Tensor(repeating: 1, shape: [12]))
      let run = OperationRun(inputs: [x], weights: [weight, weight]) { tape, x, w in
        let normed = tape.rmsNorm(x[0], weight: w[0], epsilon: 1e-6)
        let shifted = tape.layerNorm(x[0], weight: w[0], bias: w[1], epsilon: 1e-6)
        let gated = tape.gated(gate: normed, up: tape.activated(shifted, by: .tanhGELU))
        return .matrix(
          tape.attention(
            queries: gated, keys: gated, values: gated, heads: 2, keyValueHeads: 2,
            layout: SequenceLayout(lengths: [3])))
      }
      #expect(run.output.allSatisfy { $0.isFinite })
      #expect(run.inputGradients[0].isFinite)
      #expect(run.weightGradients.allSatisfy { $0.isFinite })
    }
  }

  @Test func `rows too large to square become zero, as in PyTorch`() {
    let run = OperationRun(
      inputs: [Operand("x", Tensor(repeating: 1e30, shape: [1, 9]))],
      weights: [Operand("weight", Tensor(repeating: 1, shape: [9]))]
    ) { tape, x, w in .matrix(tape.rmsNorm(x[0], weight: w[0], epsilon: 1e-5)) }
    #expect(run.output.allSatisfy { $0 == 0 })
    #expect(run.inputGradients[0].isFinite)
  }
}
