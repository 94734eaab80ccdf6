import Foundation
import PeatTensor

extension Coordinator: CoordinatorEndpoint {
  public func join(_ request: JoinRequest) async throws -> JoinReply {
    guard request.protocolVersion == protocolVersion else {
      throw PeatError.usage(
        "The client speaks version \(request.protocolVersion) of the protocol, this coordinator "
          + "\(protocolVersion). Use the same version of the program on both sides.")
    }
    guard request.client != .server else {
      throw PeatError.usage("The name 'server' is the coordinator's own. Choose another.")
    }
    guard request.holds.count <= 256 else {
      throw PeatError.badData("A client can't hold \(request.holds.count) packages.")
    }
    if let limit = request.rankLimit, limit < 1 {
      throw PeatError.badData(
        "A client can't train \(limit) components; its rankLimit is at least 1.")
    }
    try checkKeeping()
    let client = request.client
    guard histories[client] != nil || histories.count < configuration.clientLimit else {
      throw PeatError.unavailable(
        "This run knows \(histories.count) clients already and takes no more.")
    }
    let returning = stays[client] != nil
    let session = newSession()
    stays[client] = Stay(
      session: session, freeMemoryBytes: request.freeMemoryBytes, holds: Set(request.holds),
      rates: request.rates.plausible, rankLimit: request.rankLimit)
    if histories[client] == nil {
      var history = History()
      history.place = histories.count
      history.firstRound = machine.round
      histories[client] = history
    }
    // What it kept of an earlier run it has seen too.
    for level in levels.indices where request.holds.contains(levels[level].digest) {
      noteClaim(of: client, to: level)
    }
    logger.info("'\(client)' \(returning ? "joined again" : "joined")")
    tell(.clientJoined(client))
    // The process that held the old session learns that it was superseded.
    wake(of: client)
    process(.clientJoined(client, restarted: true))
    beginGrace(of: Caller(client: client, session: session), after: configuration.heartbeat)
    return JoinReply(
      run: configuration.run, session: session, rounds: configuration.rules.rounds)
  }

  /// A call for work is an attendance too: whoever waits for work holds one call open, not two.
  public func nextTask(_ caller: Caller) async throws -> TaskReply {
    guard let stay = stays[caller.client] else { return .rejoin }
    guard stay.session == caller.session else { return .superseded }
    noteFreeMemory(of: caller)
    beginAttendance(of: caller)
    do {
      let start = alarmWatch.elapsed
      let limit = min(configuration.pollTimeout, configuration.heartbeat)
      while true {
        try Task.checkCancellation()
        let left = limit - (alarmWatch.elapsed - start)
        if let answer = try answer(to: caller, left: left) {
          endAttendance(of: caller, pause: configuration.heartbeat)
          return answer.reply
        }
        await waitForNews(of: caller.client, timeout: left)
      }
    } catch {
      endAttendance(of: caller)
      throw error
    }
  }

  /// A reply by reference: a call that waits for minutes keeps no room for it.
  private final class Answer {
    let reply: TaskReply
    init(_ reply: TaskReply) { self.reply = reply }
  }

  @inline(never)
  private func answer(to caller: Caller, left: Duration) throws -> Answer? {
    try reply(to: caller, left: left).map(Answer.init)
  }

  /// `nil`: there is nothing to say yet.
  private func reply(to caller: Caller, left: Duration) throws -> TaskReply? {
    guard let stay = stays[caller.client] else { return .rejoin }
    guard stay.session == caller.session else { return .superseded }
    try checkKeeping()
    if let ending = machine.ending {
      noteHeardTheEnd(caller.client)
      return .finished(ending.forClients)
    }
    if let task = tasks[caller.client] { return .train(task) }
    // It is done with what was withdrawn.
    if machine.isUnfinished(caller.client) { process(.clientReady(caller.client)) }
    // One that was lost while this call waited has to ask again to count as present.
    if left <= .zero || !machine.present.contains(caller.client) { return .wait }
    return noticeToTell(caller.client).map { .leftOut($0) }
  }

