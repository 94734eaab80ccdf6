/// What is to happen at certain times, the next first: for thousands of clients that wait, without a task that sleeps for each of them.
package struct Alarms<Event: Sendable>: Sendable {
  private struct Alarm {
    var time: Duration
    /// Of two at the same time the one that was set first comes first.
    var number: Int
    var event: Event

    func comesBefore(_ other: Alarm) -> Bool { (time, number) < (other.time, other.number) }
  }

  /// A heap: none comes before the one at half its place.
  private var heap: [Alarm] = []
  private var count = 0

  package init() {}

  /// When the next is due.
  package var next: Duration? { heap.first?.time }

  package mutating func set(at time: Duration, _ event: Event) {
    heap.append(Alarm(time: time, number: count, event: event))
    count += 1
    var place = heap.count - 1
    while place > 0, heap[place].comesBefore(heap[(place - 1) / 2]) {
      heap.swapAt(place, (place - 1) / 2)
      place = (place - 1) / 2
    }
  }

  /// Takes out what is due, in order.
  package mutating func due(at time: Duration) -> [Event] {
    var events: [Event] = []
    while let first = heap.first, first.time <= time {
      events.append(first.event)
      let last = heap.removeLast()
      if heap.isEmpty { break }
      heap[0] = last
      sink()
    }
    return events
  }

  private mutating func sink() {
    var place = 0
    while true {
      var least = place
      for child in 2 * place + 1...2 * place + 2
      where child < heap.count && heap[child].comesBefore(heap[least]) { least = child }
      if least == place { return }
      heap.swapAt(place, least)
      place = least
    }
  }
}
