import Foundation
import GRPCCore
import PeatFederation
import PeatSecurity
import PeatTensor

/// The server side of the protocol: lets a call in, hands it to the coordinator, and writes down what came of it.
struct FederationService: Wire.SimpleServiceProtocol {
  let endpoint: any CoordinatorEndpoint
  let door: Doorkeeper
  let chunkBytes: Int
  let connections: OpenConnections
  private let tickets = Tickets()
  private let downloads = TransferTurns()
  private let uploads = UploadTurns()

  init(
    endpoint: any CoordinatorEndpoint, door: Doorkeeper, chunkBytes: Int,
    connections: OpenConnections
  ) {
    self.endpoint = endpoint
    self.door = door
    self.chunkBytes = chunkBytes
    self.connections = connections
  }

  func enrol(
    request: Fedpeat_V1_EnrolRequest, context: ServerContext
  ) async throws -> Fedpeat_V1_EnrolReply {
    let peer = Peer(address: context.remotePeer)
    let name = try? ClientID(request.client)
    return try await reportingErrors {
      do {
        let key = try door.newcomersKey(context)
        guard let enrolment = door.credentials?.enrolment else {
          throw PeatError.usage(
            "This coordinator enrols nobody: it was started with certificates of its own. Ask its owner for yours."
          )
        }
        guard request.protocolVersion == UInt32(protocolVersion) else {
          throw PeatError.usage(
            "The client speaks version \(request.protocolVersion) of the protocol, this coordinator "
              + "\(protocolVersion). Use the same version of the program on both sides.")
        }
        let wish = EnrolmentRequest(
          proof: .init(token: request.token, secret: request.secret),
          client: try ClientID(request.client), run: try RunID(request.run))
        let own = try enrolment.authority.enrol(wish, key: key, run: enrolment.run)
        door.record(
          "enrol", by: peer, as: name, .ok,
          ["token": request.token, "certificate": own.serial])
        var reply = Fedpeat_V1_EnrolReply()
        reply.certificates = [Data(try own.der)]
        reply.authorities = [Data(try enrolment.authority.certificate.der)]
        return reply
      } catch {
        door.record(
          "enrol", by: peer, as: name, .refused,
          ["token": String(request.token.prefix(16)), "reason": reason(error)])
        throw error
      }
    }
  }

  func probe(
    request: Fedpeat_V1_ProbeMessage, context: ServerContext
  ) async throws -> Fedpeat_V1_ProbeMessage {
    _ = try await door.admit(context, as: nil)
    var reply = Fedpeat_V1_ProbeMessage()
    reply.payload = Data(count: min(Int(request.wanted), TransferLimits.probeBytes))
    return reply
  }

  func join(
    request: Fedpeat_V1_JoinRequest, context: ServerContext
  ) async throws -> Fedpeat_V1_JoinReply {
    try await reportingErrors {
      let join = try request.value
      let peer = try await door.admit(context, as: join.client)
      do {
        let reply = try await endpoint.join(join)
        door.record("join", by: peer, as: join.client)
        return .init(reply)
      } catch {
        door.record("join", by: peer, as: join.client, .refused, ["reason": reason(error)])
        throw error
      }
    }
  }

  func nextTask(
    request: StreamingServerRequest<Fedpeat_V1_Caller>, context: ServerContext
  ) async throws -> StreamingServerResponse<Fedpeat_V1_TaskReply> {
    try await whileConnected {
      try await nextTask(request: message(of: request), context: context)
    }
  }

  func nextTask(
    request: Fedpeat_V1_Caller, context: ServerContext
  ) async throws -> Fedpeat_V1_TaskReply {
    try await reportingErrors {
      try message(of: try await endpoint.nextTask(try await admitted(request, context)), context)
    }
  }

