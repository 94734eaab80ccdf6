import Foundation

/// The moment that a template is told, and by which clock its date is counted.
package struct TemplateTime: Sendable, Equatable {
  private var seconds: Int
  private var microseconds: Int
  /// Whether its parts are those of the place, as Python's `datetime.now()`, or of UTC.
  private var isLocal: Bool

  /// The variable that sets the moment, in seconds since 1970: <https://reproducible-builds.org/specs/source-date-epoch/>.
  static let variable = "SOURCE_DATE_EPOCH"

  /// When the program began, or what the environment says. One moment for a whole run: its texts do not change at midnight.
  static let ofThisRun = TemplateTime(
    environment: ProcessInfo.processInfo.environment, clock: Date())

  package init(_ date: Date, isLocal: Bool = false) {
    let time = min(max(date.timeIntervalSince1970, -1e11), 1e11)
    seconds = Int(time.rounded(.down))
    microseconds = Int((time - time.rounded(.down)) * 1e6)
    self.isLocal = isLocal
  }

  package init(environment: [String: String], clock: Date) {
    if let text = environment[Self.variable], let seconds = Double(text), seconds.isFinite {
      self.init(Date(timeIntervalSince1970: seconds))
    } else {
      self.init(clock, isLocal: true)
    }
  }

  /// The moment in C's formats, as Python's `strftime` writes one that knows no time zone; English names.
  package func text(_ format: String) -> String {
    guard !format.isEmpty, format.utf8.count <= 1 << 12 else { return "" }
    var moment = time_t(seconds)
    var parts = tm()
    if isLocal { localtime_r(&moment, &parts) } else { gmtime_r(&moment, &parts) }
    // What is longer than Python would make it becomes nothing, as there.
    let capacity = 256 * (format.utf8.count + 1)
    return withUnsafeTemporaryAllocation(of: CChar.self, capacity: capacity) { buffer in
      guard let start = buffer.baseAddress else { return "" }
      let count = strftime(start, capacity, withoutOwnSpecifiers(format), &parts)
      return String(
        decoding: UnsafeRawBufferPointer(start: start, count: count), as: UTF8.self)
    }
  }

  /// A format without those specifiers that Python has of its own: microseconds, and the zone, which is not known.
  private func withoutOwnSpecifiers(_ format: String) -> String {
    var result = ""
    var isEscaped = false
    for scalar in format.unicodeScalars where scalar.value != 0 {
      guard isEscaped else {
        if scalar == "%" { isEscaped = true } else { result.unicodeScalars.append(scalar) }
        continue
      }
      isEscaped = false
      switch scalar {
      case "f":
        let digits = String(microseconds)
        result += String(repeating: "0", count: 6 - digits.count) + digits
      case "z", "Z": break
      default:
        result += "%"
        result.unicodeScalars.append(scalar)
      }
    }
    return isEscaped ? result + "%" : result
  }
}
