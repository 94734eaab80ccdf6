import CPeatHints

/// Lines of the cache that will be needed, asked for one by one while something else is computed.
struct LineWalk {
  static let lineBytes = 64

  private var place: UnsafeRawPointer?
  /// Lines left in this row, and in the rows after it.
  private var left: Int
  private var rowsLeft: Int
  private let lines: Int
  /// From a row's last line to the next row's first, in bytes.
  private let leap: Int

  /// - Parameters:
  ///   - rows: how many rows.
  ///   - lines: lines of each.
  ///   - stride: from one row to the next, in bytes.
  init(from place: UnsafeRawPointer, rows: Int, lines: Int, stride: Int) {
    self.place = rows > 0 && lines > 0 ? place : nil
    self.lines = lines
    left = lines
    rowsLeft = rows - 1
    leap = stride - (lines - 1) * Self.lineBytes
  }

  private init() {
    place = nil
    (left, rowsLeft, lines, leap) = (0, 0, 0, 0)
  }

  /// Nothing.
  static var none: LineWalk { LineWalk() }

  /// Asks for the next line.
  @inline(__always) mutating func step() {
    guard let line = place else { return }
    peat_prefetch(line)
    left &-= 1
    if left > 0 {
      place = line + Self.lineBytes
    } else if rowsLeft > 0 {
      (left, rowsLeft) = (lines, rowsLeft &- 1)
      place = line + leap
    } else {
      place = nil
    }
  }
}
