#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// Addresses for floats. Memory is taken from the system where something is written, page by page, so a region can be far
/// larger than what is needed, and never has to move or to be joined by another.
final class Region {
  let pointer: FloatPointer
  /// In floats.
  let capacity: Int
  private let isMapped: Bool

  /// - Parameters:
  ///   - capacity: floats there must be.
  ///   - modest: floats there should be where addresses are counted.
  init(atLeast capacity: Int, ifDear modest: Int) {
    var floats = Region.usualCapacity
    while floats > capacity {
      let place = mmap(
        nil, floats * MemoryLayout<Float>.stride, PROT_READ | PROT_WRITE,
        MAP_PRIVATE | MAP_ANON | MAP_NORESERVE, -1, 0)
      if let place, place != MAP_FAILED {
        pointer = place.bindMemory(to: Float.self, capacity: floats)
        self.capacity = floats
        isMapped = true
        return
      }
      floats /= 2
    }
    self.capacity = max(capacity, modest, 1 << 18)
    let bytes = self.capacity * MemoryLayout<Float>.stride
    // 64 bytes: a cache line, and every vector width.
    guard let raw = aligned_alloc(64, (bytes + 63) / 64 * 64) else {
      let message =
        "error: The system gives no more memory: \(bytes) bytes were asked for. Allow more (ulimit -v), or make the batch or the context smaller.\n"
      _ = message.withCString { write(STDERR_FILENO, $0, strlen($0)) }
      exit(70)
    }
    pointer = raw.bindMemory(to: Float.self, capacity: self.capacity)
    isMapped = false
  }

  deinit {
    if isMapped {
      munmap(pointer, capacity * MemoryLayout<Float>.stride)
    } else {
      free(pointer)
    }
  }

  /// 16 GiB; nothing where a process may have few addresses (`ulimit -v`) or the system promises no more memory than it has.
  private static let usualCapacity: Int = {
    var limit = rlimit()
    guard getrlimit(addressSpace, &limit) == 0, limit.rlim_cur >= 1 << 46 else { return 0 }
    if let file = fopen("/proc/sys/vm/overcommit_memory", "r") {
      defer { fclose(file) }
      if fgetc(file) == Int32(UInt8(ascii: "2")) { return 0 }
    }
    return 1 << 32
  }()

  #if canImport(Glibc)
    private static let addressSpace = __rlimit_resource_t(RLIMIT_AS.rawValue)
  #else
    private static let addressSpace = RLIMIT_AS
  #endif
}
