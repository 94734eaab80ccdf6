import GRPCCore
import PeatTensor
import Synchronization

/// How much clients may ask for, each of them and all together. Messages, headers and pieces have limits in `TransferLimits`, updates
/// those of the run.
public struct ServerLimits: Sendable, Equatable {
  /// Connections that are open at a time; further ones are closed at once.
  public var connections = 8192
  /// Connections of which it is not known whose they are, of all and of one address; and how long one may be so: from accepting it, over TLS' handshake, to the first
  /// call that is let in.
  public var strangers = 2048
  public var strangersOfAddress = 512
  public var introduction = Duration.seconds(10)
  /// Calls per second over time, and how many may come at once.
  public var callRate = 50.0
  public var callBurst = 200.0
  /// The same of all clients together.
  public var totalCallRate = 5_000.0
  public var totalCallBurst = 20_000.0
  /// Tries to enrol, of all newcomers together.
  public var enrolmentRate = 10.0
  public var enrolmentBurst = 100.0
  /// Uploads and downloads at a time.
  public var transfers = 8
  public var totalTransfers = 1024

  public init() {}

  public static let usual = ServerLimits()

  /// - Throws: `usage` where a limit is not above 0.
  public func validate() throws {
    let all: [(String, Double)] = [
      ("connections", Double(connections)), ("strangers", Double(strangers)),
      ("strangersOfAddress", Double(strangersOfAddress)), ("introduction", introduction.seconds),
      ("callRate", callRate), ("callBurst", callBurst),
      ("totalCallRate", totalCallRate), ("totalCallBurst", totalCallBurst),
      ("enrolmentRate", enrolmentRate), ("enrolmentBurst", enrolmentBurst),
      ("transfers", Double(transfers)), ("totalTransfers", Double(totalTransfers)),
    ]
    for (name, value) in all where !(value >= 1 && value.isFinite) {
      throw PeatError.usage("The limit \(name) is \(value); it must be at least 1.")
    }
  }
}

/// Counts what is asked for and says when it is too much.
final class Admission: Sendable {
  /// So many calls may come at once, and they come back at a rate.
  private struct Bucket {
    var level: Double
    var time: Duration

    /// - Returns: `nil` where there was one left, else when there will be.
    mutating func take(_ rate: Double, _ burst: Double, now: Duration) -> Duration? {
      level = min(burst, level + (now - time).seconds * rate)
      time = now
      guard level >= 1 else { return .seconds((1 - level) / rate) }
      level -= 1
      return nil
    }
  }

  private struct State {
    var calls: [String: Bucket] = [:]
    var total: Bucket
    var enrolments: Bucket
    var swept = Duration.zero
    var transfers: [String: Int] = [:]
    var totalTransfers = 0
  }

  let limits: ServerLimits
  private let state: Mutex<State>
  private let clock = ContinuousClock()
  private let start: ContinuousClock.Instant
  private static let rememberedCallers = 20_000

  init(_ limits: ServerLimits) {
    self.limits = limits
    start = clock.now
    state = Mutex(
      State(
        total: Bucket(level: limits.totalCallBurst, time: .zero),
        enrolments: Bucket(level: limits.enrolmentBurst, time: .zero)))
  }

  private var now: Duration { start.duration(to: clock.now) }

  /// Throws where a caller, or all together, call too often.
  func call(by caller: String) throws {
    let now = now
    let limits = limits
    try state.withLock { state in
      if state.calls.count >= Self.rememberedCallers, now - state.swept > .seconds(1) {
        // Who has not called for long has a full bucket, which is that of a new caller.
        state.calls = state.calls.filter {
          $0.value.level + (now - $0.value.time).seconds * limits.callRate < limits.callBurst
        }
        state.swept = now
      }
      // So many that not all can be remembered share one.
      let isRoom = state.calls.count < Self.rememberedCallers || state.calls[caller] != nil
      let caller = isRoom ? caller : ""
      var own = state.calls[caller] ?? Bucket(level: limits.callBurst, time: now)
      if let wait = own.take(limits.callRate, limits.callBurst, now: now) {
        state.calls[caller] = own
        throw Self.exhausted("too many calls of this client", wait)
      }
      state.calls[caller] = own
      if let wait = state.total.take(limits.totalCallRate, limits.totalCallBurst, now: now) {
        throw Self.exhausted("too many calls of all clients", wait)
      }
    }
  }

  func enrolment() throws {
    let now = now
    try state.withLock { state in
      if let wait = state.enrolments.take(
        limits.enrolmentRate, limits.enrolmentBurst, now: now)
      {
        throw Self.exhausted("too many newcomers", wait)
      }
    }
  }

  /// Does a transfer; throws where a caller, or all together, have too many under way.
  func transfer<Result>(by caller: String, _ body: () async throws -> Result) async throws -> Result
  {
    try state.withLock { state in
      guard state.transfers[caller, default: 0] < limits.transfers else {
        throw Self.exhausted("\(limits.transfers) transfers of this client", .seconds(1))
      }
      guard state.totalTransfers < limits.totalTransfers else {
        throw Self.exhausted("\(limits.totalTransfers) transfers of all clients", .seconds(2))
      }
      state.transfers[caller, default: 0] += 1
      state.totalTransfers += 1
    }
    defer {
      state.withLock { state in
        let left = state.transfers[caller, default: 1] - 1
        state.transfers[caller] = left == 0 ? nil : left
        state.totalTransfers -= 1
      }
    }
    return try await body()
  }

  /// How many transfers are under way, for tests.
  var openTransfers: Int { state.withLock { $0.totalTransfers } }

  /// RESOURCE_EXHAUSTED, with a hint when to ask again.
  static func exhausted(_ what: String, _ wait: Duration) -> RPCError {
    let milliseconds = max(1, Int((wait.seconds * 1000).rounded(.up)))
    return RPCError(
      code: .resourceExhausted,
      message: "The coordinator has its hands full: \(what). Ask again in \(milliseconds) ms.",
      metadata: [
        codeKey: "\(PeatError.Code.unavailable.rawValue)", retryKey: "\(milliseconds)",
      ])
  }
}
