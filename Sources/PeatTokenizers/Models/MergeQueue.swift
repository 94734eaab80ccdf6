/// The merges that could be made next, the lowest rank first, and of equal ranks the leftmost.
///
/// A binary heap of one number each: the rank in the upper half, the position in the lower.
struct MergeQueue {
  private var heap: [UInt64] = []

  mutating func reserveCapacity(_ count: Int) { heap.reserveCapacity(count) }

  mutating func push(rank: UInt32, position: Int) {
    heap.append(UInt64(rank) << 32 | UInt64(UInt32(truncatingIfNeeded: position)))
    siftUp(heap.count - 1)
  }

  mutating func pop() -> (rank: UInt32, position: Int)? {
    guard let top = heap.first, let last = heap.popLast() else { return nil }
    if !heap.isEmpty {
      heap[0] = last
      siftDown(0)
    }
    return (UInt32(top >> 32), Int(top & 0xFFFF_FFFF))
  }

  private mutating func siftUp(_ start: Int) {
    var child = start
    let value = heap[child]
    while child > 0 {
      let parent = (child - 1) / 2
      if heap[parent] <= value { break }
      heap[child] = heap[parent]
      child = parent
    }
    heap[child] = value
  }

  private mutating func siftDown(_ start: Int) {
    var parent = start
    let value = heap[parent]
    while true {
      var child = 2 * parent + 1
      if child >= heap.count { break }
      if child + 1 < heap.count, heap[child + 1] < heap[child] { child += 1 }
      if heap[child] >= value { break }
      heap[parent] = heap[child]
      parent = child
    }
    heap[parent] = value
  }
}
