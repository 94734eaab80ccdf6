import Foundation
import PeatHub
import Synchronization
import TestSupport

extension FakeHub {
  func settings(_ folder: URL, token: String? = nil) -> HubSettings {
    HubSettings(endpoint: hub.url, token: token, cache: HubCache(folder))
  }
}

extension HubPatience {
  /// Tries quickly, and notes how long it would have waited.
  static func hasty(tries: Int = 4, silence: Duration = .seconds(5), _ waits: Waits = Waits())
    -> Self
  {
    HubPatience(tries: tries, silence: silence) { duration in waits.add(duration) }
  }
}

final class Waits: Sendable {
  private let waits = Mutex<[Duration]>([])
  func add(_ wait: Duration) { waits.withLock { $0.append(wait) } }
  var all: [Duration] { waits.withLock { $0 } }
}
