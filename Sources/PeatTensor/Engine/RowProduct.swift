import CPeatHints

/// Products of a few rows with a weight, as in generation: bound by the memory that the weight is read from.
///
/// The outputs are divided among a team's threads. Each output is summed by one thread, in an order that depends on
/// neither the division nor the other rows, so the bits are the same for any number of threads.
enum RowProduct {
  /// Up to so many rows reading the weight row by row pays without a team.
  static let mostRows = 4
  /// And with one, which panels are not divided among.
  static let mostTeamRows = 16

  /// out (+)= x · Wᵀ, or x · W in the layout `inputsByOutputs`.
  ///
  /// - Parameters:
  ///   - x: `[rows, inputs]`.
  ///   - out: `[rows, outputs]`, contiguous.
  ///   - adds: whether `out` holds something to add to.
  static func compute(
    _ x: Activation, _ weight: Weight, _ layout: WeightLayout, out: FloatPointer, adds: Bool,
    team: ThreadTeam? = nil
  ) {
    let outputs = weight.shape[layout == .outputsByInputs ? 0 : 1]
    let layout = weight.storedLayout(layout)
    let threads = team?.count ?? 1
    let part =
      layout == .outputsByInputs
      ? rowsOfPart(outputs: outputs, inputs: x.columns, threads: threads)
      : columnsOfPart(outputs: outputs, threads: threads)
    func compute(_ number: Int) {
      let range = number * part..<min((number + 1) * part, outputs)
      if !adds {
        for row in 0..<x.rows {
          (out + (row * outputs + range.lowerBound)).update(repeating: 0, count: range.count)
        }
      }
      // Rows two by two: the second pair finds the weights in a near cache.
      var row = 0
      while row < x.rows {
        let task = Task(
          x: x.pointer + row * x.stride, xStride: x.stride, inputs: x.columns, outputs: range,
          out: out + row * outputs, outStride: outputs)
        switch (layout, x.rows - row) {
        case (.outputsByInputs, 1): weight.accept(Dots<OneRow>(task: task))
        case (.outputsByInputs, _): weight.accept(Dots<TwoRows>(task: task))
        case (.inputsByOutputs, 1): weight.accept(Sums<OneRow>(task: task))
        case (.inputsByOutputs, _): weight.accept(Sums<TwoRows>(task: task))
        }
        row += 2
      }
    }
    let parts = (outputs + part - 1) / part
    if let team {
      team.run(parts, compute)
    } else {
      for number in 0..<parts { compute(number) }
    }
  }

  /// Rows of W for one thread at a time: some for each, and none so large that a second pass would read memory again.
  private static func rowsOfPart(outputs: Int, inputs: Int, threads: Int) -> Int {
    let least = max(1, 32_768 / max(inputs, 1))
    let most = max(1, 262_144 / max(inputs, 1))
    return min(max(outputs / (8 * threads), least), most)
  }

  /// Columns of W for one thread at a time: whole lines of the cache, in long runs.
  private static func columnsOfPart(outputs: Int, threads: Int) -> Int {
    let line = 128
    let wanted = threads == 1 ? 512 : outputs / (3 * threads)
    return min(max(wanted / line, 1), 4) * line
  }

  /// What one thread computes of a product.
  private struct Task {
    let x: FloatPointer
    let xStride: Int
    let inputs: Int
    let outputs: Range<Int>
    let out: FloatPointer
    let outStride: Int
  }

  /// How far ahead memory is asked for, in bytes.
  private static let reach = 2048

  /// out[j] += x · row j.
  private struct Dots<Rows: RowSums>: MatrixVisitor {
    let task: Task

