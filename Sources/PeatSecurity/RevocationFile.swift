import Foundation
import PeatTensor
import Synchronization

/// Serial numbers of certificates that were taken back, in a file that is read again when it changes.
///
/// One a line, in hexadecimal: `ac:df:01`, `ACDF01`, `0xacdf01`, or `serial=ACDF01` as `openssl x509 -noout -serial` writes it. Lines may be empty, and what follows a `#` is a comment. A line that is
/// anything else is an error, as a certificate that is meant there would go on to let in.
public final class RevocationFile: Sendable {
  private struct State {
    var serials: Set<String>
    var changed: Date?
  }

  /// The most octets of a serial number (RFC 5280, 4.1.2.2), in hexadecimal digits, with one that says that it is not negative.
  private static let mostDigits = 42

  private let file: URL
  private let state: Mutex<State>
  private let onProblem: @Sendable (String) -> Void

  /// - Parameter onProblem: hears where the file has changed and can't be read, or holds a line that is no serial number: what was read before holds on.
  /// - Throws: where the file can't be read, `badData` where a line is no serial number.
  public init(_ file: URL, onProblem: @escaping @Sendable (String) -> Void = { _ in }) throws {
    self.file = file
    self.onProblem = onProblem
    let changed = Self.changed(file)
    state = Mutex(State(serials: try Self.read(file), changed: changed))
  }

  /// Whether a certificate stands in the file. Of one that can't be read any more what was read last holds.
  public func contains(_ serial: String) -> Bool {
    let changed = Self.changed(file)
    let (contains, problem) = state.withLock { state -> (Bool, String?) in
      var problem: String?
      if changed != state.changed {
        // It is told once of each change.
        state.changed = changed
        do { state.serials = try Self.read(file) } catch {
          problem =
            "The list of revoked certificates was changed and is not taken: \((error as? PeatError)?.message ?? "\(error)") What was read of it before still holds, and nothing more (serial numbers: \(state.serials.count))."
        }
      }
      return (state.serials.contains(Self.plain(serial)), problem)
    }
    if let problem { onProblem(problem) }
    return contains
  }

  private static func changed(_ file: URL) -> Date? {
    (try? FileManager.default.attributesOfItem(atPath: file.path))?[.modificationDate] as? Date
  }

  private static func read(_ file: URL) throws -> Set<String> {
    let text = String(decoding: try PrivateFiles.read(file), as: UTF8.self)
    var serials: Set<String> = []
    // Line feeds with a carriage return before them are one character of Swift's.
    let lines = text.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline)
    for (number, line) in lines.enumerated() {
      let written = line.prefix { $0 != "#" }.filter { $0 != "\u{FEFF}" }
        .trimmingCharacters(in: .whitespaces)
      if written.isEmpty { continue }
      guard let serial = serial(written) else {
        throw PeatError.badData(
          "'\(file.path)', line \(number + 1): '\(written.prefix(60))' is no serial number. Write one a line in hexadecimal, such as AC:DF:01, or what 'openssl x509 -noout -serial' prints."
        )
      }
      serials.insert(serial)
    }
    return serials
  }

  /// The serial number that a line says; `nil` where it says none.
  private static func serial(_ line: String) -> String? {
    var digits = line.lowercased()
    if let equals = digits.firstIndex(of: "=") {
      guard digits[..<equals].trimmingCharacters(in: .whitespaces) == "serial" else { return nil }
      digits = digits[digits.index(after: equals)...].trimmingCharacters(in: .whitespaces)
    }
    if digits.hasPrefix("0x") { digits.removeFirst(2) }
    digits.removeAll { $0 == ":" || $0 == " " || $0 == "\t" }
    guard (1...mostDigits).contains(digits.count),
      digits.allSatisfy({ $0.isASCII && $0.isHexDigit })
    else { return nil }
    return plain(digits)
  }

  /// In small letters, without zeros in front.
  private static func plain(_ serial: String) -> String {
    String(serial.lowercased().drop { $0 == "0" })
  }
}
