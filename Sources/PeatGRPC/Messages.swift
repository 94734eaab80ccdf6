import Foundation
import PeatFederation
import PeatTensor

// The messages of the conversation as they travel, and back. What arrives is checked: a name, a digest or a number that
// can't be right throws `PeatError.badData`.

typealias Wire = Fedpeat_V1_Federation

private func digest(_ hex: String) throws -> Digest {
  guard let digest = Digest(hex: hex) else {
    throw PeatError.badData("'\(hex.prefix(80))' is not a digest of 64 hexadecimal digits.")
  }
  return digest
}

private func missing(_ what: String) -> PeatError {
  .badData("A message without \(what) arrived. Use the same version of the program on both sides.")
}

private func size(_ value: UInt64) throws -> Int {
  guard let size = Int(exactly: value) else {
    throw PeatError.badData("A size of \(value) bytes is not possible.")
  }
  return size
}

extension Fedpeat_V1_Caller {
  init(_ caller: Caller) {
    self.init()
    client = caller.client.name
    session = caller.session
    if let free = caller.freeMemoryBytes { freeMemoryBytes = UInt64(clamping: free) }
    if let done = caller.steps { steps = UInt64(clamping: done) }
  }
  var value: Caller {
    get throws {
      Caller(
        client: try ClientID(client), session: session,
        freeMemoryBytes: hasFreeMemoryBytes ? try size(freeMemoryBytes) : nil,
        steps: hasSteps ? try size(steps) : nil)
    }
  }
}

extension Fedpeat_V1_JoinRequest {
  init(_ request: JoinRequest) {
    self.init()
    protocolVersion = UInt32(request.protocolVersion)
    client = request.client.name
    if let free = request.freeMemoryBytes { freeMemoryBytes = UInt64(clamping: free) }
    holds = request.holds.map(\.hex)
    if let rate = request.rates.download { downloadRate = rate }
    if let rate = request.rates.upload { uploadRate = rate }
    if let rate = request.rates.compute { computeRate = rate }
    if let limit = request.rankLimit { rankLimit = UInt32(clamping: limit) }
  }
  var value: JoinRequest {
    get throws {
      var request = JoinRequest(
        client: try ClientID(client),
        freeMemoryBytes: hasFreeMemoryBytes ? try size(freeMemoryBytes) : nil,
        holds: try holds.map(digest),
        rates: DeviceRates(
          download: hasDownloadRate ? downloadRate : nil,
          upload: hasUploadRate ? uploadRate : nil, compute: hasComputeRate ? computeRate : nil),
        rankLimit: hasRankLimit ? Int(rankLimit) : nil)
      request.protocolVersion = Int(protocolVersion)
      return request
    }
  }
}

extension Fedpeat_V1_JoinReply {
  init(_ reply: JoinReply) {
    self.init()
    run = reply.run.name
    session = reply.session
    rounds = UInt32(clamping: reply.rounds)
  }
  var value: JoinReply {
    get throws { JoinReply(run: try RunID(run), session: session, rounds: Int(rounds)) }
  }
}

extension Fedpeat_V1_BlobReference {
  init(_ reference: BlobReference) {
    self.init()
    digest = reference.digest.hex
    bytes = UInt64(clamping: reference.bytes)
  }
  var value: BlobReference {
    get throws { BlobReference(digest: try PeatGRPC.digest(digest), bytes: try size(bytes)) }
  }
}

extension Fedpeat_V1_TrainingTask {
  init(_ task: TrainingTask) {
    self.init()
    run = task.run.name
    round = UInt32(clamping: task.round)
    attempt = UInt32(clamping: task.attempt)
    client = task.client.name
    level = UInt32(clamping: task.level)
    package = task.package.files.map { file in
      var wire = Fedpeat_V1_PackageFile()
      wire.name = file.name
      wire.content = .init(BlobReference(digest: file.digest, bytes: file.bytes))
      return wire
    }
    refresh = task.refresh
    adapter = .init(task.adapter)
    baseDigest = task.baseDigest.hex
    method = task.method
    if let value = task.rank { rank = UInt32(clamping: value) }
    if let value = task.alpha { alpha = value }
    settings = task.settings
    if let value = task.localSteps { localSteps = UInt32(clamping: value) }
    if let value = task.learningRateScale { learningRateScale = value }
    if let value = task.trainedRank { trainedRank = UInt32(clamping: value) }
    if let value = task.uploadBits { uploadBits = UInt32(clamping: value) }
    if let value = task.upload { upload = value }
    if let value = task.countedRound { countedRound = UInt32(clamping: value) }
    if task.components == .random { randomComponents = true }
    seed = task.seed
    deadlineSeconds = task.deadlineSeconds
    updateSizeLimit = UInt64(clamping: task.updateSizeLimit)
  }
  var value: TrainingTask {
    get throws {
      var task = TrainingTask(
        run: try RunID(run), round: Int(round), attempt: Int(attempt),
        client: try ClientID(client), level: Int(level),
        package: Package(
          files: try package.map {
            let content = try $0.content.value
            return .init(name: $0.name, digest: content.digest, bytes: content.bytes)
          }),
        refresh: refresh, adapter: try adapter.value, baseDigest: try digest(baseDigest),
        method: method, rank: hasRank ? Int(rank) : nil, alpha: hasAlpha ? alpha : nil,
        settings: settings, localSteps: hasLocalSteps ? Int(localSteps) : nil, seed: seed,
        deadlineSeconds: deadlineSeconds, updateSizeLimit: try size(updateSizeLimit))
      task.learningRateScale = hasLearningRateScale ? learningRateScale : nil
      task.trainedRank = hasTrainedRank ? Int(trainedRank) : nil
      task.uploadBits = hasUploadBits ? Int(uploadBits) : nil
      task.upload = hasUpload ? upload : nil
      task.countedRound = hasCountedRound ? Int(countedRound) : nil
      task.components = randomComponents ? .random : .first
      return task
    }
  }
}

