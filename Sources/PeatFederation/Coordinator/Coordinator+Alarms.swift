extension Coordinator {
  /// What is looked at after a time.
  enum Alarm: Sendable {
    /// A call that waits, by its number.
    case call(Int)
    /// A client that did not attend then: its session, and what it had done.
    case absence(Caller, arrivals: Int, moves: Int)
  }

  func set(_ alarm: Alarm, after delay: Duration) {
    alarms.set(at: alarmWatch.elapsed + delay, alarm)
    sleepUntilNextAlarm()
  }

  private func sleepUntilNextAlarm() {
    guard let next = alarms.next, sleepsUntil.map({ next < $0 }) ?? true else { return }
    sleepsUntil = next
    sleeper?.cancel()
    sleeper = Task { [clock, alarmWatch] in
      guard (try? await clock.sleep(for: next - alarmWatch.elapsed)) != nil else { return }
      ring(next)
    }
  }

  /// Forgets all that was set.
  func dropAlarms() {
    alarms = Alarms()
    sleepsUntil = nil
    sleeper?.cancel()
  }

  /// - Parameter time: when it was to ring; by then the clock may show a little less.
  private func ring(_ time: Duration) {
    // Another sleeps already, for an earlier one.
    guard sleepsUntil == time else { return }
    sleepsUntil = nil
    for alarm in alarms.due(at: max(time, alarmWatch.elapsed)) {
      switch alarm {
      case .call(let number): wake(number)
      case .absence(let caller, let arrivals, let moves):
        noteAbsence(of: caller, arrivals: arrivals, moves: moves)
      }
    }
    sleepUntilNextAlarm()
  }
}
