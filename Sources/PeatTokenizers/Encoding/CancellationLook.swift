/// Sees now and then whether the task was cancelled: a text may take minutes.
struct CancellationLook {
  private static let between = 4096
  private var passed = 0

  init() {}

  /// Throws `CancellationError` where the task was cancelled, and somebody looked.
  mutating func pass() throws {
    passed &+= 1
    if passed % Self.between == 0 { try Task.checkCancellation() }
  }
}
