import Foundation

/// What the processor can do.
enum Processor {
  /// What this build needs and the processor lacks; `nil` if it has all.
  static var missingFeature: String? {
    #if PEAT_FMA && os(Linux)
      let flags = features
      // Where the system does not say, let it run.
      if flags.isEmpty || (flags.contains("avx2") && flags.contains("fma")) { return nil }
      return "AVX2 and FMA"
    #else
      return nil
    #endif
  }

  /// The flags that the system lists for the processor.
  static var features: Set<Substring> {
    guard let text = try? String(contentsOfFile: "/proc/cpuinfo", encoding: .utf8) else {
      return []
    }
    let line = text.split(separator: "\n").first { $0.hasPrefix("flags") } ?? ""
    return Set(line.split(separator: " "))
  }

  static var name: String {
    let text = (try? String(contentsOfFile: "/proc/cpuinfo", encoding: .utf8)) ?? ""
    let line = text.split(separator: "\n").first { $0.hasPrefix("model name") }
    return line.map { $0.drop { $0 != ":" }.dropFirst().trimmingCharacters(in: .whitespaces) }
      ?? "unknown"
  }
}
