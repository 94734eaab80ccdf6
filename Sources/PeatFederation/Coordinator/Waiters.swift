/// Calls that wait for something to happen, each for one client or for what concerns all.
///
/// What concerns one client wakes its calls alone: with a thousand clients that wait, waking everybody for everything would cost a million looks a round.
struct Waiters {
  private struct Waiter {
    var client: ClientID?
    var continuation: CheckedContinuation<Void, Never>
  }

  private var all: [Int: Waiter] = [:]
  private var ofClient: [ClientID?: Set<Int>] = [:]
  private var count = 0

  /// A number for a call that is about to wait.
  mutating func number() -> Int {
    count += 1
    return count
  }

  /// - Parameter client: whose affairs the call waits for, beside what concerns all; `nil`: the coordinator's own.
  mutating func add(
    _ number: Int, for client: ClientID?, _ continuation: CheckedContinuation<Void, Never>
  ) {
    all[number] = Waiter(client: client, continuation: continuation)
    ofClient[client, default: []].insert(number)
  }

  /// Wakes one call, if it still waits.
  mutating func wake(_ number: Int) {
    guard let waiter = all.removeValue(forKey: number) else { return }
    ofClient[waiter.client]?.remove(number)
    if ofClient[waiter.client]?.isEmpty == true { ofClient.removeValue(forKey: waiter.client) }
    waiter.continuation.resume()
  }

  /// Wakes a client's calls, or the coordinator's own.
  mutating func wake(of client: ClientID?) {
    for number in ofClient.removeValue(forKey: client) ?? [] { wake(number) }
  }

  mutating func wakeAll() {
    let waiting = all.values
    all = [:]
    ofClient = [:]
    for waiter in waiting { waiter.continuation.resume() }
  }
}
