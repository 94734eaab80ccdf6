/// A piece of memory that returns to its pool when nobody holds it any more.
package final class Buffer {
  let pointer: FloatPointer
  let capacity: Int
  /// The buffer that this one is a piece of.
  private let whole: Buffer?

  fileprivate init(capacity: Int) {
    self.capacity = capacity
    whole = nil
    // 64 bytes: a cache line, and every vector width.
    let raw = UnsafeMutableRawPointer.allocate(
      byteCount: capacity * MemoryLayout<Float>.stride, alignment: 64)
    pointer = raw.bindMemory(to: Float.self, capacity: capacity)
  }

  fileprivate init(_ whole: Buffer, offset: Int, capacity: Int) {
    self.capacity = capacity
    self.whole = whole
    pointer = whole.pointer + offset
  }

  deinit { if whole == nil { UnsafeMutableRawPointer(pointer).deallocate() } }
}

/// Reuses buffers: after the first step of a training loop nothing is allocated, and with texts of varying length little
/// after the longest.
///
/// A buffer is free when only the pool refers to it, so ARC is the whole bookkeeping. One pool per worker; it is
/// not shared between threads. Sizes are rounded up to eighths of a power of two; a request takes the smallest free buffer
/// of up to a quarter more than its size in the first step, which shows what sizes there are, and of up to half more later,
/// when a batch may be smaller. Pages that are not touched cost no memory.
package final class BufferPool {
  private struct Shelf {
    let capacity: Int
    var buffers: [Buffer] = []
    var next = 0

    /// A buffer that nobody else holds.
    mutating func free() -> Buffer? {
      for _ in 0..<buffers.count {
        let index = next
        next = index + 1 == buffers.count ? 0 : index + 1
        if isKnownUniquelyReferenced(&buffers[index]) { return buffers[index] }
      }
      return nil
    }
  }

  /// A large buffer that is not needed for a while, and what was cut from it.
  private struct Loan {
    let buffer: Buffer
    var used = 0
    var pieces: [Buffer] = []

    mutating func take(_ capacity: Int, atMost limit: Int) -> Buffer? {
      for index in pieces.indices where (capacity...limit).contains(pieces[index].capacity) {
        if isKnownUniquelyReferenced(&pieces[index]) { return pieces[index] }
      }
      guard used + capacity <= buffer.capacity else { return nil }
      let piece = Buffer(buffer, offset: used, capacity: capacity)
      // Pieces begin at a line of the cache, as buffers do.
      used += (capacity + 15) / 16 * 16
      pieces.append(piece)
      return piece
    }
  }

  private var loan: Loan?
  private var hasSeenAStep = false

  /// By capacity, the smallest first.
  private var shelves: [Shelf] = []
  package private(set) var allocatedBytes = 0

  package init() {}

  /// Memory for `count` floats with undefined content.
  func take(_ count: Int) -> Buffer {
    let capacity = BufferPool.capacity(for: count)
    let first = shelf(from: capacity)
    var index = first
    let limit = capacity + capacity / (hasSeenAStep ? 2 : 4)
    while index < shelves.count, shelves[index].capacity <= limit {
      if let buffer = shelves[index].free() { return buffer }
      index += 1
    }
    if let piece = loan?.take(capacity, atMost: limit) { return piece }
    let buffer = Buffer(capacity: capacity)
    allocatedBytes += capacity * MemoryLayout<Float>.stride
    if first == shelves.count || shelves[first].capacity != capacity {
      shelves.insert(Shelf(capacity: capacity), at: first)
    }
    shelves[first].buffers.append(buffer)
    return buffer
  }

  /// Cuts memory that would be new from a buffer of this pool instead, until the loan ends. Pieces that somebody still holds
  /// then keep the buffer from being used again.
  func lend(_ buffer: Buffer) { loan = Loan(buffer: buffer) }

  /// At the end of a step's backward pass.
  func endLoan() {
    loan = nil
    hasSeenAStep = true
  }

  /// The first shelf of at least this capacity.
  private func shelf(from capacity: Int) -> Int {
    var (low, high) = (0, shelves.count)
    while low < high {
      let middle = (low + high) / 2
      if shelves[middle].capacity < capacity { low = middle + 1 } else { high = middle }
    }
    return low
  }

  /// Gives memory that is not in use back to the system.
  package func trim() {
    for number in shelves.indices {
      var kept: [Buffer] = []
      for index in shelves[number].buffers.indices {
        if isKnownUniquelyReferenced(&shelves[number].buffers[index]) {
          allocatedBytes -= shelves[number].capacity * MemoryLayout<Float>.stride
        } else {
          kept.append(shelves[number].buffers[index])
        }
      }
      shelves[number].buffers = kept
      shelves[number].next = 0
    }
    shelves.removeAll { $0.buffers.isEmpty }
  }

  /// `count` rounded up to a multiple of 1/8 of the power of two at or below it, at least 64.
  static func capacity(for count: Int) -> Int {
    if count <= 64 { return 64 }
    let power = Int.bitWidth - 1 - count.leadingZeroBitCount
    let unit = 1 << max(power - 3, 3)
    return (count + unit - 1) / unit * unit
  }
}
