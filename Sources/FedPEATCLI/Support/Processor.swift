import Foundation

/// What the processor can do.
enum Processor {
  /// What this build needs and the processor lacks; `nil` if it has all.
  static var missingFeature: String? {
    #if PEAT_WIDE && os(Linux)
      lacks(["avx512f", "avx512bw", "avx512dq", "avx512vl"]) ? "AVX-512" : nil
    #elseif PEAT_FMA && arch(x86_64) && os(Linux)
      lacks(["avx2", "fma"]) ? "AVX2 and FMA" : nil
    #else
      nil
    #endif
  }

  /// The kernels this program was built with.
  static var kernels: String {
    #if PEAT_WIDE
      "x86-64-v4 (AVX-512)"
    #elseif PEAT_FMA && arch(x86_64)
      "x86-64-v3 (AVX2 and FMA)"
    #elseif PEAT_FMA
      "NEON"
    #else
      "portable"
    #endif
  }

  /// Faster kernels that this processor could run, as `FEDPEAT_KERNELS` names them; `nil` if it has its best.
  static var fasterKernels: String? {
    #if PEAT_WIDE || !arch(x86_64)
      nil
    #else
      let flags = features
      if flags.isSuperset(of: ["avx512f", "avx512bw", "avx512dq", "avx512vl"]) { return "v4" }
      #if PEAT_FMA
        return nil
      #else
        return flags.isSuperset(of: ["avx2", "fma"]) ? "v3" : nil
      #endif
    #endif
  }

  /// Where the system does not say what the processor has, it lacks nothing.
  private static func lacks(_ wanted: Set<Substring>) -> Bool {
    let flags = features
    return !flags.isEmpty && !flags.isSuperset(of: wanted)
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
