import PeatTensor
import TestSupport
import Testing

/// Products of a few rows, shared by a team.
@Suite("RowProduct") struct RowProductTests {
  private struct Case {
    let x: Tensor
    let weight: Weight
    /// What the weight holds, as floats.
    let values: Tensor
    let layout: WeightLayout
    let bias: Tensor
    let residual: Tensor

    init(
      rows: Int, inputs: Int, outputs: Int, layout: WeightLayout, storage: WeightStorage
    ) {
      var random = SeededRandom(seed: 7, "\(rows) \(inputs) \(outputs) \(storage)")
      let shape = layout == .outputsByInputs ? [outputs, inputs] : [inputs, outputs]
      let matrix = Self.uniform(shape, &random)
      self.layout = layout
      x = Self.uniform([rows, inputs], &random)
      bias = Self.uniform([outputs], &random)
      residual = Self.uniform([rows, outputs], &random)
      if storage == .float32 {
        weight = Weight(matrix)
        values = matrix
      } else {
        let packed = PackedMatrix(
          matrix, as: storage, axis: layout == .outputsByInputs ? 1 : 0)
        weight = Weight(packed)
        values = packed.unpacked()
      }
    }

    private static func uniform(_ shape: [Int], _ random: inout SeededRandom) -> Tensor {
      let count = shape.reduce(1, *)
      return Tensor((0..<count).map { _ in 2 * Float(random.uniform()) - 1 }, shape: shape)
    }

    func result(team: ThreadTeam?, adds: Bool = false) -> Tensor {
      let tape = Tape()
      tape.team = team
      return tape.linear(
        tape.input(x), weight: weight, layout: layout, bias: adds ? Weight(bias) : nil,
        residual: adds ? tape.input(residual) : nil
      ).tensor()
    }

    /// The sums as they stand in the textbook, in double precision.
    func expected(adds: Bool = false) -> [Double] {
      let (rows, inputs) = (x.shape[0], x.shape[1])
      let outputs = bias.shape[0]
      let (a, w) = (x.scalars, values.scalars)
      var result: [Double] = []
      for row in 0..<rows {
        for j in 0..<outputs {
          var sum = adds ? Double(bias.scalars[j]) + Double(residual.scalars[row * outputs + j]) : 0
          for k in 0..<inputs {
            let place = layout == .outputsByInputs ? j * inputs + k : k * outputs + j
            sum += Double(a[row * inputs + k]) * Double(w[place])
          }
          result.append(sum)
        }
      }
      return result
    }
  }

  private static let layouts: [WeightLayout] = [.outputsByInputs, .inputsByOutputs]

  @Test(arguments: WeightStorage.allCases)
  func `products of ragged sizes are plain sums`(storage: WeightStorage) {
    let team = ThreadTeam(count: 2)
    for layout in Self.layouts {
      for (inputs, outputs) in [
        (1, 1), (7, 5), (31, 16), (32, 64), (33, 65), (64, 63), (100, 130), (259, 300), (129, 515),
      ] {
        for rows in [1, 2, 3, 4, 5, 16] {
          let one = Case(
            rows: rows, inputs: inputs, outputs: outputs, layout: layout, storage: storage)
          let what = "\(storage) \(layout) [\(rows), \(inputs)] → \(outputs)"
          expectClose(one.result(team: team), one.expected(), within: 2e-5, what)
          expectClose(
            one.result(team: team, adds: true), one.expected(adds: true), within: 2e-5, what)
        }
      }
    }
  }

  @Test(arguments: WeightStorage.allCases)
  func `many rows are divided, with the same bits`(storage: WeightStorage) {
    let teams = [2, 3, 7].map { ThreadTeam(count: $0) }
    for layout in Self.layouts {
      for rows in [17, 40, 49, 101] {
        let one = Case(rows: rows, inputs: 200, outputs: 333, layout: layout, storage: storage)
        let expected = one.result(team: nil, adds: true)
        expectClose(expected, one.expected(adds: true), within: 2e-5, "\(rows) rows")
        for team in teams {
          #expect(
            one.result(team: team, adds: true).hasSameBits(as: expected),
            "\(storage) \(layout), \(rows) rows, \(team.count) threads")
        }
      }
    }
  }

  @Test(arguments: WeightStorage.allCases)
  func `the bits are the same for any number of threads, and for a row alone`(
    storage: WeightStorage
  ) {
    let teams = [1, 2, 3, 4, 9].map { ThreadTeam(count: $0) }
    for layout in Self.layouts {
      for rows in 1...5 {
        let one = Case(rows: rows, inputs: 331, outputs: 1501, layout: layout, storage: storage)
        let expected = one.result(team: teams[0])
        for team in teams {
          for _ in 0..<3 {
            #expect(
              one.result(team: team).hasSameBits(as: expected),
              "\(storage) \(layout), \(rows) rows, \(team.count) threads")
          }
        }
        if rows <= 4 { #expect(one.result(team: nil).hasSameBits(as: expected)) }
        let tape = Tape()
        tape.team = teams[0]
        let last = tape.linear(
          tape.input(one.x).rows(rows - 1..<rows), weight: one.weight, layout: layout)
        #expect(last.tensor().scalars == Array(expected.scalars.suffix(1501)))
      }
    }
  }
}

@Suite("ThreadTeam") struct ThreadTeamTests {
  /// Counts how often each piece was done; pieces are done by one thread each.
  private final class Counts: @unchecked Sendable {
    let values: UnsafeMutableBufferPointer<Int>
    init(_ count: Int) {
      values = .allocate(capacity: count)
      values.initialize(repeating: 0)
    }
    deinit { values.deallocate() }
  }

  @Test(arguments: [1, 2, 3, 17]) func `every piece is done once`(threads: Int) {
    let team = ThreadTeam(count: threads)
    let counts = Counts(1000)
    for round in 1...300 {
      let pieces = round * 7 % 1000
      for piece in 0..<1000 { counts.values[piece] = 0 }
      team.run(pieces) { counts.values[$0] += 1 }
      #expect(counts.values.prefix(pieces).allSatisfy { $0 == 1 })
      #expect(counts.values.dropFirst(pieces).allSatisfy { $0 == 0 })
    }
  }

  @Test func `threads that went to sleep are woken`() async throws {
    let team = ThreadTeam(count: 3)
    let counts = Counts(64)
    for round in 1...20 {
      try await Task.sleep(for: .milliseconds(round % 5))
      team.run(64) { counts.values[$0] += 1 }
      #expect(counts.values.allSatisfy { $0 == round })
    }
  }

  #if os(Linux)
    @Test func `threads end with their team`() throws {
      for round in 0..<500 {
        let team = ThreadTeam(count: 5)
        if round % 2 == 0 { team.run(8) { _ in } }
      }
      // 2000 if they stayed; other tests have some meanwhile.
      #expect(try ThreadCount.current() < 1000)
    }
  #endif
}