extension Fedpeat_V1_RunEnding {
  init(_ ending: RunEnding) {
    self.init()
    switch ending {
    case .completed: kind = .completed
    case .stopped(let stop): (kind, reason, cause) = (.stopped, stop.reason, stop.cause.rawValue)
    case .failed(let reason): (kind, self.reason) = (.failed, reason)
    case .cancelled(let reason): (kind, self.reason) = (.cancelled, reason)
    }
  }
  var value: RunEnding {
    get throws {
      switch kind {
      case .completed: .completed
      case .stopped:
        // A newer coordinator may stop for other reasons.
        RunStop.Cause(rawValue: cause).map { .stopped(RunStop($0, reason)) } ?? .completed
      case .failed: .failed(reason: reason)
      case .cancelled: .cancelled(reason: reason)
      case .unspecified, .UNRECOGNIZED: throw missing("the way the run ended")
      }
    }
  }
}

extension Fedpeat_V1_TaskReply {
  init(_ reply: TaskReply) {
    self.init()
    switch reply {
    case .train(let task): train = .init(task)
    case .wait: wait = .init()
    case .leftOut(let notice):
      wait.round = UInt32(clamping: notice.round)
      if let reason = notice.reason { wait.reason = reason }
    case .rejoin: rejoin = .init()
    case .superseded: superseded = .init()
    case .finished(let ending): finished = .init(ending)
    }
  }
  var value: TaskReply {
    get throws {
      switch reply {
      case .train(let task): .train(try task.value)
      case .wait(let wait):
        wait.hasRound
          ? .leftOut(
            LeftOut(round: Int(wait.round), reason: wait.hasReason ? wait.reason : nil)) : .wait
      case .rejoin: .rejoin
      case .superseded: .superseded
      case .finished(let ending): .finished(try ending.value)
      case nil: throw missing("an answer")
      }
    }
  }
}

extension Fedpeat_V1_AttendReply {
  init(_ reply: AttendReply) {
    self.init()
    switch reply {
    // An answer that says nothing.
    case .again: break
    case .finished(let ending): finished = .init(ending)
    case .rejoin: rejoin = .init()
    case .superseded: superseded = .init()
    }
  }
  var value: AttendReply {
    get throws {
      switch reply {
      case .finished(let ending): .finished(try ending.value)
      case .rejoin: .rejoin
      case .superseded: .superseded
      case nil: .again
      }
    }
  }
}

extension Fedpeat_V1_DownloadRequest {
  init(_ request: DownloadRequest) {
    self.init()
    caller = .init(request.caller)
    digest = request.digest.hex
    offset = UInt64(clamping: request.offset)
  }
  var value: DownloadRequest {
    get throws {
      DownloadRequest(
        caller: try caller.value, digest: try PeatGRPC.digest(digest), offset: try size(offset))
    }
  }
}

extension Fedpeat_V1_UploadOffer {
  init(_ offer: UploadOffer) {
    self.init()
    caller = .init(offer.caller)
    header = offer.header
    payload = .init(offer.payload)
    attempt = UInt32(clamping: offer.attempt)
  }
  var value: UploadOffer {
    get throws {
      UploadOffer(
        caller: try caller.value, header: header, payload: try payload.value,
        attempt: Int(attempt))
    }
  }
}

extension Fedpeat_V1_Refusal {
  init(_ refusal: UpdateRefusal) {
    self.init()
    code = refusal.code.rawValue
    message = refusal.message
  }
  var value: UpdateRefusal {
    get throws {
      guard let code = UpdateRefusal.Code(rawValue: code) else {
        throw missing("a known refusal code (found '\(code.prefix(40))')")
      }
      return UpdateRefusal(code, message)
    }
  }
}

extension Fedpeat_V1_UploadAnswer {
  init(_ answer: UploadAnswer) {
    self.init()
    switch answer {
    case .send(let ticket, let offset):
      send.ticket = ticket
      send.offset = UInt64(clamping: offset)
    case .refused(let refusal): refused = .init(refusal)
    case .accepted: accepted = .init()
    case .rejoin: rejoin = .init()
    }
  }
  var value: UploadAnswer {
    get throws {
      switch answer {
      case .send(let ticket): .send(ticket: ticket.ticket, offset: try size(ticket.offset))
      case .refused(let refusal): .refused(try refusal.value)
      case .accepted: .accepted
      case .rejoin: .rejoin
      case nil: throw missing("an answer")
      }
    }
  }
}

extension Fedpeat_V1_UploadReply {
  init(_ reply: UploadReply) {
    self.init()
    switch reply {
    case .accepted: accepted = .init()
    case .refused(let refusal): refused = .init(refusal)
    }
  }
  var value: UploadReply {
    get throws {
      switch reply {
      case .accepted: .accepted
      case .refused(let refusal): .refused(try refusal.value)
      case nil: throw missing("an answer")
      }
    }
  }
}

extension Fedpeat_V1_FailureReport {
  init(_ report: FailureReport) {
    self.init()
    caller = .init(report.caller)
    round = UInt32(clamping: report.round)
    reason = report.reason
  }
  var value: FailureReport {
    get throws { FailureReport(caller: try caller.value, round: Int(round), reason: reason) }
  }
}