    func visit<Matrix: MatrixReader>(_ matrix: Matrix) {
      let width = task.inputs
      let stride = task.xStride
      let lines = max(1, FourVectors.width &* Matrix.valueBits / 8 / LineWalk.lineBytes)
      for j in task.outputs {
        var s0 = Rows()
        var s1 = Rows()
        var s2 = Rows()
        var s3 = Rows()
        var k = 0
        var ahead = matrix.address(j, 0) + RowProduct.reach
        while k &+ FourVectors.width <= width {
          for line in 0..<lines { peat_prefetch(ahead + line &* LineWalk.lineBytes) }
          ahead += FourVectors.width &* Matrix.valueBits / 8
          let x = task.x + k
          let values = matrix.unscaled(j, k)
          if Matrix.isScaled {
            var first = Rows()
            first.addProduct(x, stride, values.v0)
            first.addProduct(x + lanes, stride, values.v1)
            s0.add(first, times: broadcast(matrix.scale(j, k)))
            var second = Rows()
            second.addProduct(x + 2 &* lanes, stride, values.v2)
            second.addProduct(x + 3 &* lanes, stride, values.v3)
            s1.add(second, times: broadcast(matrix.scale(j, k &+ 2 &* lanes)))
          } else {
            s0.addProduct(x, stride, values.v0)
            s1.addProduct(x + lanes, stride, values.v1)
            s2.addProduct(x + 2 &* lanes, stride, values.v2)
            s3.addProduct(x + 3 &* lanes, stride, values.v3)
          }
          k &+= FourVectors.width
        }
        while k < width {
          s2.addProduct(task.x + k, stride, matrix.vector(j, k), first: min(lanes, width &- k))
          k &+= lanes
        }
        s0.add(s1)
        s2.add(s3)
        s0.add(s2)
        s0.addLaneSums(to: task.out + j, task.outStride)
      }
    }
  }

  /// out += Σ x[k] · row k, for some of the columns.
  private struct Sums<Rows: RowSums>: MatrixVisitor {
    let task: Task

    func visit<Matrix: MatrixReader>(_ matrix: Matrix) {
      let columns = task.outputs
      let whole = columns.lowerBound + columns.count / FourVectors.width * FourVectors.width
      // No scaled storage lies so.
      if !Matrix.isScaled { sumRows(matrix, columns.lowerBound..<whole) }
      sumColumns(matrix, (Matrix.isScaled ? columns.lowerBound : whole)..<columns.upperBound)
    }

    /// Eight rows at a time, each over all the columns: long runs of memory.
    private func sumRows(_ matrix: some MatrixReader, _ columns: Range<Int>) {
      var k = 0
      while k &+ 8 <= task.inputs {
        sumRows(matrix, columns, firstRow: k, count: 8)
        k &+= 8
      }
      while k < task.inputs {
        sumRows(matrix, columns, firstRow: k, count: 1)
        k &+= 1
      }
    }

    @inline(__always) private func sumRows<Matrix: MatrixReader>(
      _ matrix: Matrix, _ columns: Range<Int>, firstRow: Int, count: Int
    ) {
      let stride = task.xStride
      let lines = max(1, FourVectors.width &* Matrix.valueBits / 8 / LineWalk.lineBytes)
      let x = task.x + firstRow
      var column = columns.lowerBound
      while column < columns.upperBound {
        let place = task.out + column
        var s0 = Rows(at: place, task.outStride)
        var s1 = Rows(at: place + lanes, task.outStride)
        var s2 = Rows(at: place + 2 &* lanes, task.outStride)
        var s3 = Rows(at: place + 3 &* lanes, task.outStride)
        for i in 0..<count {
          let ahead = matrix.address(firstRow &+ count &+ i, column)
          for line in 0..<lines { peat_prefetch(ahead + line &* LineWalk.lineBytes) }
          let values = matrix.unscaled(firstRow &+ i, column)
          s0.addMultiple(x + i, stride, values.v0)
          s1.addMultiple(x + i, stride, values.v1)
          s2.addMultiple(x + i, stride, values.v2)
          s3.addMultiple(x + i, stride, values.v3)
        }
        s0.store(at: place, task.outStride)
        s1.store(at: place + lanes, task.outStride)
        s2.store(at: place + 2 &* lanes, task.outStride)
        s3.store(at: place + 3 &* lanes, task.outStride)
        column &+= FourVectors.width
      }
    }

    /// A register of columns at a time, for what is left at the end.
    private func sumColumns(_ matrix: some MatrixReader, _ columns: Range<Int>) {
      var column = columns.lowerBound
      while column < columns.upperBound {
        let count = min(lanes, columns.upperBound &- column)
        var sums = Rows()
        for k in 0..<task.inputs {
          sums.addMultiple(task.x + k, task.xStride, matrix.vector(k, column))
        }
        sums.add(to: task.out + column, task.outStride, first: count)
        column &+= lanes
      }
    }
  }
}

