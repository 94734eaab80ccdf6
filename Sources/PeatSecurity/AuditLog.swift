import Foundation
import PeatTensor
import Synchronization

/// Who did what: one JSON object a line, appended to a file.
///
/// A line is written as a whole when the thing is done, and is on the disk within a second of it. There are no secrets in it.
/// Refusals beyond a hundred in ten seconds are counted, not listed, so that nobody can fill the disk with them.
public final class AuditLog: Sendable {
  public struct Entry: Sendable, Codable {
    public var time: Date
    /// The client's name, by its certificate; what a stranger calls itself is in `details`.
    public var who: String
    /// The certificate's serial number.
    public var certificate: String?
    /// From where.
    public var address: String?
    public var action: String
    /// `ok`, `refused` or `failed`.
    public var result: Result
    public var details: [String: String]

    public enum Result: String, Sendable, Codable { case ok, refused, failed }

    public init(
      _ action: String, by who: String, certificate: String? = nil, from address: String? = nil,
      _ result: Result = .ok, details: [String: String] = [:], time: Date = Date()
    ) {
      self.time = time
      self.who = who
      self.certificate = certificate
      self.address = address
      self.action = action
      self.result = result
      self.details = details
    }
  }

  private struct State {
    var handle: FileHandle?
    var isDirty = false
    var windowStart = Date.distantPast
    var refusals = 0
    var dropped = 0
    var hasFailed = false
  }

  public let file: URL
  private let state: Mutex<State>
  private let onFailure: @Sendable (String) -> Void
  private static let window = 10.0
  private static let refusalsPerWindow = 100
  /// The longest text in an entry, in characters.
  private static let textLimit = 300

  /// Opens a log, to add to it. Only its owner may read it.
  ///
  /// - Parameter onFailure: hears once if a line could not be written.
  public init(
    _ file: URL, onFailure: @escaping @Sendable (String) -> Void = { _ in }
  ) throws {
    self.file = file
    self.onFailure = onFailure
    let descriptor = open(file.path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else {
      throw PeatError.inputOutput(
        "Can't write the audit log '\(file.path)': \(String(cString: strerror(errno))).")
    }
    state = Mutex(State(handle: FileHandle(fileDescriptor: descriptor, closeOnDealloc: true)))
    Task.detached(priority: .utility) { [weak self] in
      while let log = self {
        guard log.sync() else { return }
        try? await Task.sleep(for: .milliseconds(500))
      }
    }
  }

  public func record(_ entry: Entry) {
    state.withLock { state in
      if entry.result == .refused {
        if entry.time.timeIntervalSince(state.windowStart) > Self.window {
          flushDropped(&state, entry.time)
          (state.windowStart, state.refusals) = (entry.time, 0)
        }
        state.refusals += 1
        guard state.refusals <= Self.refusalsPerWindow else {
          state.dropped += 1
          return
        }
      }
      write(entry, &state)
    }
  }

  private func flushDropped(_ state: inout State, _ time: Date) {
    guard state.dropped > 0 else { return }
    write(
      Entry(
        "refusals", by: "several", .refused, details: ["notListed": "\(state.dropped)"],
        time: time), &state)
    state.dropped = 0
  }

  private func write(_ entry: Entry, _ state: inout State) {
    guard let handle = state.handle else { return }
    var entry = entry
    entry.who = String(entry.who.prefix(Self.textLimit))
    entry.details = entry.details.mapValues { String($0.prefix(Self.textLimit)) }
    let encoder = JSONEncoder()
    encoder.dateEncodingStrategy = .iso8601
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    do {
      try handle.write(contentsOf: try encoder.encode(entry) + Data("\n".utf8))
      state.isDirty = true
    } catch {
      guard !state.hasFailed else { return }
      state.hasFailed = true
      onFailure("The audit log '\(file.path)' can't be written: \(error.localizedDescription)")
    }
  }

  /// - Returns: whether the log is still open.
  private func sync() -> Bool {
    state.withLock { state in
      if state.isDirty { try? state.handle?.synchronize() }
      state.isDirty = false
      return state.handle != nil
    }
  }

  /// Writes what is left. Nothing is recorded after it.
  public func close() {
    state.withLock { state in
      flushDropped(&state, Date())
      try? state.handle?.synchronize()
      try? state.handle?.close()
      state.handle = nil
    }
  }
}
