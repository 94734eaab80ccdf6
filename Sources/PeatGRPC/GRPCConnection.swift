import Foundation
import GRPCCore
import GRPCNIOTransportHTTP2Posix
import PeatFederation
import PeatSecurity
import PeatTensor

import enum Crypto.P256

/// A client's connection to a coordinator over gRPC.
///
/// It is made lazily and made anew after it broke; while the coordinator can't be reached, calls throw
/// `PeatError.unavailable`.
public final class GRPCConnection: CoordinatorConnection {
  public let address: String
  private let client: GRPCClient<HTTP2ClientTransport.Posix>
  private let federation: Wire.Client<HTTP2ClientTransport.Posix>
  private let connections: Task<Void, any Error>
  private let chunkBytes: Int
  private let limits: LinkLimits
  private let diagnosis: ConnectionDiagnosis
  /// What updates are signed with.
  private let key: P256.Signing.PrivateKey?
  /// From when to when the own certificate is valid.
  private let validity: ClosedRange<Date>?

  /// - Parameters:
  ///   - address: the coordinator's host, by name or number, and port.
  ///   - security: how the connection is protected.
  ///   - limits: how much of the link large transfers may take.
  public init(
    to address: NetworkAddress, security: ClientSecurity,
    limits: LinkLimits = .none, chunkBytes: Int = TransferLimits.chunkBytes
  ) throws {
    precondition(
      (1...TransferLimits.largestChunk).contains(chunkBytes),
      "GRPCConnection: pieces of \(chunkBytes) bytes")
    self.address = address.description
    self.limits = limits
    self.chunkBytes = Pacer.chunk(chunkBytes, at: limits.upload)
    if case .mutualTLS(let identity) = security {
      try identity.check(as: .client)
      key = try identity.signingKey
      let own = identity.certificate
      validity = own.notValidBefore...max(own.notValidBefore, own.notValidAfter)
    } else {
      (key, validity) = (nil, nil)
    }
    let isPlaintext = if case .plaintext = security { true } else { false }
    diagnosis = ConnectionDiagnosis(isPlaintext: isPlaintext)
    let transport: HTTP2ClientTransport.Posix
    do {
      let host = address.host == "localhost" ? "127.0.0.1" : address.host
      var configuration = Self.transportConfiguration
      configuration.channelDebuggingCallbacks.onCreateTCPConnection = diagnosis.watch
      transport = try HTTP2ClientTransport.Posix(
        target: Self.target(host, address.port),
        transportSecurity: try security.transport(to: host, diagnosis), config: configuration)
    } catch let error as PeatError { throw error } catch {
      throw PeatError.usage("Can't connect to \(address): \(error)")
    }
    let client = GRPCClient(transport: transport)
    self.client = client
    federation = Wire.Client(wrapping: client)
    connections = Task { try await client.runConnections() }
  }

  private static func target(_ host: String, _ port: Int) -> any ResolvableTarget {
    if host.contains(":") { return .ipv6(address: host, port: port) }
    if host.allSatisfy({ $0.isNumber || $0 == "." }) { return .ipv4(address: host, port: port) }
    return .dns(host: host, port: port)
  }

  /// Quick to connect anew, and pings that notice a coordinator that died without a word.
  ///
  /// A ping waits behind the bytes that are on their way: the window is what a link of 1 Mbit/s carries in 4 s, well below the pings' timeout.
  private static var transportConfiguration: HTTP2ClientTransport.Posix.Config {
    .defaults { config in
      config.backoff = .init(
        initial: .milliseconds(100), max: .seconds(2), multiplier: 1.6, jitter: 0.2)
      config.connection.keepalive = .init(
        time: .seconds(10), timeout: .seconds(20), allowWithoutCalls: true)
      config.http2.targetWindowSize = 512 * 1024
    }
  }