/// A register of sums for each of some rows that are multiplied with the same weights.
private protocol RowSums {
  /// Zero.
  init()
  init(at place: FloatPointer, _ stride: Int)
  func store(at place: FloatPointer, _ stride: Int)
  /// Σ + x ∘ v, x a register of each row.
  mutating func addProduct(_ x: FloatPointer, _ stride: Int, _ v: Vector)
  /// The same with only some of a register's values.
  mutating func addProduct(_ x: FloatPointer, _ stride: Int, _ v: Vector, first count: Int)
  /// Σ + x · v, x one value of each row.
  mutating func addMultiple(_ x: FloatPointer, _ stride: Int, _ v: Vector)
  mutating func add(_ other: Self)
  mutating func add(_ other: Self, times factors: Vector)
  /// Adds the sum over each register to one value of each row.
  func addLaneSums(to place: FloatPointer, _ stride: Int)
  /// Adds the first values of each register to each row.
  func add(to place: FloatPointer, _ stride: Int, first count: Int)
}

private struct OneRow: RowSums {
  private var a = Vector.zero

  @inline(__always) init() {}
  @inline(__always) init(at place: FloatPointer, _ stride: Int) { a = load(place) }
  @inline(__always) func store(at place: FloatPointer, _ stride: Int) {
    PeatTensor.store(a, place)
  }
  @inline(__always) mutating func addProduct(_ x: FloatPointer, _ stride: Int, _ v: Vector) {
    a = fma(load(x), v, a)
  }
  @inline(__always) mutating func addProduct(
    _ x: FloatPointer, _ stride: Int, _ v: Vector, first count: Int
  ) {
    a = fma(load(x, first: count, fill: 0), v, a)
  }
  @inline(__always) mutating func addMultiple(_ x: FloatPointer, _ stride: Int, _ v: Vector) {
    a = fma(broadcast(x[0]), v, a)
  }
  @inline(__always) mutating func add(_ other: OneRow) { a += other.a }
  @inline(__always) mutating func add(_ other: OneRow, times factors: Vector) {
    a = fma(factors, other.a, a)
  }
  @inline(__always) func addLaneSums(to place: FloatPointer, _ stride: Int) {
    place[0] += laneSum(a)
  }
  @inline(__always) func add(to place: FloatPointer, _ stride: Int, first count: Int) {
    PeatTensor.store(load(place, first: count, fill: 0) + a, place, first: count)
  }
}

private struct TwoRows: RowSums {
  private var a: OneRow
  private var b: OneRow

  @inline(__always) init() { (a, b) = (OneRow(), OneRow()) }
  @inline(__always) init(at place: FloatPointer, _ stride: Int) {
    a = OneRow(at: place, stride)
    b = OneRow(at: place + stride, stride)
  }
  @inline(__always) func store(at place: FloatPointer, _ stride: Int) {
    a.store(at: place, stride)
    b.store(at: place + stride, stride)
  }
  @inline(__always) mutating func addProduct(_ x: FloatPointer, _ stride: Int, _ v: Vector) {
    a.addProduct(x, stride, v)
    b.addProduct(x + stride, stride, v)
  }
  @inline(__always) mutating func addProduct(
    _ x: FloatPointer, _ stride: Int, _ v: Vector, first count: Int
  ) {
    a.addProduct(x, stride, v, first: count)
    b.addProduct(x + stride, stride, v, first: count)
  }
  @inline(__always) mutating func addMultiple(_ x: FloatPointer, _ stride: Int, _ v: Vector) {
    a.addMultiple(x, stride, v)
    b.addMultiple(x + stride, stride, v)
  }
  @inline(__always) mutating func add(_ other: TwoRows) {
    a.add(other.a)
    b.add(other.b)
  }
  @inline(__always) mutating func add(_ other: TwoRows, times factors: Vector) {
    a.add(other.a, times: factors)
    b.add(other.b, times: factors)
  }
  @inline(__always) func addLaneSums(to place: FloatPointer, _ stride: Int) {
    a.addLaneSums(to: place, stride)
    b.addLaneSums(to: place + stride, stride)
  }
  @inline(__always) func add(to place: FloatPointer, _ stride: Int, first count: Int) {
    a.add(to: place, stride, first: count)
    b.add(to: place + stride, stride, first: count)
  }
}
