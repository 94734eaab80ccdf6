import Foundation

/// How many files and connections this process may have open.
public enum OpenFiles {
  /// Raises the limit to what the system allows: usual limits of 1,024 are fewer than the clients that a coordinator serves.
  ///
  /// - Returns: how many may be open now.
  @discardableResult
  public static func raiseLimit() -> Int {
    var limit = rlimit()
    #if os(Linux)
      let kind = __rlimit_resource_t(RLIMIT_NOFILE.rawValue)
    #else
      let kind = RLIMIT_NOFILE
    #endif
    guard getrlimit(kind, &limit) == 0 else { return 0 }
    let allowed = min(limit.rlim_max, 1 << 20)
    if limit.rlim_cur < allowed {
      limit.rlim_cur = allowed
      _ = setrlimit(kind, &limit)
      _ = getrlimit(kind, &limit)
    }
    return Int(clamping: limit.rlim_cur)
  }
}
