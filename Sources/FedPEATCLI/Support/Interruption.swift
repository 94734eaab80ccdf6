import Foundation
import Synchronization

/// Ctrl-C and the polite request to end (SIGTERM): the first asks the work to stop, the second ends at once.
enum Interruption {
  private static let requested = Atomic(false)
  private static let sources = Sources()

  /// Keeps the signal sources alive; touched once, when the program starts.
  private final class Sources: @unchecked Sendable {
    var all: [any DispatchSourceSignal] = []
  }

  /// Whether somebody asked. Long work looks here between its steps.
  static var isRequested: Bool { requested.load(ordering: .relaxed) }

  /// Calls `onRequest` once when somebody asks.
  static func install(_ onRequest: @escaping @Sendable () -> Void) {
    for number in [SIGINT, SIGTERM] {
      signal(number, SIG_IGN)
      let source = DispatchSource.makeSignalSource(signal: number, queue: .global())
      source.setEventHandler {
        if requested.exchange(true, ordering: .relaxed) { _exit(130) }
        onRequest()
      }
      source.resume()
      sources.all.append(source)
    }
  }
}
