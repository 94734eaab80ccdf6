import Foundation
import Logging
import PeatTensor
import Synchronization

/// What a client is told about its part in a run.
public struct ClientConfiguration: Sendable {
  public var client: ClientID
  public var retry: RetryPolicy
  /// The most bytes an emulator may take, and the most an adapter may.
  public var packageSizeLimit: Int
  public var adapterSizeLimit: Int
  /// The most components of low-rank pairs that this device trains; `nil`: as many as there are.
  public var rankLimit: Int?
  /// Whether its trainer may keep in the client's folder how far it is with a task.
  public var keepsUnfinished = true
  /// Spreads the waits between tries.
  public var seed: UInt64

  public init(
    client: ClientID, retry: RetryPolicy = RetryPolicy(), packageSizeLimit: Int = 16 << 30,
    adapterSizeLimit: Int = 1 << 30, rankLimit: Int? = nil, seed: UInt64 = 0
  ) {
    self.client = client
    self.retry = retry
    self.packageSizeLimit = packageSizeLimit
    self.adapterSizeLimit = adapterSizeLimit
    self.rankLimit = rankLimit
    self.seed = seed
  }
}

/// A device's part in a federation: joins, fetches, trains, sends its update, until the run ends.
///
/// In its folder it keeps the emulators it was sent, by digest: each is fetched once, and a transfer that broke goes on
/// where it stopped. So does a training that was cut, and an update that was made is delivered, whatever came between.
///
///     let client = try Client(configuration, connection: connection, trainer: trainer, workFolder: folder)
///     let report = try await client.run()
public actor Client {
  private let configuration: ClientConfiguration
  private nonisolated let connection: any CoordinatorConnection
  private nonisolated let trainer: any LocalTrainer
  private let store: FolderBlobStore
  private let packages: PackageFolders
  private let workFolder: URL
  private nonisolated let clock: any Clock<Duration>
  private let logger: Logger
  private let freeMemory: @Sendable () -> Int?
  private let agree: @Sendable (WorkTerms) async throws -> Void
  private let onProgress: @Sendable (ClientProgress) -> Void

  private var caller: Caller?
  /// The coordinator may have begun a session for this client that it does not know of yet.
  private var isJoining = false
  /// Local steps of all tasks so far: each beat of the heart says it.
  private nonisolated let steps = Atomic(0)
  private nonisolated let asking = Asking()
  private var random: SeededRandom
  private var prepared: Digest?
  /// The packages that were fetched or checked by this process.
  private var checked: Set<Digest> = []
  private var lastUploadSeconds = 0.0
  private var unsent: UnsentRest
  private var controls: ControlVariates
  private var carried: UnsentRest
  private let undelivered: UndeliveredUpdate
  /// How many rounds the run has.
  private var roundCount = 0
  /// How often the coordinator was reached while this client attended.
  private var contacts = 0
  private var hasAgreed = false
  /// What was measured before the first joining.
  private var rates: DeviceRates?
  /// What the client did so far.
  public private(set) var report = ClientReport()

  /// - Parameters:
  ///   - workFolder: the client's own folder; made where it is missing.
  ///   - freeMemory: what to report as free memory, in bytes.
  ///   - agree: called before the first task; what it throws ends this client's part.
  public init(
    _ configuration: ClientConfiguration, connection: any CoordinatorConnection,
    trainer: any LocalTrainer, workFolder: URL, clock: any Clock<Duration> = ContinuousClock(),
    logger: Logger = Logger(label: "fedpeat.client"),
    freeMemory: @escaping @Sendable () -> Int? = { ProcessMeasurement.freeMemoryBytes },
    agree: @escaping @Sendable (WorkTerms) async throws -> Void = { _ in },
    onProgress: @escaping @Sendable (ClientProgress) -> Void = { _ in }
  ) throws {
    self.configuration = configuration
    self.connection = connection
    self.trainer = trainer
    self.clock = clock
    self.logger = logger
    self.freeMemory = freeMemory
    self.agree = agree
    self.onProgress = onProgress
    self.workFolder = workFolder
    store = try FolderBlobStore(workFolder)
    unsent = UnsentRest(in: workFolder)
    controls = ControlVariates(in: workFolder)
    carried = UnsentRest(in: workFolder, name: UnsentRest.carried)
    undelivered = UndeliveredUpdate(in: workFolder)
    packages = try PackageFolders(workFolder.appendingPathComponent("packages"), store: store)
    random = SeededRandom(seed: configuration.seed, "retries of \(configuration.client)")
  }

  /// Takes part until the run ends.
  ///
  /// Throws `PeatError.unavailable` where the coordinator can't be reached after all tries, `PeatError` where it sends
  /// something that can't be right, `CancellationError` where the task is cancelled.
  public func run() async throws -> ClientReport {
    let lock = try FolderLock(workFolder)
    defer { withExtendedLifetime(lock) {} }
    try unsent.restore { caution("what earlier updates lacked is lost: \($0)") }
    try controls.restore { caution("this client's control variates are lost: \($0)") }
    try carried.restore { caution("what training carried on is lost: \($0)") }
    do {
      try await join()
      let ending = try await workUntilTheEnd()
      report.ending = ending
      undelivered.forget()
      UnfinishedTraining.forget(in: workFolder)
      onProgress(.finished(ending))
    } catch {
      await sayGoodbye()
      throw error
    }
    await sayGoodbye()
    return report
  }

  private func caution(_ text: String) {
    logger.warning("\(text)")
    onProgress(.caution(text))
  }

  private func sayGoodbye() async {
    guard let caller else { return }
    // In a task of its own, so that it also works where this one is cancelled.
    await Task { [connection] in try? await connection.leave(caller) }.value
    self.caller = nil
  }

  /// Works on tasks, and beside that says that it is there; whichever hears first that the run is over ends both.
  private func workUntilTheEnd() async throws -> RunEnding {
    try await withThrowingTaskGroup(of: RunEnding.self) { group in
      group.addTask { try await self.work() }
      group.addTask { try await self.attend() }
      defer { group.cancelAll() }
      guard let ending = try await group.next() else { throw CancellationError() }
      return ending
    }
  }

  // MARK: Talking to the coordinator

  private func join() async throws {
    isJoining = true
    defer { isJoining = false }
    onProgress(.joining(address: connection.address))
    let rates = try await measureRates()
    let request = JoinRequest(
      client: configuration.client, freeMemoryBytes: freeMemory(), holds: packages.held,
      rates: rates, rankLimit: configuration.rankLimit)
    let reply = try await retrying { try await $0.join(request) }
    caller = Caller(client: configuration.client, session: reply.session)
    report.run = reply.run
    roundCount = reply.rounds
    onProgress(.joined(reply))
  }

  /// Measures link and compute, once: a planner then knows this device before its first round.
  private func measureRates() async throws -> DeviceRates {
    if let rates { return rates }
    guard var measured = try await retrying({ try await $0.measureLink() }) else {
      rates = DeviceRates()
      return DeviceRates()
    }
    measured.compute = await trainer.measureCompute()
    rates = measured
    return measured
  }

  /// Does a call, and does it again after a wait where the coordinator can't be reached.
  private func retrying<Reply: Sendable>(
    _ call: @Sendable (any CoordinatorConnection) async throws -> Reply
  ) async throws -> Reply {
    var attempt = 1
    while true {
      do { return try await call(connection) } catch let error as PeatError
        where error.code == .unavailable
      {
        try Task.checkCancellation()
        guard attempt < configuration.retry.attempts else {
          throw PeatError.unavailable(
            "The coordinator (\(connection.address)) can't be reached after \(attempt) \(attempt == 1 ? "try" : "tries"): "
              + "\(error.message) Check that it runs, and its address.", cause: error)
        }
        let wait = configuration.retry.delay(after: attempt, using: &random)
        attempt += 1
        logger.info("unreachable: \(error.message)")
        onProgress(
          .unreachable(
            reason: error.message, retryIn: wait, attempt: attempt,
            attempts: configuration.retry.attempts))
        try await pause(wait)
      }
    }
  }

  /// Waits, but no longer than until the other half of this client has reached the coordinator.
  private func pause(_ wait: Duration) async throws {
    let before = contacts
    var left = wait
    while left > .zero, contacts == before {
      let part = min(left, .milliseconds(500))
      try await clock.sleep(for: part)
      left -= part
    }
  }

  private func currentCaller() throws -> Caller {
    guard let caller else { throw PeatError(.internalError, "The client has not joined.") }
    return caller
  }

  private func attend() async throws -> RunEnding {
    var pause = SeededRandom(seed: configuration.seed, "attendance of \(configuration.client)")
    while true {
      try await asking.waitUntilDone()
      var caller = try currentCaller()
      caller.steps = steps.load(ordering: .relaxed)
      do {
        switch try await connection.attend(caller) {
        case .again:
          contacts += 1
          continue
        case .finished(let ending): return ending
        case .superseded:
          // By this very client, where it joins again while the call is on its way.
          if !isJoining, caller.session == self.caller?.session { throw superseded }
          contacts += 1
          continue
        case .rejoin: contacts += 1
        }
      } catch let error as PeatError where error.code == .unavailable {
        // The work loop says so and counts the tries; here it is only tried again.
      }
      try await clock.sleep(for: configuration.retry.delay(after: 1, using: &pause))
    }
  }

  private var superseded: PeatError {
    .usage(
      "Another process joined as '\(configuration.client)'. Give each client a name of its own.")
  }

  // MARK: Work

  private func work() async throws -> RunEnding {
    var isWaiting = false
    while true {
      var now = try currentCaller()
      now.freeMemoryBytes = freeMemory()
      let caller = now
      switch try await retrying({ try await self.asking.ask($0, caller) }) {
      case .train(let task):
        isWaiting = false
        try await askOnce(task)
        try await workOn(task)
      case .wait:
        if !isWaiting { onProgress(.waiting) }
        isWaiting = true
      case .leftOut(let notice):
        isWaiting = false
        report.leftOut += 1
        onProgress(.leftOut(notice, isLast: notice.round >= roundCount))
      case .rejoin: try await join()
      case .superseded: throw superseded
      case .finished(let ending): return ending
      }
    }
  }

  private func askOnce(_ task: TrainingTask) async throws {
    guard !hasAgreed else { return }
    // Of a package that can't be right nothing is fetched; that is said where it is refused.
    guard (try? task.package.validate(sizeLimit: configuration.packageSizeLimit)) != nil else {
      return
    }
    var missing = 0
    if task.refresh || !packages.has(task.package) {
      for file in task.package.files where await !store.has(file.digest) { missing += file.bytes }
    }
    try await agree(
      WorkTerms(
        task: task, rounds: roundCount, emulatorBytes: missing, rates: rates ?? DeviceRates()))
    hasAgreed = true
  }

  /// One task from download to verdict. What goes wrong here is told to the coordinator; the client goes on.
  private func workOn(_ task: TrainingTask) async throws {
    report.rounds += 1
    do { try await attempt(task) } catch is CancellationError {
      throw CancellationError()
    } catch let error as PeatError where error.code == .unavailable { throw error } catch {
      try Task.checkCancellation()
      let reason = String(failureReason(error).prefix(FailureReport.reasonLimit))
      report.failures += 1
      logger.warning("round \(task.round) failed: \(reason)")
      onProgress(.failed(round: task.round, reason: reason))
      let failure = FailureReport(caller: try currentCaller(), round: task.round, reason: reason)
      do { try await retrying { try await $0.report(failure) } } catch let error as PeatError
        where error.code != .unavailable
      {
        // Most likely the session is gone; the next request for work tells.
        logger.warning("the failure could not be reported: \(error.message)")
      }
    }
  }

  private func attempt(_ task: TrainingTask) async throws {
    // Made before client or coordinator was started again.
    if let made = undelivered.update(for: task) {
      return try await deliver(made.payload, made.header, json: made.json, attempt: task.attempt)
    }
    let before = report
    let watch = Stopwatch(clock)
    let base = try await fetchAdapter(of: task)
    try await fetchPackage(of: task)
    let downloadSeconds = watch.seconds
    let free = freeMemory() ?? 0
    onProgress(.training(task))
    // SCAFFOLD's c; the trainer is given what its gradients are corrected by, c − cₖ.
    let shared = base.controls
    let own = shared.isEmpty ? [:] : controls.own(for: task, shared)
    let given = base.settingControls(shared.subtracting(own))
    let memory = carried.rest(for: task)
    var result = try await train(task, task.componentOrder?.applied(to: given) ?? given, memory)
    try Task.checkCancellation()
    if !result.carried.isEmpty { try carried.keep(result.carried, before: memory, of: task) }
    if let order = task.componentOrder { result.tensors = order.undone(in: result.tensors) }
    let new = result.tensors.controls
    if !new.isEmpty {
      result.tensors = result.tensors.settingControls(
        shared.adding(new.subtracting(own)).filter { new[$0.key] != nil })
      try controls.keep(new, before: own, of: task)
    }
    let payload = try encode(result.tensors, task, base)
    var header = UpdateHeader(
      run: task.run, round: task.round, client: configuration.client,
      exampleCount: result.exampleCount, baseDigest: task.baseDigest, method: task.method,
      rank: task.rank, alpha: task.alpha, metrics: result.metrics)
    header.trainedRank = task.trainedRank
    header.uploadBits = task.uploadBits
    header.upload = task.upload
    header.telemetry = Telemetry(
      bytesDown: report.bytesDown - before.bytesDown, bytesUp: payload.count,
      downloadSeconds: downloadSeconds, computeSeconds: result.computeSeconds,
      uploadSeconds: lastUploadSeconds, peakMemoryBytes: result.peakMemoryBytes,
      freeMemoryBytes: free, tokens: result.tokens)
    let json = try header.json()
    try undelivered.keep(payload, header: json, of: task)
    UnfinishedTraining.forget(in: workFolder)
    await dropAdapter()
    try await deliver(payload, header, json: json, attempt: task.attempt)
  }

  private func train(
    _ task: TrainingTask, _ adapter: NamedTensors, _ carried: NamedTensors
  ) async throws -> LocalResult {
    let unfinished = UnfinishedTraining(of: task, in: workFolder)
    do {
      return try await trainer.train(
        task, adapter: adapter, carried: carried,
        unfinished: configuration.keepsUnfinished ? unfinished : nil
      ) { [self] _ in
        steps.add(1, ordering: .relaxed)
      }
    } catch is CancellationError { throw CancellationError() } catch {
      unfinished.forget()
      throw error
    }
  }

  /// The update's bytes, with what earlier ones lack of what was tuned; what these lack is kept for the next.
  private func encode(
    _ tensors: NamedTensors, _ task: TrainingTask, _ base: NamedTensors
  ) throws -> Data {
    let rest = unsent.rest(for: task, tensors: tensors)
    let whole = tensors.adding(rest)
    let order = task.componentOrder
    let (payload, left) = try task.encoding.encodeKeepingRest(
      order?.applied(to: whole) ?? whole, from: order?.applied(to: base) ?? base, seed: task.seed)
    try unsent.keep(order?.undone(in: left) ?? left, before: rest, of: task)
    return payload
  }

  private func fetchAdapter(of task: TrainingTask) async throws -> NamedTensors {
    guard task.adapter.bytes >= 0, task.adapter.bytes <= configuration.adapterSizeLimit else {
      throw PeatError.badData(
        "The adapter takes \(task.adapter.bytes) bytes; this client accepts "
          + "\(configuration.adapterSizeLimit).")
    }
    if noteOfAdapter != task.adapter.digest { await dropAdapter() }
    try? Data(task.adapter.digest.hex.utf8).write(to: adapterNote)
    try await fetch(task.adapter.digest, bytes: task.adapter.bytes, name: "adapter")
    let adapter = try BroadcastAdapter.read(
      store.url(of: task.adapter.digest), sizeLimit: configuration.adapterSizeLimit)
    guard adapter.digest == task.baseDigest else {
      await dropAdapter()
      throw PeatError.badData(
        "The round's adapter has digest \(adapter.digest.short), stated was "
          + "\(task.baseDigest.short).")
    }
    return adapter
  }

  /// Says which adapter is here, or on its way.
  private var adapterNote: URL { workFolder.appendingPathComponent("round-adapter") }
  private var noteOfAdapter: Digest? {
    (try? String(contentsOf: adapterNote, encoding: .utf8)).flatMap(Digest.init(hex:))
  }

  /// Forgets a round's adapter, also one that an earlier process left.
  private func dropAdapter() async {
    guard let digest = noteOfAdapter else { return }
    await store.remove(digest)
    await store.discard(digest)
    try? FileManager.default.removeItem(at: adapterNote)
  }

  private func fetchPackage(of task: TrainingTask) async throws {
    let package = task.package
    try package.validate(sizeLimit: configuration.packageSizeLimit)
    if task.refresh || !isIntact(package) { await packages.remove(package) }
    if task.refresh || !packages.has(package) {
      try await fetch(package, of: task)
      prepared = nil
    }
    let folder = try packages.make(package)
    checked.insert(package.digest)
    if prepared != package.digest {
      onProgress(.preparing(level: task.level))
      prepared = nil
      try await trainer.prepare(package: folder, level: task.level)
      prepared = package.digest
    }
  }

  /// Fetches what is small first, and asks the trainer whether the rest is of use.
  private func fetch(_ package: Package, of task: TrainingTask) async throws {
    let (outline, weights) = (package.files.filter(\.isOutline), package.files.filter(\.isWeights))
    for file in outline { try await fetch(file.digest, bytes: file.bytes, name: file.name) }
    if !weights.isEmpty, !outline.isEmpty {
      let folder = try packages.makeOutline(of: package)
      defer { try? FileManager.default.removeItem(at: folder) }
      try await trainer.check(outline: folder, level: task.level, for: task)
    }
    for file in weights { try await fetch(file.digest, bytes: file.bytes, name: file.name) }
  }

  /// Whether a package that an earlier run left here is still what it was; checked once.
  private func isIntact(_ package: Package) -> Bool {
    guard packages.has(package), checked.insert(package.digest).inserted else { return true }
    return packages.isIntact(package)
  }

  /// Fetches a blob, going on where an earlier transfer stopped, and checks its digest.
  private func fetch(_ digest: Digest, bytes: Int, name: String) async throws {
    if await store.has(digest) { return }
    try await retrying { connection in
      let offset = await self.store.received(digest)
      if offset > bytes { await self.store.discard(digest) }
      let request = DownloadRequest(
        caller: try await self.currentCaller(), digest: digest,
        offset: offset > bytes ? 0 : offset)
      if request.offset < bytes {
        try await connection.download(request) { piece in
          try await self.take(piece, of: digest, bytes: bytes, name: name)
        }
      }
      guard await self.store.received(digest) == bytes else {
        throw PeatError.unavailable("The transfer of '\(name)' broke off.")
      }
    }
    try await store.finish(digest)
  }

  private func take(_ piece: Data, of digest: Digest, bytes: Int, name: String) async throws {
    let received = await store.received(digest)
    guard piece.count <= bytes - received else {
      await store.discard(digest)
      throw PeatError.badData("More than the \(bytes) bytes announced arrived for '\(name)'.")
    }
    try await store.append(piece, to: digest, at: received)
    report.bytesDown += piece.count
    onProgress(.downloading(file: name, received: received + piece.count, of: bytes))
  }

  private func deliver(
    _ payload: Data, _ header: UpdateHeader, json: Data, attempt: Int
  ) async throws {
    let reference = BlobReference(digest: Digest(of: payload), bytes: payload.count)
    let watch = Stopwatch(clock)
    let tell: @Sendable (Int) -> Void = { [onProgress] sent in
      onProgress(.uploading(round: header.round, sent: sent, of: payload.count))
    }
    tell(0)
    let reply: UploadReply? = try await retrying { connection in
      let offer = UploadOffer(
        caller: try await self.currentCaller(), header: json, payload: reference, attempt: attempt)
      switch try await connection.offer(offer) {
      case .accepted: return .accepted
      case .refused(let refusal): return .refused(refusal)
      case .rejoin: return nil
      case .send(let ticket, let offset):
        guard (0...payload.count).contains(offset) else {
          throw PeatError.badData("The coordinator asks for byte \(offset) of \(payload.count).")
        }
        let reply = try await connection.upload(
          payload, ticket: ticket, from: offset, onSent: tell)
        await self.sent(payload.count - offset)
        return reply
      }
    }
    lastUploadSeconds = watch.seconds
    switch reply {
    case .accepted?:
      report.updates += 1
      onProgress(.delivered(round: header.round, metrics: header.metrics))
    case .refused(let refusal)?:
      report.refusals += 1
      // A coordinator that was started again does not know the upload; it asks for the update anew.
      if refusal.code != .notExpected { undelivered.forget() }
      logger.warning("the update was refused: \(refusal)")
      onProgress(.refused(round: header.round, refusal))
    case nil: break  // The session is not known any more; the next request for work joins again.
    }
  }

  private func sent(_ bytes: Int) { report.bytesUp += bytes }
}
