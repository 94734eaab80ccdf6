import Logging

extension Logger {
  /// For callers whose progress lines say all that a log would.
  package static var silent: Logger { Logger(label: "fedpeat") { _ in SwiftLogNoOpLogHandler() } }
}