  /// What is answered to who has waited, maybe for long. A function of its own: what it takes is not to be kept by all that wait.
  @inline(never)
  private func message(
    of reply: TaskReply, _ context: ServerContext
  ) throws -> Fedpeat_V1_TaskReply {
    if case .train = reply { try door.lookAgain(context) }
    return .init(reply)
  }

  func download(
    request: Fedpeat_V1_DownloadRequest, response: RPCWriter<Fedpeat_V1_Chunk>,
    context: ServerContext
  ) async throws {
    try await reportingErrors {
      let download = try request.value
      let peer = try await door.admit(context, as: download.caller.client)
      let what = ["digest": download.digest.hex, "from": "\(download.offset)"]
      let look = SecondLook(door, context, at: peer)
      do {
        try await door.admission.transfer(by: peer.account) {
          try await downloads.take { turn in
            try await endpoint.download(download, chunkBytes: chunkBytes) { data in
              try look.take()
              var chunk = Fedpeat_V1_Chunk()
              chunk.data = data
              downloads.pause(turn)
              try await response.write(chunk)
              try await connections.settle(context.remotePeer)
              try await downloads.resume(turn)
            }
          }
        }
        door.record("download", by: peer, as: download.caller.client, .ok, what)
      } catch {
        door.record(
          "download", by: peer, as: download.caller.client, .failed,
          what.merging(["reason": reason(error)]) { $1 })
        throw error
      }
    }
  }

  func offer(
    request: Fedpeat_V1_UploadOffer, context: ServerContext
  ) async throws -> Fedpeat_V1_UploadAnswer {
    try await reportingErrors {
      var offer = try request.value
      let peer = try await door.admit(context, as: offer.caller.client)
      if let key = peer.key, let serial = peer.serial {
        offer.proof = UpdateProof(
          signature: request.signature.prefix(256), key: Data(key), certificate: serial)
      }
      let answer = try await endpoint.offer(offer)
      var what = [
        "payload": offer.payload.digest.hex, "header": Digest(of: offer.header).hex,
        "attempt": "\(offer.attempt)",
      ]
      switch answer {
      case .send(let ticket, _):
        if peer.client != nil { tickets.give(ticket, to: peer.account) }
        try await uploads.wait(for: ticket)
        what["signature"] = request.signature.base64EncodedString()
        what["session"] = offer.caller.session
        door.record("offer", by: peer, as: offer.caller.client, .ok, what)
      case .refused(let refusal):
        what["code"] = refusal.code.rawValue
        what["reason"] = refusal.message
        door.record("offer", by: peer, as: offer.caller.client, .refused, what)
      case .accepted, .rejoin: break
      }
      return .init(answer)
    }
  }

  func upload(
    request: RPCAsyncSequence<Fedpeat_V1_UploadChunk, any Error>, context: ServerContext
  ) async throws -> Fedpeat_V1_UploadReply {
    try await reportingErrors {
      let peer = try await door.admit(context, as: nil)
      return try await door.admission.transfer(by: peer.account) {
        let reply = try await receive(request, context, from: peer)
        switch reply {
        case .accepted: door.record("update", by: peer)
        case .refused(let refusal):
          door.record(
            "update", by: peer, .refused,
            ["code": refusal.code.rawValue, "reason": refusal.message])
        }
        return .init(reply)
      }
    }
  }

  private func receive(
    _ request: RPCAsyncSequence<Fedpeat_V1_UploadChunk, any Error>, _ context: ServerContext,
    from peer: Peer
  ) async throws -> UploadReply {
    var ticket: String?
    do {
      let reply = try await receive(request, context, from: peer, &ticket)
      if let ticket { uploads.end(ticket) }
      return reply
    } catch {
      if let ticket { uploads.end(ticket) }
      throw error
    }
  }