  public func attend(_ caller: Caller) async throws -> AttendReply {
    guard let stay = stays[caller.client] else { return .rejoin }
    guard stay.session == caller.session else { return .superseded }
    beginAttendance(of: caller)
    noteSteps(of: caller)
    do {
      let start = alarmWatch.elapsed
      while true {
        let left = configuration.heartbeat - (alarmWatch.elapsed - start)
        if let reply = try attendReply(to: caller, left: left) {
          // A machine that froze or lost its network does not ask again. Over a slow link, answer and call wait behind what else travels.
          endAttendance(of: caller, pause: configuration.grace * 2)
          return reply
        }
        try Task.checkCancellation()
        await waitForNews(of: caller.client, timeout: left)
      }
    } catch {
      endAttendance(of: caller)
      throw error
    }
  }

  /// `nil`: there is nothing to say yet.
  @inline(never)
  private func attendReply(to caller: Caller, left: Duration) throws -> AttendReply? {
    guard let stay = stays[caller.client] else { return .rejoin }
    guard stay.session == caller.session else { return .superseded }
    try checkKeeping()
    if let ending = machine.ending {
      noteHeardTheEnd(caller.client)
      return .finished(ending.forClients)
    }
    return left <= .zero && !Task.isCancelled ? .again : nil
  }

  private func noteHeardTheEnd(_ client: ClientID) {
    stays[client]?.heardTheEnd = true
    unaware.remove(client)
    wake(of: nil)
  }

  /// A client says with each beat of its heart how many steps of its training are done.
  private func noteSteps(of caller: Caller) {
    guard let steps = caller.steps, steps != stays[caller.client]?.steps else { return }
    stays[caller.client]?.steps = steps
    if steps > 0 { noteMove(of: caller.client) }
  }

  /// A client's bytes, or its training, move: its round waits for it.
  private func noteMove(of client: ClientID) {
    stays[client]?.moves += 1
    guard watches(client), let round = tasks[client]?.round else { return }
    process(.progressed(client, round: round))
  }

  private func beginAttendance(of caller: Caller) {
    stays[caller.client]?.attendances += 1
    stays[caller.client]?.arrivals += 1
    noteCall(of: caller)
  }

  /// How many calls of a client are open that say that it is there, for tests.
  package func openAttendances(of client: ClientID) -> Int { stays[client]?.attendances ?? 0 }

  /// - Parameter pause: how long it may take to attend again, beside the grace.
  private func endAttendance(of caller: Caller, pause: Duration = .zero) {
    // One that joined again meanwhile has attendances of its own.
    guard let stay = stays[caller.client], stay.session == caller.session else { return }
    stays[caller.client]?.attendances -= 1
    guard stay.attendances == 1 else { return }
    beginGrace(of: caller, after: pause)
  }

  /// A client says with each request for work what memory it has: a plan that waits for memory hears of it.
  private func noteFreeMemory(of caller: Caller) {
    guard let free = caller.freeMemoryBytes, free > 0,
      stays[caller.client]?.session == caller.session
    else { return }
    stays[caller.client]?.freeMemoryBytes = free
  }

  /// Takes the beginning of a call as a sign of life: the client is present, and has to attend from now on.
  ///
  /// Only the beginning: while a call waits for its answer, the client may have frozen.
  private func noteCall(of caller: Caller) {
    guard let stay = stays[caller.client], stay.session == caller.session, machine.ending == nil,
      !machine.present.contains(caller.client)
    else { return }
    process(.clientJoined(caller.client, restarted: false))
    if stay.attendances == 0 { beginGrace(of: caller, after: configuration.heartbeat) }
  }