  private func options(timeout: Duration?) -> CallOptions {
    var options = CallOptions.defaults
    options.timeout = timeout
    options.maxResponseMessageBytes = TransferLimits.largestChunk + 64 * 1024
    return options
  }

  private var short: CallOptions { options(timeout: .seconds(30)) }

  /// Does a call and gives its errors as `PeatError`. Where the coordinator has its hands full, it is asked again when it said.
  private func calling<Result>(
    _ call: () async throws -> Result
  ) async throws -> Result {
    var patience = 20
    while true {
      do {
        let result = try await call()
        diagnosis.clear()
        return result
      } catch {
        if patience > 0, !Task.isCancelled, let wait = (error as? RPCError)?.retryHint {
          patience -= 1
          try await Task.sleep(for: wait)
          continue
        }
        let error = clockDiffers(error) ?? diagnosed(error)
        return try await translatingErrors(of: address) { () async throws -> Result in throw error }
      }
    }
  }

  /// What is known of why a connection could not be made, in place of gRPC's words for it.
  private func diagnosed(_ error: any Error) -> any Error {
    guard let status = error as? RPCError, status.code == .unavailable || status.code == .unknown,
      !status.metadata[stringValues: codeKey].contains(where: { _ in true }),
      status.cause as? PeatError == nil
    else { return error }
    return diagnosis.problem(with: address) ?? error
  }

  /// Of a certificate that the coordinator finds too old or too new, and this machine does not: one of both clocks is wrong, and may be set right. So it is tried again.
  private func clockDiffers(_ error: any Error) -> PeatError? {
    guard let status = error as? RPCError, let validity,
      let theirs = status.metadata[stringValues: clockKey].first(where: { _ in true })
    else { return nil }
    let now = Date()
    guard validity.contains(now) else { return nil }
    return .unavailable(
      "The coordinator does not take this device's certificate, as its clock shows \(theirs.prefix(40)); here it is \(now.iso), and the certificate is valid from \(validity.lowerBound.iso) to \(validity.upperBound.iso). One of both clocks is wrong: ask the coordinator's owner to look, and look at yours."
    )
  }

  // MARK: First contact

  /// Enrols with a token and gives the identity that it was worth.
  ///
  /// - Parameters:
  ///   - client: under which name to take part.
  ///   - key: the newcomer's own key; it stays here.
  /// - Throws: `usage` where the coordinator is not the one that the token is of, or does not take the token.
  static func enrol(
    _ token: EnrolmentToken, as client: ClientID, key: P256.Signing.PrivateKey,
    at address: NetworkAddress
  ) async throws -> Identity {
    let connection = try GRPCConnection(
      to: address, security: .newcomer(.init(key: key, authority: token.ca)))
    do {
      let identity = try await connection.enrol(token, as: client, key)
      await connection.close()
      return identity
    } catch {
      await connection.close()
      throw error
    }
  }

  private func enrol(
    _ token: EnrolmentToken, as client: ClientID, _ key: P256.Signing.PrivateKey
  ) async throws -> Identity {
    var request = Fedpeat_V1_EnrolRequest()
    request.protocolVersion = UInt32(protocolVersion)
    request.token = token.proof.token
    request.secret = token.proof.secret
    request.run = token.run.name
    request.client = client.name
    let reply = try await calling { [request] in
      try await federation.enrol(request, options: short)
    }
    return try await Identity(
      enrolled: reply.certificates.map(Array.init), authorities: reply.authorities.map(Array.init),
      key: key, client: client, token: token)
  }

