import FedPEAT
import Foundation
import Synchronization

/// What people see: results on standard output, everything else on standard error.
enum Terminal {
  private struct State {
    var isQuiet = false
    var hasStatus = false
    var lastStatus = ContinuousClock.now - .seconds(60)
  }

  private static let state = Mutex(State())
  private static let isTerminal = isatty(STDERR_FILENO) == 1

  static var isQuiet: Bool { state.withLock { $0.isQuiet } }

  static func setQuiet(_ quiet: Bool) { state.withLock { $0.isQuiet = quiet } }

  /// A result, on standard output. Throws where it can't be written; a reader that has gone is no error.
  static func print(_ text: String) throws {
    finishStatus()
    do { try FileHandle.standardOutput.write(contentsOf: Data((text + "\n").utf8)) } catch {
      if (error as NSError).underlyingPOSIXCode == EPIPE { return }
      throw PeatError.inputOutput(
        "The result can't be written to standard output: \(error.localizedDescription)",
        cause: error)
    }
  }

  /// A line that stays.
  static func note(_ text: String) {
    state.withLock { state in
      guard !state.isQuiet else { return }
      endStatus(&state)
      write(printable(text) + "\n", to: .standardError)
    }
  }

  /// Why something should not be trusted far: said to those who want no progress, too.
  static func caution(_ text: String) { say("caution      \(text)") }

  /// What a run's owner should know: said to those who want no progress, too.
  static func warning(_ text: String) { say("warning      \(text)") }

  private static func say(_ text: String) {
    state.withLock { state in
      endStatus(&state)
      write(printable(text) + "\n", to: .standardError)
    }
  }

  /// A line that the next one replaces; where standard error is no terminal, one every five seconds.
  static func status(_ text: @autoclosure () -> String) {
    state.withLock { state in
      guard !state.isQuiet else { return }
      let now = ContinuousClock.now
      let interval: Duration = isTerminal ? .milliseconds(100) : .seconds(5)
      guard now - state.lastStatus >= interval else { return }
      state.lastStatus = now
      if isTerminal {
        write(
          "\r\u{1B}[K" + String(printable(text()).prefix(columns - 1)), to: .standardError)
        state.hasStatus = true
      } else {
        write(printable(text()) + "\n", to: .standardError)
      }
    }
  }

  static func finishStatus() { state.withLock { endStatus(&$0) } }

  static func error(_ message: String) {
    finishStatus()
    write("error: \(printable(message))\n", to: .standardError)
  }

  /// Whether there is somebody who can answer.
  static var canAsk: Bool { isTerminal && isatty(STDIN_FILENO) == 1 }

  /// Asks, and waits for a line. Only yes is a yes, also where nothing more can come.
  static func ask(_ question: String) async throws -> Bool {
    finishStatus()
    write("\(printable(question)) [y/N] ", to: .standardError)
    var input = pollfd(fd: STDIN_FILENO, events: Int16(POLLIN), revents: 0)
    // Nothing here may block: the connection is held open meanwhile, and Ctrl-C is heard.
    while poll(&input, 1, 0) == 0 { try await Task.sleep(for: .milliseconds(50)) }
    let answer = readLine()?.trimmingCharacters(in: .whitespaces).lowercased()
    return answer == "y" || answer == "yes"
  }

  /// The text with control characters spelled out: names in other people's files must not steer a terminal.
  static func printable(_ text: String) -> String {
    func isControl(_ scalar: Unicode.Scalar) -> Bool {
      scalar.properties.generalCategory == .control && scalar != "\n" && scalar != "\t"
    }
    guard text.unicodeScalars.contains(where: isControl) else { return text }
    return text.unicodeScalars.reduce(into: "") { result, scalar in
      if isControl(scalar) {
        result += "\\u{\(String(scalar.value, radix: 16))}"
      } else {
        result.unicodeScalars.append(scalar)
      }
    }
  }

  private static func endStatus(_ state: inout State) {
    if state.hasStatus { write("\r\u{1B}[K", to: .standardError) }
    state.hasStatus = false
  }