  /// A client that has not begun to attend when the grace is over is lost, unless its bytes or its training moved meanwhile.
  private func beginGrace(of caller: Caller, after delay: Duration = .zero) {
    guard let stay = stays[caller.client], machine.ending == nil else { return }
    set(
      .absence(caller, arrivals: stay.arrivals, moves: stay.moves),
      after: delay + configuration.grace)
  }

  /// - Parameters: as they were when the grace began.
  func noteAbsence(of caller: Caller, arrivals: Int, moves: Int) {
    guard let now = stays[caller.client], now.session == caller.session, now.attendances == 0,
      now.arrivals == arrivals
    else { return }
    if now.moves > moves { return beginGrace(of: caller) }
    guard let reason = now.turnedAway else {
      return lose(caller.client, reason: "Nothing was heard from it any more.")
    }
    // It does not come back to this round, as one that was lost may.
    let round = tasks[caller.client]?.round ?? machine.round
    process(.clientFailed(caller.client, round: round, reason: "It was turned away. \(reason)"))
    lose(caller.client, reason: "It was turned away. \(reason)")
  }

  public func turnedAway(_ client: ClientID, reason: String) async {
    stays[client]?.turnedAway = reason
  }

  private func lose(_ client: ClientID, reason: String) {
    guard machine.present.contains(client), machine.ending == nil else { return }
    logger.warning("'\(client)' is lost: \(reason)")
    tell(.clientLost(client, reason: reason))
    process(.clientLost(client, reason: reason))
    // If it is there after all, it asks again.
    wake(of: client)
  }

  public func leave(_ caller: Caller) async {
    guard let stay = stays[caller.client], stay.session == caller.session else { return }
    stays[caller.client] = nil
    lose(caller.client, reason: "It left.")
    wake(of: caller.client)
    wake(of: nil)
  }

  // MARK: Downloads

  /// Not on the actor: clients download side by side.
  public nonisolated func download(
    _ request: DownloadRequest, chunkBytes: Int, to write: @Sendable (Data) async throws -> Void
  ) async throws {
    let caller = request.caller
    try await checkMayFetch(request.digest, caller)
    let size = try await store.size(of: request.digest)
    guard (0...size).contains(request.offset) else {
      throw PeatError.badData(
        "Byte \(request.offset) of a blob of \(size) bytes was asked for.")
    }
    var offset = request.offset
    while offset < size {
      try Task.checkCancellation()
      let piece = try await store.read(request.digest, at: offset, count: chunkBytes)
      if piece.isEmpty { break }
      let watch = Stopwatch(clock)
      try await write(piece)
      offset += piece.count
      await countDownload(piece.count, seconds: watch.seconds, for: caller.client)
    }
  }

  /// A client may fetch what its task names, and nothing else that lies in the store: other levels would show it more of the middle.
  private func checkMayFetch(_ digest: Digest, _ caller: Caller) throws {
    try checkKnown(caller)
    noteCall(of: caller)
    let client = caller.client
    let given = [tasks[client], withdrawn[client]].compactMap { $0 }.filter {
      machine.expectsUpdate(from: client, round: $0.round)
    }
    guard
      given.contains(where: { task in
        task.adapter.digest == digest
          || task.package.files.contains { $0.digest == digest }
      })
    else {
      throw PeatError.usage(
        "'\(caller.client)' has no task that needs the blob \(digest.short): its part in the round is over, or was another."
      )
    }
  }

  private func checkKnown(_ caller: Caller) throws {
    guard stays[caller.client]?.session == caller.session else {
      throw PeatError.usage("'\(caller.client)' has no session here. Join first.")
    }
  }

  private func countDownload(_ bytes: Int, seconds: Double, for client: ClientID) {
    count(Traffic(bytesDown: bytes), for: client)
    noteMove(of: client)
    trips[client]?.countDownload(seconds: seconds)
  }

  private func count(_ traffic: Traffic, for client: ClientID) {
    histories[client, default: History()].traffic += traffic
  }

