import Foundation

/// What the machine says of its memory.
public enum MachineMemory {
  /// Memory that programs can still take without swapping, in bytes; `nil` where the system does not say.
  public static var available: Int? {
    #if os(Linux)
      guard let text = try? String(contentsOfFile: "/proc/meminfo", encoding: .utf8),
        let line = text.split(separator: "\n").first(where: { $0.hasPrefix("MemAvailable:") }),
        let kibibytes = line.split(separator: " ").dropFirst().first.flatMap({ Int($0) })
      else { return nil }
      return kibibytes * 1024
    #else
      return nil
    #endif
  }
}