  private static var columns: Int {
    var size = winsize()
    guard ioctl(STDERR_FILENO, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 20 else { return 100 }
    return Int(size.ws_col)
  }

  private static func write(_ text: String, to handle: FileHandle) {
    try? handle.write(contentsOf: Data(text.utf8))
  }
}

extension NSError {
  /// The system's error number behind this one, if there is one.
  fileprivate var underlyingPOSIXCode: Int32? {
    if domain == NSPOSIXErrorDomain { return Int32(code) }
    return (userInfo[NSUnderlyingErrorKey] as? NSError)?.underlyingPOSIXCode
  }
}

/// Numbers as people read them.
enum Format {
  static func bytes(_ count: Int) -> String {
    let units = ["bytes", "kB", "MB", "GB", "TB"]
    var value = Double(count)
    var unit = 0
    while value >= 1000, unit < units.count - 1 {
      value /= 1000
      unit += 1
    }
    return unit == 0
      ? "\(count) bytes" : String(format: value < 10 ? "%.2f %@" : "%.1f %@", value, units[unit])
  }

  static func count(_ number: Int) -> String {
    var digits = String(number)
    var groups: [String] = []
    while digits.count > 3 {
      groups.insert(String(digits.suffix(3)), at: 0)
      digits = String(digits.dropLast(3))
    }
    return ([digits] + groups).joined(separator: ",")
  }

  static func time(_ duration: Duration) -> String {
    let seconds = Int(duration.components.seconds)
    if seconds < 60 { return "\(seconds) s" }
    if seconds < 3600 { return "\(seconds / 60) min \(seconds % 60) s" }
    return "\(seconds / 3600) h \(seconds % 3600 / 60) min"
  }

  static func number(_ value: Double, digits: Int = 2) -> String {
    // What is as large as that comes from elsewhere, and would fill lines.
    let isLong = value.isFinite && abs(value) >= 1e15
    return String(format: isLong ? "%.\(digits)e" : "%.\(digits)f", value)
  }

  /// At least three digits that say something: 16672, 12.4, 0.0123.
  static func significant(_ value: Double) -> String {
    number(value, digits: decimals(of: value, significant: 3))
  }

  /// A mean and its standard error, with so many digits that the error has two: -8.574 ± 0.031.
  static func mean(_ value: Double, _ error: Double) -> String {
    let cells = meanCells(value, error)
    return "\(cells.mean) ± \(cells.error)"
  }

  static func meanCells(_ value: Double, _ error: Double) -> (mean: String, error: String) {
    let digits = max(2, decimals(of: error == 0 ? value : error, significant: error == 0 ? 5 : 2))
    return (number(value, digits: digits), error == 0 ? "0" : number(error, digits: digits))
  }

  /// Digits behind the point with which a number has so many that say something; 6 at most.
  private static func decimals(of value: Double, significant: Int) -> Int {
    guard value != 0, value.isFinite else { return 0 }
    return min(6, max(0, significant - 1 - Int(log10(abs(value)).rounded(.down))))
  }

  static func percent(_ share: Double) -> String { String(format: "%.1f %%", 100 * share) }

  /// A run's number: an accuracy in percent, a perplexity as it is.
  static func measure(_ value: Double, _ metric: Metric) -> String {
    metric == .accuracy ? percent(value) : number(value)
  }

  /// A number to so many figures, without an exponent where that can be read.
  static func figures(_ value: Double, _ count: Int = 3) -> String {
    guard value != 0, value.isFinite else { return value == 0 ? "0" : "\(value)" }
    let magnitude = Int(log10(abs(value)).rounded(.down))
    guard (-6...15).contains(magnitude) else { return String(format: "%.\(count - 1)e", value) }
    return String(format: "%.\(max(count - 1 - magnitude, 0))f", value)
  }

  /// A share in percent, to three figures.
  static func share(_ share: Double) -> String { figures(100 * share) + " %" }

  /// Seconds that may be few, or a part of one.
  static func seconds(_ value: Double) -> String {
    value < 60 ? figures(value) + " s" : time(.seconds(min(value, 1e15)))
  }

  /// Rows under each other, columns aligned: the first to the left, the others to the right.
  static func table(_ rows: [[String]]) -> String {
    let columns = rows.map(\.count).max() ?? 0
    let widths = (0..<columns).map { column in
      rows.map { column < $0.count ? $0[column].count : 0 }.max() ?? 0
    }
    return rows.map { row in
      row.enumerated().map { column, text in
        let padding = String(repeating: " ", count: widths[column] - text.count)
        return column == 0 ? text + padding : padding + text
      }.joined(separator: "  ")
    }.joined(separator: "\n")
  }
}
