import Foundation
import PeatFederation
import PeatTensor
import SwiftProtobuf

/// What arrives from clients, by kind. It can be read without a connection: for whoever wants to try out what bytes do.
package enum ClientMessage: CaseIterable, Sendable {
  case enrol, probe, join, caller, download, offer, chunk, failure

  /// Reads a message as the service does. Throws where the bytes are none, or say what can't be.
  package func read(_ data: Data) throws {
    switch self {
    case .enrol: _ = try Fedpeat_V1_EnrolRequest(serializedBytes: data)
    case .probe: _ = try Fedpeat_V1_ProbeMessage(serializedBytes: data)
    case .join: _ = try Fedpeat_V1_JoinRequest(serializedBytes: data).value
    case .caller: _ = try Fedpeat_V1_Caller(serializedBytes: data).value
    case .download: _ = try Fedpeat_V1_DownloadRequest(serializedBytes: data).value
    case .offer: _ = try Fedpeat_V1_UploadOffer(serializedBytes: data).value
    case .chunk: _ = try Fedpeat_V1_UploadChunk(serializedBytes: data)
    case .failure: _ = try Fedpeat_V1_FailureReport(serializedBytes: data).value
    }
  }

  /// One that is right, to change.
  package func example() throws -> Data {
    let digest = Digest(of: Data())
    let caller = Caller(client: "ada", session: "s", freeMemoryBytes: 1 << 30)
    switch self {
    case .enrol:
      var message = Fedpeat_V1_EnrolRequest()
      message.protocolVersion = 1
      (message.token, message.secret) = ("0123456789abcdef", "secret")
      (message.run, message.client) = ("run-0", "ada")
      return try message.serializedData()
    case .probe:
      var message = Fedpeat_V1_ProbeMessage()
      (message.payload, message.wanted) = (Data([1, 2, 3]), 100)
      return try message.serializedData()
    case .join:
      let rates = DeviceRates(download: 1e6, upload: 1e5, compute: 1e9)
      return try Fedpeat_V1_JoinRequest(
        JoinRequest(
          client: "ada", freeMemoryBytes: 1 << 30, holds: [digest], rates: rates, rankLimit: 4)
      ).serializedData()
    case .caller: return try Fedpeat_V1_Caller(caller).serializedData()
    case .download:
      return try Fedpeat_V1_DownloadRequest(
        DownloadRequest(caller: caller, digest: digest, offset: 7)
      ).serializedData()
    case .offer:
      var message = Fedpeat_V1_UploadOffer(
        UploadOffer(
          caller: caller, header: Data("{}".utf8),
          payload: BlobReference(digest: digest, bytes: 1000)))
      message.signature = Data(repeating: 7, count: 70)
      return try message.serializedData()
    case .chunk:
      var message = Fedpeat_V1_UploadChunk()
      (message.ticket, message.offset, message.data) = ("ticket", 64, Data([1, 2, 3]))
      return try message.serializedData()
    case .failure:
      return try Fedpeat_V1_FailureReport(
        FailureReport(caller: caller, round: 1, reason: "no memory")
      ).serializedData()
    }
  }
}