  // MARK: Uploads

  public func offer(_ offer: UploadOffer) async throws -> UploadAnswer {
    let client = offer.caller.client
    guard let stay = stays[client], stay.session == offer.caller.session else { return .rejoin }
    try checkKeeping()
    // One that was away may have finished meanwhile: this is its first sign of life.
    noteCall(of: offer.caller)
    do {
      guard offer.header.count <= TransferLimits.headerBytes else {
        throw UpdateRefusal(
          .tooLarge,
          "The update's header takes \(offer.header.count) bytes; the limit is "
            + "\(TransferLimits.headerBytes).")
      }
      let header: UpdateHeader
      do { header = try UpdateHeader(json: offer.header, from: ClientUpdate.headerFile) } catch {
        throw UpdateRefusal(.malformed, failureReason(error))
      }
      let headerDigest = Digest(of: offer.header)
      try checkSignature(of: offer, header)
      if histories[client]?.lastTaken == .init(header: headerDigest, payload: offer.payload) {
        return .accepted  // The verdict was lost on the way; it is not counted twice.
      }
      let isExpected = machine.expectsUpdate(from: client, round: header.round)
      if header.client == client, header.run == configuration.run, header.round < machine.round,
        !isExpected
      {
        // A late one of an earlier round: no reason to end its part in this one.
        return .refused(
          UpdateRefusal(
            .wrongRound, "Round \(header.round) is over; round \(machine.round) has begun."))
      }
      let policy = (base(of: header.round) ?? base).policy
      try policy.check(header, from: client, bytes: offer.payload.bytes)
      try policy.check(header, followsTask: task(of: client, round: header.round))
      guard isExpected else {
        throw UpdateRefusal(
          .notExpected,
          "No update of '\(client)' is expected in round \(header.round): the round was closed, "
            + "or its part in it has ended.")
      }
      count(Traffic(bytesUp: offer.header.count), for: client)
      return .send(
        ticket: prepareUpload(offer, header, headerDigest), offset: uploads[client]?.received ?? 0)
    } catch let refusal as UpdateRefusal {
      refuse(client, refusal, round: (try? UpdateHeader(json: offer.header, from: ""))?.round)
      return .refused(refusal)
    }
  }

  /// The task that a client was given in a round, if it is its last one there.
  private func task(of client: ClientID, round: Int) -> TrainingTask? {
    if let task = tasks[client], task.round == round { return task }
    return withdrawn[client].flatMap { $0.round == round ? $0 : nil } ?? tasks[client]
  }

  /// Where the connection knows the client by its certificate, each update is signed, for this very task.
  ///
  /// The statement holds the session, so that one of another stay, or another coordinator's, is worth nothing here.
  private func checkSignature(of offer: UploadOffer, _ header: UpdateHeader) throws {
    guard let proof = offer.proof else { return }
    guard !proof.signature.isEmpty else {
      throw UpdateRefusal(
        .unsigned, "The update is not signed. Use the same version of the program on both sides.")
    }
    guard UpdateStatement(offer, header).isSigned(proof.signature, by: proof.key) else {
      throw UpdateRefusal(
        .wrongSignature,
        "The update's signature is not that of '\(offer.caller.client)' for run, round, attempt, session and content."
      )
    }
    // It may have gone on with what it was told in an earlier attempt.
    guard
      header.round > machine.round
        || machine.mayBeOf(attempt: offer.attempt, round: header.round, from: offer.caller.client)
        || !machine.expectsUpdate(from: offer.caller.client, round: header.round)
    else {
      throw UpdateRefusal(
        .wrongRound,
        "The update is of attempt \(offer.attempt) at round \(header.round); the last is \(machine.attempt)."
      )
    }
  }

