/// Connections of which nobody knows yet whose they are: how many there may be, and which has to go where there are more.
///
/// Anybody can open connections and say nothing. So strangers take up a part of all connections at most, and one address a part of that. Where that is full the one that has
/// said nothing for the longest goes, so that who comes and speaks at once gets in; where all have spoken the oldest, if it had time enough.
package struct Strangers<Key: Hashable> {
  package enum Answer: Equatable {
    case hasRoom
    /// Instead of one that has to go.
    case instead(of: Key)
    /// There is no room.
    case refused
  }

  private struct Stranger {
    var key: Key
    var since: Duration
    var hasSpoken = false
  }

  private let limit: Int
  private let limitOfAddress: Int
  private let patience: Duration
  /// By address, and by the order in which they came.
  private var addresses: [String: [Int: Stranger]] = [:]
  private var places: [Key: (address: String, number: Int)] = [:]
  private var arrivals = 0

  /// - Parameters:
  ///   - limit: of all.
  ///   - limitOfAddress: of those from one address.
  ///   - patience: how long one that has spoken does not have to go for another.
  package init(limit: Int, limitOfAddress: Int, patience: Duration) {
    self.limit = limit
    self.limitOfAddress = limitOfAddress
    self.patience = patience
  }

  package var count: Int { places.count }

  /// One came from an address.
  ///
  /// - Parameters:
  ///   - now: a time that never goes back.
  ///   - isFull: whether there is no room for any more, strangers or not.
  package mutating func add(
    _ key: Key, from address: String, at now: Duration, isFull: Bool = false
  ) -> Answer {
    var answer = Answer.hasRoom
    if let crowded = crowded(for: address, isFull) {
      guard let oldest = mostDispensable(from: crowded, now) else { return .refused }
      remove(oldest)
      answer = .instead(of: oldest)
    } else if isFull {
      return .refused
    }
    arrivals += 1
    addresses[address, default: [:]][arrivals] = Stranger(key: key, since: now)
    places[key] = (address, arrivals)
    return answer
  }

  /// From which address one has to go for another to come; `nil`: there is room.
  private func crowded(for address: String, _ isFull: Bool) -> String? {
    if addresses[address]?.count ?? 0 >= limitOfAddress { return address }
    guard isFull || places.count >= limit else { return nil }
    return addresses.max { $0.value.count < $1.value.count }?.key
  }

  private func mostDispensable(from address: String, _ now: Duration) -> Key? {
    let all = addresses[address] ?? [:]
    if let silent = all.filter({ !$0.value.hasSpoken }).min(by: { $0.key < $1.key }) {
      return silent.value.key
    }
    guard let oldest = all.min(by: { $0.key < $1.key })?.value, now - oldest.since >= patience
    else { return nil }
    return oldest.key
  }

  /// Something came from it.
  package mutating func hasSpoken(_ key: Key) {
    guard let place = places[key] else { return }
    addresses[place.address]?[place.number]?.hasSpoken = true
  }

  /// It is a stranger no longer, or it is gone. Returns whether it was one.
  @discardableResult
  package mutating func remove(_ key: Key) -> Bool {
    guard let place = places.removeValue(forKey: key) else { return false }
    addresses[place.address]?[place.number] = nil
    if addresses[place.address]?.isEmpty == true { addresses[place.address] = nil }
    return true
  }
}