  private func receive(
    _ request: RPCAsyncSequence<Fedpeat_V1_UploadChunk, any Error>, _ context: ServerContext,
    from peer: Peer, _ ticket: inout String?
  ) async throws -> UploadReply {
    let look = SecondLook(door, context, at: peer)
    do {
      var pieces = request.makeAsyncIterator()
      while true {
        if let ticket { uploads.pause(ticket) }
        guard let chunk = try await pieces.next() else { break }
        guard ticket == nil || ticket == chunk.ticket else {
          throw UpdateRefusal(.malformed, "Pieces of two uploads arrived as one.")
        }
        if ticket == nil, peer.client != nil, !tickets.belongs(chunk.ticket, to: peer.account) {
          throw UpdateRefusal(
            .notExpected, "No upload is open under this ticket. Offer it again.")
        }
        ticket = chunk.ticket
        try await uploads.resume(chunk.ticket)
        guard let offset = Int(exactly: chunk.offset) else {
          throw PeatError.badData("A piece can't begin at byte \(chunk.offset).")
        }
        // The first message names the ticket and may carry no data.
        if chunk.data.isEmpty { continue }
        try look.take()
        try await endpoint.receive(chunk.data, ticket: chunk.ticket, offset: offset)
      }
      guard let ticket else { throw PeatError.badData("An upload without a ticket arrived.") }
      // Nothing is taken of who does not belong here any more.
      try door.lookAgain(context, at: peer)
      return try await endpoint.finishUpload(ticket: ticket)
    } catch let refusal as UpdateRefusal { return .refused(refusal) }
  }

  func report(
    request: Fedpeat_V1_FailureReport, context: ServerContext
  ) async throws -> Fedpeat_V1_Empty {
    try await reportingErrors {
      let failure = try request.value
      let peer = try await door.admit(context, as: failure.caller.client)
      try await endpoint.report(failure)
      door.record(
        "report", by: peer, as: failure.caller.client, .ok,
        ["round": "\(failure.round)", "reason": failure.reason])
      return .init()
    }
  }

  func attend(
    request: StreamingServerRequest<Fedpeat_V1_Caller>, context: ServerContext
  ) async throws -> StreamingServerResponse<Fedpeat_V1_AttendReply> {
    try await whileConnected {
      try await attend(request: message(of: request), context: context)
    }
  }

  func attend(
    request: Fedpeat_V1_Caller, context: ServerContext
  ) async throws -> Fedpeat_V1_AttendReply {
    try await reportingErrors {
      .init(try await endpoint.attend(try await admitted(request, context)))
    }
  }

  func leave(
    request: Fedpeat_V1_Caller, context: ServerContext
  ) async throws -> Fedpeat_V1_Empty {
    try await reportingErrors {
      let caller = try request.value
      let peer = try await door.admit(context, as: caller.client)
      await endpoint.leave(caller)
      door.record("leave", by: peer, as: caller.client)
      return .init()
    }
  }

  private func reason(_ error: any Error) -> String {
    switch error {
    case let error as PeatError: error.message
    case let error as RPCError: error.message
    case is CancellationError: "the call was cancelled"
    default: "\(error)"
    }
  }

  // MARK: Calls that wait

  // Each idle client has one open. A task keeps what its stack ever took for as long as it lives: what comes before the waiting is done in tasks of its own, which end.

  private func message<Message: Sendable>(
    of request: StreamingServerRequest<Message>
  ) async throws -> Message {
    try await Task { try await ServerRequest(stream: request).message }.value
  }

  private func admitted(
    _ request: Fedpeat_V1_Caller, _ context: ServerContext
  ) async throws -> Caller {
    try await Task {
      let caller = try request.value
      _ = try await door.admit(context, as: caller.client)
      return caller
    }.value
  }

  /// Cancels the work when the call is cancelled or its connection breaks.
  private func whileConnected<Reply: Sendable>(
    _ work: @escaping @Sendable () async throws -> Reply
  ) async throws -> StreamingServerResponse<Reply> {
    let job = Task {
      StreamingServerResponse(single: ServerResponse(message: try await work()))
    }
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
