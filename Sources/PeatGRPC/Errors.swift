import GRPCCore
import PeatTensor

/// The trailer that carries a `PeatError`'s code; the status carries its message.
let codeKey = "peat-code"
/// The trailer that says after how many milliseconds to ask again, where too much was asked for.
let retryKey = "peat-retry-after"
/// The trailer that says what the coordinator's clock shows, where a certificate's dates were refused.
let clockKey = "peat-clock"
/// Longest message sent in a status, in characters.
private let messageLimit = 1_000

extension PeatError {
  /// The error as a gRPC status.
  var status: RPCError {
    let code: RPCError.Code =
      switch self.code {
      case .usage: .invalidArgument
      case .badData: .failedPrecondition
      case .unavailable: .unavailable
      case .internalError: .internalError
      case .inputOutput: .notFound
      case .interrupted: .cancelled
      }
    return RPCError(
      code: code, message: String(message.prefix(messageLimit)),
      metadata: [codeKey: "\(self.code.rawValue)"], cause: self)
  }

  /// The error behind a gRPC status, exactly as the other side threw it; or what a status of gRPC itself means.
  init(_ error: RPCError, from address: String) {
    if let text = error.metadata[stringValues: codeKey].first(where: { _ in true }),
      let code = Int32(text).flatMap(Code.init)
    {
      self.init(code, error.message)
      return
    }
    let detail = "\(address): \(error.message)"
    switch error.code {
    case .resourceExhausted, .outOfRange, .dataLoss:
      self.init(.badData, "The other side refused a message. \(detail)", cause: error)
    case .unimplemented:
      self.init(
        .usage,
        "\(address) does not speak this program's protocol. Check the address, and that both "
          + "sides have the same version.", cause: error)
    // gRPC's words for a server that is not there are about its channel's states.
    case .unavailable:
      self.init(.unavailable, "Nobody answers at \(address).", cause: error)
    default: self.init(.unavailable, "The connection failed. \(detail)", cause: error)
    }
  }
}

extension RPCError {
  /// When to ask again, where the other side said so: at most five seconds.
  var retryHint: Duration? {
    guard code == .resourceExhausted,
      let text = metadata[stringValues: retryKey].first(where: { _ in true }),
      let milliseconds = Int(text), milliseconds > 0
    else { return nil }
    return .milliseconds(min(milliseconds, 5000))
  }
}

/// Does a call and gives its errors as `PeatError`, or `CancellationError` where this task was cancelled.
func translatingErrors<Result>(
  of address: String, _ call: () async throws -> Result
) async throws -> Result {
  do { return try await call() } catch {
    if Task.isCancelled { throw CancellationError() }
    switch error {
    case let error as PeatError: throw error
    case let error as RPCError:
      // An error that this side threw while it was writing or reading a stream.
      if let cause = error.cause as? PeatError { throw cause }
      throw PeatError(error, from: address)
    case let error as RuntimeError:
      throw PeatError.unavailable(
        "The connection to \(address) is closed: \(error.message)", cause: error)
    default: throw error
    }
  }
}

/// Does a server's work and gives its errors as statuses.
func reportingErrors<Result>(_ work: () async throws -> Result) async throws -> Result {
  do { return try await work() } catch let error as PeatError {
    throw error.status
  } catch is CancellationError {
    throw RPCError(code: .cancelled, message: "The call was cancelled.")
  }
}