  /// The ticket of an upload that is new, or goes on where its connection broke.
  private func prepareUpload(
    _ offer: UploadOffer, _ header: UpdateHeader, _ headerDigest: Digest
  ) -> String {
    let client = offer.caller.client
    if let open = uploads[client], open.payload == offer.payload, open.header == header {
      return open.ticket
    }
    if let old = uploads[client] {
      tickets[old.ticket] = nil
      if old.payload != offer.payload { spool.drop(old.payload, from: client) }
    }
    let ticket = newSession()
    tickets[ticket] = client
    var upload = Upload(
      ticket: ticket, header: header, headerDigest: headerDigest, payload: offer.payload,
      signature: offer.proof.map { UpdateSignature(UpdateStatement(offer, header), $0) },
      watch: Stopwatch(clock))
    if uploads[client] == nil, let (bytes, digest) = spool.arrived(offer.payload, from: client) {
      (upload.received, upload.digest, upload.isOfBefore) = (bytes, digest, true)
    }
    uploads[client] = upload
    return ticket
  }

  public func receive(_ chunk: Data, ticket: String, offset: Int) async throws {
    guard let client = tickets[ticket], let upload = uploads[client] else {
      throw UpdateRefusal(.notExpected, "No upload is open under this ticket. Offer it again.")
    }
    do {
      let end = upload.received + chunk.count
      guard chunk.count <= TransferLimits.largestChunk, end <= upload.payload.bytes else {
        throw UpdateRefusal(
          .tooLarge,
          "\(end) bytes arrived of an update announced with \(upload.payload.bytes), in pieces of "
            + "up to \(TransferLimits.largestChunk).")
      }
      guard offset == upload.received else {
        throw UpdateRefusal(
          .malformed, "A piece begins at byte \(offset), but \(upload.received) bytes are here.")
      }
    } catch let refusal as UpdateRefusal {
      dropUpload(of: client)
      refuse(client, refusal, round: upload.header.round)
      throw refusal
    }
    try checkKeeping()
    noteMove(of: client)
    try spool.append(
      chunk, to: spool.incoming(upload.payload, from: client), at: upload.received)
    uploads[client]?.received += chunk.count
    uploads[client]?.digest.update(chunk)
    count(Traffic(bytesUp: chunk.count), for: client)
  }

  public func finishUpload(ticket: String) async throws -> UploadReply {
    guard let client = tickets[ticket], var upload = uploads[client] else {
      return .refused(
        UpdateRefusal(.notExpected, "No upload is open under this ticket. Offer it again."))
    }
    uploads[client] = nil
    tickets[ticket] = nil
    let trip = trips[client].flatMap { $0.round == upload.header.round ? $0 : nil }
    let observed = trip?.observed(
      uploadSeconds: upload.watch.seconds, traffic: histories[client]?.traffic ?? Traffic())
    do {
      let closed = try spool.close(upload.payload, from: client, ticket: ticket)
      // What a coordinator that had to stop has of it is for the next one.
      defer { if keepingFailure == nil { try? FileManager.default.removeItem(at: closed) } }
      guard upload.received == upload.payload.bytes else {
        throw UpdateRefusal(
          .malformed,
          "\(upload.received) bytes arrived of an update announced with \(upload.payload.bytes).")
      }
      let digest = upload.digest.finish()
      guard digest == upload.payload.digest else {
        if upload.isOfBefore {
          throw PeatError.unavailable(
            "What had arrived of the update before the coordinator was started again is damaged. Send it anew."
          )
        }
        throw UpdateRefusal(
          .digestMismatch,
          "The update arrived with digest \(digest.short), announced was "
            + "\(upload.payload.digest.short).")
      }
      let round = upload.header.round
      guard let policy = base(of: round)?.policy else { throw Self.closed(upload.header) }
      upload.distance = try await Self.inspect(closed, upload.header, policy)
      guard machine.expectsUpdate(from: client, round: round) else {
        throw Self.closed(upload.header)
      }
      try checkKeeping()
      try spool.accept(upload.payload, in: closed, from: client)
    } catch let refusal as UpdateRefusal {
      refuse(client, refusal, round: upload.header.round)
      return .refused(refusal)
    }
    take(upload, observed)
    // The client keeps its update until it is told that it counts.
    try checkKeeping()
    return .accepted
  }

