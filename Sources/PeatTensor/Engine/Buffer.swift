/// A piece of memory that returns to its pool when nobody holds it any more.
package final class Buffer {
  let pointer: FloatPointer
  let capacity: Int

  fileprivate init(capacity: Int) {
    self.capacity = capacity
    // 64 bytes: a cache line, and every vector width.
    let raw = UnsafeMutableRawPointer.allocate(
      byteCount: capacity * MemoryLayout<Float>.stride, alignment: 64)
    pointer = raw.bindMemory(to: Float.self, capacity: capacity)
  }

  deinit { UnsafeMutableRawPointer(pointer).deallocate() }
}

/// Reuses buffers of the same size class: after the first step of a training loop nothing is allocated.
///
/// A buffer is free when only the pool refers to it, so ARC is the whole bookkeeping. One pool per worker; it is
/// not shared between threads. Sizes are rounded up to eighths of a power of two, so that inputs of varying
/// length do not each need buffers of their own; pages that are not touched cost no memory.
package final class BufferPool {
  private struct Shelf {
    var buffers: [Buffer] = []
    var next = 0
  }

  private var shelves: [Int: Shelf] = [:]
  package private(set) var allocatedBytes = 0

  package init() {}

  /// Memory for `count` floats with undefined content.
  func take(_ count: Int) -> Buffer {
    let capacity = BufferPool.capacity(for: count)
    var shelf = shelves.removeValue(forKey: capacity) ?? Shelf()
    defer { shelves[capacity] = shelf }
    for _ in 0..<shelf.buffers.count {
      let index = shelf.next
      shelf.next = index + 1 == shelf.buffers.count ? 0 : index + 1
      if isKnownUniquelyReferenced(&shelf.buffers[index]) { return shelf.buffers[index] }
    }
    let buffer = Buffer(capacity: capacity)
    allocatedBytes += capacity * MemoryLayout<Float>.stride
    shelf.buffers.append(buffer)
    return buffer
  }

  /// Gives memory that is not in use back to the system.
  package func trim() {
    for key in Array(shelves.keys) {
      guard var shelf = shelves.removeValue(forKey: key) else { continue }
      var kept: [Buffer] = []
      for index in shelf.buffers.indices {
        if isKnownUniquelyReferenced(&shelf.buffers[index]) {
          allocatedBytes -= key * MemoryLayout<Float>.stride
        } else {
          kept.append(shelf.buffers[index])
        }
      }
      if !kept.isEmpty { shelves[key] = Shelf(buffers: kept) }
    }
  }

  /// `count` rounded up to a multiple of 1/8 of the power of two at or below it, at least 64.
  static func capacity(for count: Int) -> Int {
    if count <= 64 { return 64 }
    let power = Int.bitWidth - 1 - count.leadingZeroBitCount
    let unit = 1 << max(power - 3, 3)
    return (count + unit - 1) / unit * unit
  }
}
