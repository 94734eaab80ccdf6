import CPeatHints

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

extension Duration {
  /// The duration in seconds.
  public var seconds: Double {
    Double(components.seconds) + Double(components.attoseconds) * 1e-18
  }
}

/// What the operating system says about this process and machine.
public enum ProcessMeasurement {
  /// Largest resident memory so far, in bytes; 0 where the system does not say.
  public static var peakMemoryBytes: Int {
    #if os(Linux)
      // Not getrusage: its maximum also covers what ran in this process before exec.
      kilobytes("VmHWM:", in: "/proc/self/status").map { $0 * 1024 } ?? 0
    #else
      usage?.ru_maxrss ?? 0
    #endif
  }

  /// Resident memory now, in bytes; 0 where the system does not say.
  public static var memoryBytes: Int {
    #if os(Linux)
      kilobytes("VmRSS:", in: "/proc/self/status").map { $0 * 1024 } ?? 0
    #else
      0
    #endif
  }

  /// Bytes that are allocated on the heap now; `nil` where the system does not say.
  public static var heapBytes: Int? {
    let bytes = peat_heap_bytes()
    return bytes < 0 ? nil : bytes
  }

  /// Gives heap that is not in use back to the system.
  public static func releaseFreeMemory() {
    #if canImport(Glibc)
      malloc_trim(0)
    #endif
  }

  /// Lets all threads take small pieces of memory from a few pools in place of many of their own, each of which keeps what was freed in it: for a process that waits for the network more than it
  /// computes. To be called before there are threads.
  public static func shareFreeMemory() {
    #if canImport(Glibc)
      _ = mallopt(M_ARENA_MAX, 2)
    #endif
  }

  /// Processor time used so far by all threads, in seconds.
  public static var processorSeconds: Double {
    func seconds(_ time: timeval) -> Double { Double(time.tv_sec) + Double(time.tv_usec) * 1e-6 }
    return usage.map { seconds($0.ru_utime) + seconds($0.ru_stime) } ?? 0
  }

  /// Memory that could be taken without swapping, in bytes; `nil` where the system does not say.
  public static var freeMemoryBytes: Int? {
    #if os(Linux)
      kilobytes("MemAvailable:", in: "/proc/meminfo").map { $0 * 1024 }
    #else
      nil
    #endif
  }

  private static var usage: rusage? {
    var usage = rusage()
    #if canImport(Glibc)
      let result = getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
    #else
      let result = getrusage(RUSAGE_SELF, &usage)
    #endif
    return result == 0 ? usage : nil
  }

  #if os(Linux)
    /// The number in the line of a /proc file that begins with `label`.
    private static func kilobytes(_ label: String, in path: String) -> Int? {
      guard let file = fopen(path, "r") else { return nil }
      defer { fclose(file) }
      var line = [CChar](repeating: 0, count: 256)
      while fgets(&line, 256, file) != nil {
        let bytes = line.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }
        let words = String(decoding: bytes, as: UTF8.self).split(separator: " ").flatMap {
          $0.split(separator: "\t")
        }
        if words.count > 1, words[0] == label { return Int(words[1]) }
      }
      return nil
    }
  #endif
}
