import Synchronization

/// Cosines and sines of a rotary embedding for positions 0, 1, 2, …
///
/// Pair i of a head turns by t times its frequency at position t.
///
/// Source: Su et al. 2021, <https://arxiv.org/abs/2104.09864>; the halves convention of transformers
/// (`rotate_half`): of the R values that turn value i is paired with value i + R/2. The others stay.
public final class RotaryTable: @unchecked Sendable {  // written only in init
  public let headWidth: Int
  public let positions: Int
  /// R/2.
  let half: Int
  /// `[positions, R/2]`.
  let cosines: Tensor
  let sines: Tensor

  public init(_ embedding: RotaryEmbedding, positions: Int) {
    self.positions = positions
    headWidth = embedding.headWidth
    let frequencies = embedding.frequencies
    half = frequencies.count
    cosines = Tensor(uninitialized: [positions, half])
    sines = Tensor(uninitialized: [positions, half])
    for (i, frequency) in frequencies.enumerated() {
      for t in 0..<positions {
        // transformers computes the angle in float32; so do we, to agree at long positions.
        let angle = Float(t) * frequency
        cosines.pointer[t * half + i] = cosine(angle) * embedding.scale
        sines.pointer[t * half + i] = sine(angle) * embedding.scale
      }
    }
  }

  public convenience init(headWidth: Int, positions: Int, theta: Double) {
    self.init(RotaryEmbedding(headWidth: headWidth, theta: theta), positions: positions)
  }
}

extension Tape {
  /// Turns queries or keys by their position, in place.
  ///
  /// Equal, per head, to `x · cos + rotate_half(x) · sin`.
  ///
  /// `N` tokens, `H` heads of width `D`.
  ///
  /// - Parameters:
  ///   - x: `[N, H·D]`, sequence by sequence. Its memory is changed; use only the result afterwards.
  ///   - layout: how the rows divide into sequences.
  /// - Returns: `[N, H·D]`, in the memory of `x`.
  public func rotary(
    _ x: Activation, table: RotaryTable, layout: SequenceLayout
  ) -> Activation {
    profile?.enter(.elementwise)
    defer { profile?.leave() }
    precondition(
      x.columns % table.headWidth == 0, "rotary: \(x.columns) columns, heads of \(table.headWidth)")
    precondition(
      x.rows == layout.count && layout.positions <= table.positions,
      "rotary: \(x.rows) rows for \(layout.count), position \(layout.positions) of \(table.positions)"
    )
    let record = RotaryRecord(x: x, table: table, layout: layout)
    record.turn(x.pointer, sign: 1)
    if x.needsGradient { self.record(.rotary(record)) }
    return x
  }
}

struct RotaryRecord {
  let x: Activation
  let table: RotaryTable
  let layout: SequenceLayout

  // A rotation's transpose is the rotation by the opposite angle.
  func backward(_ tape: Tape) {
    guard let gradient = tape.peekGradient(of: x) else { return }
    turn(gradient.pointer + x.offset, sign: -1)
  }

  func turn(_ values: FloatPointer, sign: Float) {
    let width = table.headWidth
    let half = table.half
    let heads = x.columns / width
    for piece in layout.pieces {
      for row in 0..<piece.count {
        let position = piece.position + row
        let cosines = table.cosines.pointer + position * half
        let sines = table.sines.pointer + position * half
        for head in 0..<heads {
          turn(
            values + ((piece.row + row) * x.stride + head * width), half, cosines, sines, sign)
        }
      }
    }
  }

  /// One head of one row.
  @inline(__always) private func turn(
    _ first: FloatPointer, _ half: Int, _ cosines: FloatPointer, _ sines: FloatPointer,
    _ sign: Float
  ) {
    let second = first + half
    var i = 0
    while i &+ lanes <= half {
      let a = load(first + i)
      let b = load(second + i)
      let c = load(cosines + i)
      let s = load(sines + i) * sign
      store(a * c - b * s, first + i)
      store(b * c + a * s, second + i)
      i &+= lanes
    }
    while i < half {
      let a = first[i]
      let b = second[i]
      let s = sines[i] * sign
      first[i] = a * cosines[i] - b * s
      second[i] = b * cosines[i] + a * s
      i &+= 1
    }
  }
}

extension RotaryTable {
  private struct Key: Hashable {
    let embedding: RotaryEmbedding
    let positions: Int
  }

  private static let tables = LockedTables()

  /// The table for these sizes, made once per process: models of one process share it.
  public static func shared(_ embedding: RotaryEmbedding, positions: Int) -> RotaryTable {
    tables.table(Key(embedding: embedding, positions: positions)) {
      RotaryTable(embedding, positions: positions)
    }
  }

  private final class LockedTables: Sendable {
    private let tables = Mutex<[Key: RotaryTable]>([:])

    func table(_ key: Key, _ make: () -> RotaryTable) -> RotaryTable {
      tables.withLock { tables in
        if let table = tables[key] { return table }
        let table = make()
        tables[key] = table
        return table
      }
    }
  }
}
