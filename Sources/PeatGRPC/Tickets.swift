import PeatFederation
import Synchronization

/// Whose upload tickets are: a ticket that another client was given is refused, wherever it came from.
final class Tickets: Sendable {
  private let owners = Mutex<[String: String]>([:])
  private let latest = Mutex<[String: String]>([:])

  /// A client was given a ticket; an older one of its holds no more.
  func give(_ ticket: String, to account: String) {
    let old = latest.withLock { latest in
      defer { latest[account] = ticket }
      return latest[account]
    }
    owners.withLock { owners in
      if let old, old != ticket { owners[old] = nil }
      owners[ticket] = account
    }
  }

  func belongs(_ ticket: String, to account: String) -> Bool {
    owners.withLock { $0[ticket] == account }
  }
}
