import Foundation
import PeatTensor

/// Sizes that both sides of a transport keep to.
public enum TransferLimits {
  /// How many bytes travel in one piece: small enough that a hundred at a time, with the copies that are made on the way, take little memory. With what is wrapped around
  /// it, it fits into a buffer of 32 KiB.
  public static let chunkBytes = 32 * 1024 - 512
  /// The largest piece that is accepted.
  public static let largestChunk = 1024 * 1024
  /// The largest message of a measurement of the link.
  public static let probeBytes = 256 * 1024
  /// The largest `update.json` that is accepted.
  public static let headerBytes = 64 * 1024
}

/// What the server side of a transport calls: the coordinator as its clients see it.
///
/// Errors are `PeatError`s; a transport carries their code and message to the other side unchanged.
public protocol CoordinatorEndpoint: Sendable {
  func join(_ request: JoinRequest) async throws -> JoinReply

  /// Waits for work, up to half a minute.
  func nextTask(_ caller: Caller) async throws -> TaskReply

  /// Hands the bytes of a blob to `write` in pieces of `chunkBytes`, as fast as `write` returns.
  func download(
    _ request: DownloadRequest, chunkBytes: Int, to write: @Sendable (Data) async throws -> Void
  ) async throws

  /// Checks an update's header and says from where on the tensors are to be sent.
  func offer(_ offer: UploadOffer) async throws -> UploadAnswer

  /// Takes a piece of an update. Throws `UpdateRefusal` where it is not as announced.
  func receive(_ chunk: Data, ticket: String, offset: Int) async throws

  /// Checks the complete update and counts it.
  func finishUpload(ticket: String) async throws -> UploadReply

  func report(_ failure: FailureReport) async throws

  /// Stays as long as the client is there: until the run ends or the session is no longer known.
  ///
  /// A transport cancels the call when the connection breaks. The client then counts as lost if it does not come back
  /// within the grace. A client attends while it has no call of `nextTask` open, which says the same.
  func attend(_ caller: Caller) async throws -> AttendReply

  /// The client leaves for good.
  func leave(_ caller: Caller) async

  /// The transport turned a client away that had shown who it is: its certificate was revoked, or has ended.
  func turnedAway(_ client: ClientID, reason: String) async
}

extension CoordinatorEndpoint {
  public func turnedAway(_ client: ClientID, reason: String) async {}
}

/// A client's way to the coordinator: the client side of a transport.
///
/// Every call throws `PeatError.unavailable` where the coordinator can't be reached.
public protocol CoordinatorConnection: Sendable {
  /// Where the coordinator is, for messages.
  var address: String { get }

  /// How fast bytes come down and go up, where that can be measured before joining.
  func measureLink() async throws -> DeviceRates?

  func join(_ request: JoinRequest) async throws -> JoinReply
  func nextTask(_ caller: Caller) async throws -> TaskReply

  /// Hands the bytes of a blob from the offset on to `write`, as they arrive.
  func download(
    _ request: DownloadRequest, to write: @Sendable (Data) async throws -> Void
  ) async throws

  func offer(_ offer: UploadOffer) async throws -> UploadAnswer

  /// Sends `payload` from the offset on and gives the coordinator's verdict.
  ///
  /// - Parameter onSent: called with the number of bytes, of the whole, that have gone so far.
  func upload(
    _ payload: Data, ticket: String, from offset: Int,
    onSent: @escaping @Sendable (Int) -> Void
  ) async throws -> UploadReply

  func report(_ failure: FailureReport) async throws

  /// Tells the coordinator that this client is there, and stays until the run ends.
  func attend(_ caller: Caller) async throws -> AttendReply

  func leave(_ caller: Caller) async throws

  /// Ends the connection. Calls after it throw.
  func close() async
}

extension CoordinatorConnection {
  public func measureLink() async throws -> DeviceRates? { nil }

  public func upload(
    _ payload: Data, ticket: String, from offset: Int
  ) async throws -> UploadReply {
    try await upload(payload, ticket: ticket, from: offset, onSent: { _ in })
  }
}
