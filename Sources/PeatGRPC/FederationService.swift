import Foundation
import GRPCCore
import PeatFederation
import PeatTensor

/// The server side of the protocol: hands each call to the coordinator.
struct FederationService: Wire.SimpleServiceProtocol {
  let endpoint: any CoordinatorEndpoint
  let chunkBytes: Int

  func probe(
    request: Fedpeat_V1_ProbeMessage, context: ServerContext
  ) async throws -> Fedpeat_V1_ProbeMessage {
    var reply = Fedpeat_V1_ProbeMessage()
    reply.payload = Data(count: min(Int(request.wanted), TransferLimits.probeBytes))
    return reply
  }

  func join(
    request: Fedpeat_V1_JoinRequest, context: ServerContext
  ) async throws -> Fedpeat_V1_JoinReply {
    try await reportingErrors { .init(try await endpoint.join(try request.value)) }
  }

  func nextTask(
    request: Fedpeat_V1_Caller, context: ServerContext
  ) async throws -> Fedpeat_V1_TaskReply {
    try await reportingErrors {
      let caller = try request.value
      return .init(try await whileConnected(context) { try await endpoint.nextTask(caller) })
    }
  }

  func download(
    request: Fedpeat_V1_DownloadRequest, response: RPCWriter<Fedpeat_V1_Chunk>,
    context: ServerContext
  ) async throws {
    try await reportingErrors {
      try await endpoint.download(
        try request.value, chunkBytes: chunkBytes
      ) { data in
        var chunk = Fedpeat_V1_Chunk()
        chunk.data = data
        try await response.write(chunk)
      }
    }
  }

  func offer(
    request: Fedpeat_V1_UploadOffer, context: ServerContext
  ) async throws -> Fedpeat_V1_UploadAnswer {
    try await reportingErrors { .init(try await endpoint.offer(try request.value)) }
  }

  func upload(
    request: RPCAsyncSequence<Fedpeat_V1_UploadChunk, any Error>, context: ServerContext
  ) async throws -> Fedpeat_V1_UploadReply {
    try await reportingErrors {
      var ticket: String?
      do {
        for try await chunk in request {
          ticket = chunk.ticket
          guard let offset = Int(exactly: chunk.offset) else {
            throw PeatError.badData("A piece can't begin at byte \(chunk.offset).")
          }
          // The first message names the ticket and may carry no data.
          if chunk.data.isEmpty { continue }
          try await endpoint.receive(chunk.data, ticket: chunk.ticket, offset: offset)
        }
        guard let ticket else { throw PeatError.badData("An upload without a ticket arrived.") }
        return .init(try await endpoint.finishUpload(ticket: ticket))
      } catch let refusal as UpdateRefusal { return .init(.refused(refusal)) }
    }
  }

  func report(
    request: Fedpeat_V1_FailureReport, context: ServerContext
  ) async throws -> Fedpeat_V1_Empty {
    try await reportingErrors {
      try await endpoint.report(try request.value)
      return .init()
    }
  }

  func attend(
    request: Fedpeat_V1_Caller, context: ServerContext
  ) async throws -> Fedpeat_V1_AttendReply {
    try await reportingErrors {
      let caller = try request.value
      return .init(try await whileConnected(context) { try await endpoint.attend(caller) })
    }
  }

  func leave(
    request: Fedpeat_V1_Caller, context: ServerContext
  ) async throws -> Fedpeat_V1_Empty {
    try await reportingErrors {
      await endpoint.leave(try request.value)
      return .init()
    }
  }

  /// Cancels the work when the call is cancelled or its connection breaks.
  private func whileConnected<Result: Sendable>(
    _ context: ServerContext, _ work: @escaping @Sendable () async throws -> Result
  ) async throws -> Result {
    let job = Task { try await work() }
    return try await withTaskCancellationHandler {
      try await withRPCCancellationHandler {
        try await job.value
      } onCancelRPC: {
        job.cancel()
      }
    } onCancel: {
      job.cancel()
    }
  }
}