  private static func closed(_ header: UpdateHeader) -> UpdateRefusal {
    UpdateRefusal(
      .notExpected, "Round \(header.round) was closed before the update was complete.")
  }

  private func key(of upload: Upload) -> UpdateKey {
    let (client, round) = (upload.header.client, upload.header.round)
    return UpdateKey(
      client: client, round: round, number: machine.taskNumber(of: client, round: round))
  }

  /// Counts an update that is in the spool.
  private func take(_ upload: Upload, _ observed: ObservedTrip?) {
    let (header, client) = (upload.header, upload.header.client)
    let isSure = configuration.rules.buffer != nil || machine.isClosed(header.round)
    let task = task(of: client, round: header.round)
    acceptedCount += 1
    let key = key(of: upload)
    accepted[key] = Accepted(
      header: header, payload: upload.payload, level: task?.level ?? 0,
      signature: upload.signature, observed: observed, distance: upload.distance)
    newlyTaken = key
    trips[client]?.deliver()
    histories[client]?.lastTaken = .init(header: upload.headerDigest, payload: upload.payload)
    histories[client]?.telemetry = observed.map(header.telemetry.bounded) ?? header.telemetry
    histories[client]?.observed = observed
    if header.telemetry.freeMemoryBytes > 0 {
      stays[client]?.freeMemoryBytes = header.telemetry.freeMemoryBytes
    }
    histories[client]?.exampleCount = header.exampleCount
    histories[client]?.loss = header.metrics["loss"]
    histories[client]?.lastDelivered = header.round
    if let task { stays[client]?.holds.insert(task.package.digest) }
    // Nothing can take it back; an update of this round may be dropped with it.
    if isSure { noteCounted(client, header.round) }
    tell(.updateArrived(client, round: header.round, header: header))
    process(.updateReceived(client, round: header.round))
    if withdrawn[client]?.round == header.round { withdrawn[client] = nil }
  }

  /// Off the actor: reading and checking takes a while for large updates.
  private nonisolated static func inspect(
    _ file: URL, _ header: UpdateHeader, _ policy: UpdatePolicy
  ) async throws -> Double {
    try policy.inspect(file, header)
  }

  private func dropUpload(of client: ClientID) {
    guard let upload = uploads.removeValue(forKey: client) else { return }
    tickets[upload.ticket] = nil
    spool.drop(upload.payload, from: client)
  }

  /// - Parameter round: of the update's task; `nil` where that can't be said.
  private func refuse(_ client: ClientID, _ refusal: UpdateRefusal, round: Int?) {
    // What is of no round that is known ends the client's part in the one that it is at.
    let stated = round.flatMap { machine.expectsUpdate(from: client, round: $0) ? $0 : nil }
    refusedCounts[refusal.code, default: 0] += 1
    let round = stated ?? tasks[client]?.round ?? machine.round
    logger.warning("the update of '\(client)' was refused", metadata: ["reason": "\(refusal)"])
    guard machine.expectsUpdate(from: client, round: round) else { return }
    tell(.updateRefused(client, round: round, refusal))
    process(.updateRefused(client, round: round, refusal))
  }

  public func report(_ failure: FailureReport) async throws {
    try checkKnown(failure.caller)
    try checkKeeping()
    let client = failure.caller.client
    guard machine.expectsUpdate(from: client, round: failure.round) else { return }
    let reason = String(failure.reason.prefix(FailureReport.reasonLimit))
    logger.warning("'\(client)' failed in round \(failure.round): \(reason)")
    tell(.clientFailed(client, round: failure.round, reason: reason))
    process(.clientFailed(client, round: failure.round, reason: reason))
  }
}
