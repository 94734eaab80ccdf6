import Foundation
import PeatTensor
import Synchronization

/// Serial numbers of certificates that were taken back, one a line in hexadecimal, in a file that is read again when it changes.
public final class RevocationFile: Sendable {
  private struct State {
    var serials: Set<String> = []
    var changed: Date?
  }

  private let file: URL
  private let state = Mutex(State())

  /// Throws where the file can't be read.
  public init(_ file: URL) throws {
    self.file = file
    _ = try PrivateFiles.read(file)
  }

  /// Whether a certificate stands in the file. One that can't be read any more keeps what was read last.
  public func contains(_ serial: String) -> Bool {
    let changed =
      (try? FileManager.default.attributesOfItem(atPath: file.path))?[.modificationDate] as? Date
    return state.withLock { state in
      if changed != state.changed, let data = try? PrivateFiles.read(file) {
        state.changed = changed
        state.serials = Set(
          String(decoding: data, as: UTF8.self).split(whereSeparator: \.isNewline).map {
            Self.plain(String($0))
          })
      }
      return state.serials.contains(Self.plain(serial))
    }
  }

  /// Without spaces, colons and zeros in front, in small letters.
  private static func plain(_ serial: String) -> String {
    let digits = serial.lowercased().filter { $0 != ":" && !$0.isWhitespace }
    return String(digits.drop { $0 == "0" })
  }
}
