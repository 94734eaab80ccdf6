import ArgumentParser
import FedPEAT
import Foundation
import Logging

struct Join: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Take part in a federation with your own data, which stays here.",
    discussion: """
      Examples: fedpeat join --coordinator 127.0.0.1:50051 --data mine.txt --name ada --folder work
                fedpeat join --coordinator lab.example.org:50051 --token TOKEN --data mine.txt --name ada --folder work

      A token is used once; the folder then keeps your certificate, and later joins need none. A coordinator of your own on this machine needs \
      no token. The run file (YAML or JSON) may hold the same as the flags: coordinator, data, name, folder, token, certificate, key, trust, \
      insecure, retries, downloadRate, uploadRate, computeShare, storage, memoryLimit, threads, seed.
      """)

  @Argument(help: "A run file.")
  var config: String?

  @Option(help: "The coordinator's address, HOST:PORT; the run file's if not given.")
  var coordinator: String?

  @Option(
    help:
      "Your data: text, a JSON array, JSON lines or instructions; or pictures, a folder with a folder for each class or an idx file; the run file's if not given."
  )
  var data: String?

  @Option(help: "Your name in the run; a random one if not given.")
  var name: String?

  @Option(help: "A folder that keeps what was downloaded; a temporary one if not given.")
  var folder: String?

  @Option(
    help:
      "An enrolment token, or a file that holds one; not needed where the folder has an identity already, if not given."
  )
  var token: String?

  @Option(
    help: "A certificate of your own in PEM, with --key and --trust; the folder's if not given.")
  var certificate: String?

  @Option(help: "Its key, in PEM, of P-256; the folder's if not given.")
  var key: String?

  @Option(help: "Whose certificate the coordinator must have, in PEM; the folder's if not given.")
  var trust: String?

  @Flag(
    help:
      "Take part without being asked. Only who sits at a terminal is asked, once for a run and a folder."
  )
  var yes = false

  @Flag(help: "Do without TLS: anybody on the way can read and change what travels.")
  var insecure = false

  @Option(
    help:
      "How often to try to reach a coordinator that is gone. (default: \(Configuration().retries))")
  var retries: Int?

  @Option(
    help: ArgumentHelp(
      "Download at most so much per second, such as 500kB; as fast as can be if not given.",
      valueName: "size"))
  var downloadRate: ByteCount?

  @Option(
    help: ArgumentHelp(
      "Upload at most so much per second; as fast as can be if not given.", valueName: "size"))
  var uploadRate: ByteCount?

  @Option(
    help:
      "The share of the time that tuning may work, from 0.001 to 1; it rests between steps. (default: 1)"
  )
  var computeShare: Double?

  @Option(
    help:
      "The most components of low-rank adapters to train, where the run's rank is more for this device; all if not given."
  )
  var rankLimit: Int?

  @OptionGroup var memory: MemoryOptions

  @OptionGroup var common: CommonOptions

  struct Configuration: Codable {
    var coordinator: String?
    var data: String?
    var name: String?
    var folder: String?
    /// A token, or the file that holds one.
    var token: String?
    /// PEM files.
    var certificate: String?
    var key: String?
    var trust: String?
    var insecure = false
    var retries = 8
    /// Bytes per second.
    var downloadRate: ByteCount?
    var uploadRate: ByteCount?
    var computeShare = 1.0
    var rankLimit: Int?
    var storage: WeightStorage?
    /// A number of bytes, or a size such as 512MB.
    var memoryLimit: ByteCount?
    var threads: Int?
    var seed: UInt64 = 0

    private enum CodingKeys: String, CodingKey {
      case coordinator, data, name, folder, token, certificate, key, trust, insecure, retries,
        downloadRate, uploadRate, computeShare
      case rankLimit, storage, memoryLimit, threads, seed
    }

    func encode(to encoder: any Encoder) throws {
      var container = encoder.container(keyedBy: CodingKeys.self)
      try container.encode(coordinator, forKey: .coordinator)
      try container.encode(data, forKey: .data)
      try container.encode(name, forKey: .name)
      try container.encode(folder, forKey: .folder)
      try container.encode(token, forKey: .token)
      try container.encode(certificate, forKey: .certificate)
      try container.encode(key, forKey: .key)
      try container.encode(trust, forKey: .trust)
      try container.encode(insecure, forKey: .insecure)
      try container.encode(retries, forKey: .retries)
      try container.encode(downloadRate, forKey: .downloadRate)
      try container.encode(uploadRate, forKey: .uploadRate)
      try container.encode(computeShare, forKey: .computeShare)
      try container.encode(rankLimit, forKey: .rankLimit)
      try container.encode(storage, forKey: .storage)
      try container.encode(memoryLimit, forKey: .memoryLimit)
      try container.encode(threads, forKey: .threads)
      try container.encode(seed, forKey: .seed)
    }
  }

  struct Report: Encodable {
    var run: String?
    var client: String
    var updates: Int
    /// Times that a round went on without it.
    var leftOut: Int
    var refusals: Int
    var failures: Int
    var bytesUp: Int
    var bytesDown: Int
    var peakMemoryBytes: Int
  }

  func run() async throws {
    if let name { _ = try ClientID(typed: name) }
    let configuration = try readConfiguration()
    guard let address = configuration.coordinator else {
      throw PeatError.usage("Name the coordinator: --coordinator HOST:PORT.")
    }
    guard let data = configuration.data else {
      throw PeatError.usage("Name your data: --data FILE.")
    }
    guard configuration.retries > 0 else {
      throw PeatError.usage("retries is \(configuration.retries); it must be at least 1.")
    }
    guard (0.001...1).contains(configuration.computeShare) else {
      throw PeatError.usage(
        "computeShare is \(configuration.computeShare); it must be between 0.001 and 1.")
    }
    if let threads = configuration.threads, !(1...1024).contains(threads) {
      throw PeatError.badData("threads is \(threads); it must be between 1 and 1024.")
    }
    if let limit = configuration.rankLimit, limit < 1 {
      throw PeatError.usage("rankLimit is \(limit); it must be at least 1.")
    }
    try configuration.memoryLimit?.checkReading(URL(path: data))
    DataCautions.tell(
      URL(path: data), ofPictures: LabelledImages.hasPictures(URL(path: data)), ofClasses: false)
    let documents = try Document.read(ofDevice: URL(path: data))
    let coordinator = try NetworkAddress(address)
    let limits = try LinkLimits(
      download: configuration.downloadRate.map { Double($0.bytes) },
      upload: configuration.uploadRate.map { Double($0.bytes) })
    let work =
      try configuration.folder.map { try WorkFolder(URL(path: $0)) }
      ?? WorkFolder(temporary: "join")
    defer { work.remove() }
    let (id, security) = try await JoinIdentity(
      configuration: configuration, address: coordinator, folder: work.url
    ).resolve()
    let connection = try GRPCConnection(to: coordinator, security: security, limits: limits)
    let trainer = DeviceTrainer(
      documents: documents,
      threads: configuration.threads ?? ProcessInfo.processInfo.activeProcessorCount,
      memory: deviceMemory(configuration), computeShare: configuration.computeShare
    ) { progress in
      Terminal.status(
        "tuning: step \(progress.report.step) of \(progress.steps)  loss "
          + "\(Format.number(progress.report.loss, digits: 3))  "
          + "\(Format.number(progress.rate, digits: 0)) \(progress.unit.perSecond)  \(Format.time(progress.timeLeft)) left"
      )
    } onGoingOn: { step, steps in
      Terminal.note("goes on      tuning goes on behind step \(step) of \(steps)")
    } onCut: { cut in
      CutTexts(context: cut.context, shortened: cut.count).tell(of: cut.total)
    }
    var ownPart = ClientConfiguration(
      client: id, retry: RetryPolicy(attempts: configuration.retries),
      rankLimit: configuration.rankLimit, seed: configuration.seed)
    // A temporary folder ends with the process.
    ownPart.keepsUnfinished = configuration.folder != nil
    let client = try Client(
      ownPart, connection: connection, trainer: trainer, workFolder: work.url, logger: .silent,
      freeMemory: { [limit = configuration.memoryLimit?.bytes] in
        // No more than tuning may take.
        let free = ProcessMeasurement.freeMemoryBytes
        return limit.map { min($0, free ?? $0) } ?? free
      },
      agree: JoinTerms(
        isAsking: !yes, note: work.url.appendingPathComponent("agreed")
      ).agree, onProgress: Join.tell)
    do {
      let report = try await client.run()
      await connection.close()
      try finish(report, id)
    } catch {
      await connection.close()
      throw error
    }
  }

  private func deviceMemory(_ configuration: Configuration) -> DeviceMemory {
    DeviceMemory(storage: configuration.storage, limit: configuration.memoryLimit?.bytes) { plan in
      Terminal.note("memory       \(plan.summary): about \(Format.bytes(plan.bytes))")
    }
  }

  private func readConfiguration() throws -> Configuration {
    var overrides: [String: JSONValue] = [:]
    if let coordinator { overrides["coordinator"] = .string(coordinator) }
    if let data { overrides["data"] = .string(data) }
    if let name { overrides["name"] = .string(name) }
    if let folder { overrides["folder"] = .string(folder) }
    if let token { overrides["token"] = .string(token) }
    if let certificate { overrides["certificate"] = .string(certificate) }
    if let key { overrides["key"] = .string(key) }
    if let trust { overrides["trust"] = .string(trust) }
    if insecure { overrides["insecure"] = .bool(true) }
    if let retries { overrides["retries"] = .integer(retries) }
    if let downloadRate { overrides["downloadRate"] = .integer(downloadRate.bytes) }
    if let uploadRate { overrides["uploadRate"] = .integer(uploadRate.bytes) }
    if let computeShare { overrides["computeShare"] = .number(computeShare) }
    if let rankLimit { overrides["rankLimit"] = .integer(rankLimit) }
    if let storage = memory.storage { overrides["storage"] = .string(storage.rawValue) }
    if let limit = memory.memoryLimit { overrides["memoryLimit"] = .integer(limit.bytes) }
    if let threads = common.threads { overrides["threads"] = .integer(threads) }
    if let seed = common.seed { overrides["seed"] = .integer(Int(clamping: seed)) }
    return try ConfigurationReader.read(
      Configuration(), from: config.map(URL.init(path:)), overrides: overrides)
  }

  private func finish(_ report: ClientReport, _ id: ClientID) throws {
    switch report.ending {
    case .failed(let reason): throw PeatError.unavailable("The run ended early: \(reason)")
    case .cancelled(let reason):
      throw PeatError.unavailable("The coordinator ended the run: \(reason)")
    case .completed, .stopped, nil: break
    }
    if report.updates == 0, report.failures > 0 {
      throw PeatError.unavailable(
        "No update of yours was taken: this device failed in \(report.failures) rounds. The reasons stand above."
      )
    }
    let result = Report(
      run: report.run?.name, client: id.name, updates: report.updates, leftOut: report.leftOut,
      refusals: report.refusals,
      failures: report.failures, bytesUp: report.bytesUp, bytesDown: report.bytesDown,
      peakMemoryBytes: ProcessMeasurement.peakMemoryBytes)
    try common.report(
      result,
      text: Format.table([
        ["run", result.run ?? "–"], ["updates taken", "\(result.updates)"],
        ["rounds without it", "\(result.leftOut)"], ["refused", "\(result.refusals)"],
        ["failed", "\(result.failures)"],
        ["down", Format.bytes(result.bytesDown)],
        ["up, updates alone", Format.bytes(result.bytesUp)],
        ["peak memory", Format.bytes(result.peakMemoryBytes)],
      ]))
  }

  private static func tell(_ progress: ClientProgress) {
    switch progress {
    case .joining(let address): Terminal.status("joining \(address) …")
    case .joined(let reply): Terminal.note("joined       \(reply.run), \(reply.rounds) rounds")
    case .unreachable(let reason, let wait, let attempt, let attempts):
      Terminal.note(
        "The coordinator can't be reached: \(reason) Trying again in \(Format.number(wait.seconds, digits: 1)) s "
          + "(\(attempt) of \(attempts))")
    case .waiting: Terminal.status("waiting for work …")
    case .leftOut(let notice, let isLast):
      let reason = notice.reason.map { ": \($0)" } ?? ""
      Terminal.note(
        "round \(notice.round) goes on without this device\(reason) ("
          + (isLast ? "it is the last" : "round \(notice.round + 1) is planned anew") + ")")
    case .downloading(let file, let received, let total):
      Terminal.status("downloading \(file): \(Format.bytes(received)) of \(Format.bytes(total))")
    case .preparing(let level): Terminal.status("opening emulator \(level) …")
    case .training(let task): Terminal.status("round \(task.round): tuning …")
    case .uploading(let round, let sent, let total):
      Terminal.status(
        "round \(round): sending the update: \(Format.bytes(sent)) of \(Format.bytes(total))")
    case .delivered(let round, let metrics):
      let loss = metrics["loss"].map { ", loss \(Format.number($0, digits: 3))" } ?? ""
      Terminal.note("round \(round): update taken\(loss)")
    case .refused(let round, let refusal):
      Terminal.note("round \(round): update refused: \(refusal.message)")
    case .failed(let round, let reason): Terminal.note("round \(round) failed here: \(reason)")
    case .caution(let text): Terminal.caution(text)
    case .finished: Terminal.finishStatus()
    }
  }
}
