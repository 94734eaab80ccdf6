/// A piece of a pool's memory, which is free again when nobody holds it any more.
package final class Buffer {
  package fileprivate(set) var pointer: FloatPointer
  /// How many floats there are.
  fileprivate var capacity: Int
  private let region: Region

  fileprivate init(_ region: Region, offset: Int, capacity: Int) {
    self.region = region
    self.capacity = capacity
    pointer = region.pointer + offset
  }

  /// The same object for another piece of its region.
  fileprivate func move(to offset: Int, capacity: Int) {
    self.capacity = capacity
    pointer = region.pointer + offset
  }
}

/// The memory of one worker's activations: buffers are cut from one large region, and free neighbours become one.
///
/// A step therefore takes what its buffers take at its fullest moment and little more, whatever their sizes, and a step with
/// a smaller batch takes no more than that. After the first step of a training loop nothing is allocated; with texts
/// of varying length, nothing after the longest.
///
/// A buffer is free when only the pool refers to it, so ARC is the whole bookkeeping. A pool is not shared between threads.
package final class BufferPool {
  /// A region and its buffers, by place, that are in use or were when somebody last looked.
  private struct Shelf {
    let region: Region
    var buffers: [Buffer] = []
    /// Objects of buffers that were given back: a step makes no new ones.
    var spares: [Buffer] = []
    /// Floats at the beginning that were ever part of a buffer.
    var used = 0

    init(region: Region) { self.region = region }

    /// The smallest gap of at least `capacity` floats, if there is one. Buffers that nobody holds any more become spares on
    /// the way.
    mutating func take(_ capacity: Int) -> Buffer? {
      var best: (offset: Int, index: Int, size: Int)?
      var (end, kept) = (0, 0)
      func consider(_ size: Int) {
        if size >= capacity, best.map({ size < $0.size }) ?? true { best = (end, kept, size) }
      }
      for index in buffers.indices {
        if isKnownUniquelyReferenced(&buffers[index]) {
          spares.append(buffers[index])
          continue
        }
        let offset = buffers[index].pointer - region.pointer
        consider(offset - end)
        end = offset + buffers[index].capacity
        if kept < index { buffers.swapAt(kept, index) }
        kept += 1
      }
      buffers.removeLast(buffers.count - kept)
      consider(region.capacity - end)
      return best.map { place(capacity, at: $0.offset, before: $0.index) }
    }

    mutating func place(_ capacity: Int, at offset: Int, before index: Int) -> Buffer {
      let buffer = spares.popLast() ?? Buffer(region, offset: offset, capacity: capacity)
      buffer.move(to: offset, capacity: capacity)
      buffers.insert(buffer, at: index)
      used = max(used, offset + capacity)
      return buffer
    }
  }

  private var shelves: [Shelf] = []

  /// Memory that was ever in use, in bytes.
  package var usedBytes: Int { shelves.reduce(0) { $0 + $1.used } * MemoryLayout<Float>.stride }

  package init() {}

  /// Gives all memory back to the system, but for what somebody still holds.
  package func release() { shelves = [] }

  /// Memory for `count` floats with undefined content: in the first region that has room, so that equal steps find
  /// everything in its place.
  package func take(_ count: Int) -> Buffer {
    // Buffers begin at a line of the cache.
    let capacity = (max(count, 1) + 15) / 16 * 16
    for number in shelves.indices {
      if let buffer = shelves[number].take(capacity) { return buffer }
    }
    let total = shelves.reduce(0) { $0 + $1.region.capacity }
    shelves.append(Shelf(region: Region(atLeast: capacity, ifDear: total / 2)))
    return shelves[shelves.count - 1].place(capacity, at: 0, before: 0)
  }
}