  /// Bytes per second down and up: of a few kilobytes, and of more where those were there at once.
  public func measureLink() async throws -> DeviceRates? {
    let latency = min(try await probe(up: 0, down: 0), try await probe(up: 0, down: 0))
    func rate(_ limit: Double?, _ probe: (Int) async throws -> Double) async throws -> Double {
      var size = min(16 * 1024, limit.map { max(Int($0), 1024) } ?? .max)
      var seconds = try await probe(size) - latency
      if seconds < 0.05 {
        size = TransferLimits.probeBytes
        seconds = try await probe(size) - latency
      }
      return min(Double(size) / max(seconds, 1e-4), limit ?? .infinity)
    }
    return DeviceRates(
      download: try await rate(limits.download) { try await probe(up: 0, down: $0) },
      upload: try await rate(limits.upload) { try await probe(up: $0, down: 0) })
  }

  /// Seconds until so many bytes were up and down, at the rates that are allowed.
  private func probe(up: Int, down: Int) async throws -> Double {
    let clock = ContinuousClock()
    let start = clock.now
    var pacers = (up: Pacer(limits.upload), down: Pacer(limits.download))
    var request = Fedpeat_V1_ProbeMessage()
    request.payload = Data(count: up)
    request.wanted = UInt32(down)
    let reply = try await calling { [request] in
      try await federation.probe(request, options: short).payload.count
    }
    try await pacers.up.pass(up)
    try await pacers.down.pass(reply)
    return (clock.now - start).seconds
  }

  public func join(_ request: JoinRequest) async throws -> JoinReply {
    try await calling {
      try await federation.join(.init(request), options: short).value
    }
  }

  public func nextTask(_ caller: Caller) async throws -> TaskReply {
    try await calling {
      try await federation.nextTask(.init(caller), options: options(timeout: .seconds(60))).value
    }
  }

  public func download(
    _ request: DownloadRequest, to write: @Sendable (Data) async throws -> Void
  ) async throws {
    try await withoutActuallyEscaping(write) { write in
      try await calling {
        try await federation.download(
          .init(request), options: options(timeout: nil)
        ) { [limits] response in
          var pacer = Pacer(limits.download)
          for try await chunk in response.messages {
            try await pacer.pass(chunk.data.count)
            try await write(chunk.data)
          }
        }
      }
    }
  }

  public func offer(_ offer: UploadOffer) async throws -> UploadAnswer {
    var request = Fedpeat_V1_UploadOffer(offer)
    // What is no header can't be signed, nor is it taken.
    if let key, let header = try? UpdateHeader(json: offer.header, from: ClientUpdate.headerFile) {
      request.signature = try UpdateStatement(offer, header).signed(by: key)
    }
    return try await calling { [request] in
      try await federation.offer(request, options: short).value
    }
  }

  public func upload(
    _ payload: Data, ticket: String, from offset: Int,
    onSent: @escaping @Sendable (Int) -> Void
  ) async throws -> UploadReply {
    try await calling { [chunkBytes, limits] in
      try await federation.upload(options: options(timeout: nil)) { writer in
        var chunk = Fedpeat_V1_UploadChunk()
        chunk.ticket = ticket
        var offset = offset
        var pacer = Pacer(limits.upload)
        if offset == payload.count { try await writer.write(chunk) }
        while offset < payload.count {
          let start = payload.startIndex + offset
          chunk.offset = UInt64(offset)
          chunk.data = Data(payload[start..<min(start + chunkBytes, payload.endIndex)])
          try await writer.write(chunk)
          offset += chunk.data.count
          try await pacer.pass(chunk.data.count)
          onSent(offset)
        }
      }.value
    }
  }

  public func report(_ failure: FailureReport) async throws {
    try await calling {
      _ = try await federation.report(.init(failure), options: short)
    }
  }

  public func attend(_ caller: Caller) async throws -> AttendReply {
    try await calling {
      try await federation.attend(.init(caller), options: options(timeout: nil)).value
    }
  }

  public func leave(_ caller: Caller) async throws {
    try await calling {
      _ = try await federation.leave(.init(caller), options: options(timeout: .seconds(5)))
    }
  }

  public func close() async {
    client.beginGracefulShutdown()
    connections.cancel()
    _ = await connections.result
  }

  deinit { connections.cancel() }
}
