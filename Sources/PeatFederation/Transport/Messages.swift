import Foundation
import PeatTensor

/// The version of the conversation between client and coordinator.
public let protocolVersion = 1

/// A client asks to take part.
public struct JoinRequest: Sendable, Codable, Equatable {
  public var protocolVersion: Int
  public var client: ClientID
  /// Free memory on the machine in bytes, where known.
  public var freeMemoryBytes: Int?
  /// The packages that the client holds, by digest.
  public var holds: [Digest]
  /// What it measured of itself before it joined.
  public var rates: DeviceRates
  /// The most components of low-rank pairs that it trains; `nil`: as many as there are.
  public var rankLimit: Int?

  public init(
    client: ClientID, freeMemoryBytes: Int? = nil, holds: [Digest] = [],
    rates: DeviceRates = DeviceRates(), rankLimit: Int? = nil
  ) {
    protocolVersion = PeatFederation.protocolVersion
    self.client = client
    self.freeMemoryBytes = freeMemoryBytes
    self.holds = holds
    self.rates = rates
    self.rankLimit = rankLimit
  }
}

/// How fast a device is, by its own measure; `nil` where it did not measure.
public struct DeviceRates: Sendable, Codable, Equatable {
  /// Of its link, in bytes per second.
  public var download: Double?
  public var upload: Double?
  /// Of its training, in floating-point operations per second.
  public var compute: Double?

  public init(download: Double? = nil, upload: Double? = nil, compute: Double? = nil) {
    self.download = download
    self.upload = upload
    self.compute = compute
  }

  /// Without what is not above 0 or no number: it comes from a machine that is not ours.
  var plausible: DeviceRates {
    func checked(_ value: Double?) -> Double? {
      value.flatMap { $0.isFinite && $0 > 0 ? $0 : nil }
    }
    return DeviceRates(
      download: checked(download), upload: checked(upload), compute: checked(compute))
  }
}

public struct JoinReply: Sendable, Codable, Equatable {
  public var run: RunID
  /// Stands for this stay in all further calls. Joining again gives a new one and ends the old.
  public var session: String
  /// How many rounds the run has.
  public var rounds: Int

  public init(run: RunID, session: String, rounds: Int) {
    self.run = run
    self.session = session
    self.rounds = rounds
  }
}

/// Who is speaking, in every call after joining.
public struct Caller: Sendable, Codable, Equatable {
  public var client: ClientID
  public var session: String
  /// Memory that is free now, in bytes: a request for work says it.
  public var freeMemoryBytes: Int?
  /// Local steps that are done of the task it is at: whoever attends says it. What changes is a sign of progress.
  public var steps: Int?

  public init(client: ClientID, session: String, freeMemoryBytes: Int? = nil, steps: Int? = nil) {
    self.client = client
    self.session = session
    self.freeMemoryBytes = freeMemoryBytes
    self.steps = steps
  }
}

/// A block of bytes by digest and size.
public struct BlobReference: Sendable, Codable, Equatable {
  public var digest: Digest
  public var bytes: Int

  public init(digest: Digest, bytes: Int) {
    self.digest = digest
    self.bytes = bytes
  }
}

/// One client's work in one round.
public struct TrainingTask: Sendable, Codable, Equatable {
  public var run: RunID
  public var round: Int
  public var attempt: Int
  public var client: ClientID
  /// The emulator to train on, and the files it is made of. The server's own task has no files.
  public var level: Int
  public var package: Package
  /// Whether the package is to be fetched again although it is held.
  public var refresh: Bool
  /// The adapter the round begins with, as safetensors bytes.
  public var adapter: BlobReference
  /// The digest of the adapter's tensors; the update states it.
  public var baseDigest: Digest
  public var method: String
  public var rank: Int?
  public var alpha: Double?
  /// The run's training instructions, a JSON document that trainers on both sides understand.
  public var settings: Data
  /// Local steps for this client in this round, where the plan says so.
  public var localSteps: Int?
  /// What the learning rate is multiplied with, how many of the adapter's rank components train, and in how many bits each value of the
  /// update is sent, where the plan says so.
  public var learningRateScale: Double?
  public var trainedRank: Int?
  public var uploadBits: Int?
  /// Which components train where `trainedRank` says how many.
  public var components = ComponentChoice.first
  /// How the update is written, in words, where bits are not enough to say it: see `UpdateEncoding`.
  public var upload: String?
  /// The last round before this one in which an update of this client was counted, 0: none. `nil`: what rounding keeps back of an update is not
  /// to be added to the next, as adapters of different rounds can't be compared value by value.
  public var countedRound: Int?
  /// From the run's seed, the round and the client's name.
  public var seed: UInt64
  /// When the coordinator stops waiting for this round, in seconds from the start of the task.
  public var deadlineSeconds: Double
  /// The most bytes the update's tensors may take.
  public var updateSizeLimit: Int

  public init(
    run: RunID, round: Int, attempt: Int = 1, client: ClientID, level: Int = 0,
    package: Package = Package(files: []), refresh: Bool = false, adapter: BlobReference,
    baseDigest: Digest, method: String = "lora", rank: Int? = nil, alpha: Double? = nil,
    settings: Data = Data("{}".utf8), localSteps: Int? = nil, seed: UInt64,
    deadlineSeconds: Double = 600, updateSizeLimit: Int = 1 << 30
  ) {
    self.run = run
    self.round = round
    self.attempt = attempt
    self.client = client
    self.level = level
    self.package = package
    self.refresh = refresh
    self.adapter = adapter
    self.baseDigest = baseDigest
    self.method = method
    self.rank = rank
    self.alpha = alpha
    self.settings = settings
    self.localSteps = localSteps
    self.seed = seed
    self.deadlineSeconds = deadlineSeconds
    self.updateSizeLimit = updateSizeLimit
  }

  /// Takes over what a plan says of this client's work.
  mutating func follow(_ assignment: RoundPlan.Assignment) {
    localSteps = assignment.localSteps
    learningRateScale = assignment.learningRateScale
    trainedRank = assignment.trainedRank
    uploadBits = assignment.uploadBits
  }

  /// The order of components in which the first `trainedRank` train and are sent; `nil`: as they are.
  package var componentOrder: ComponentOrder? {
    components == .random && trainedRank != nil ? ComponentOrder(seed: seed) : nil
  }

  /// How the update is written.
  ///
  /// - Throws: `badData` where what is said of it can't be.
  public var encoding: UpdateEncoding {
    get throws { try UpdateEncoding(rank: trainedRank, bits: uploadBits, word: upload) }
  }

  /// The training instructions as the type that the trainer reads them as.
  public func decodeSettings<Settings: Decodable>(
    as type: Settings.Type = Settings.self
  ) throws -> Settings {
    do { return try JSONDecoder().decode(type, from: settings) } catch {
      throw PeatError.badData(
        "The coordinator's training instructions can't be understood: \(describe(error)). Use the "
          + "same version of the program on both sides.")
    }
  }

  /// The seed of one client in one round of a run: independent of who came when.
  ///
  /// - Parameter number: which of its tasks there it is.
  public static func seed(
    run seed: UInt64, round: Int, client: ClientID, number: Int = 1
  ) -> UInt64 {
    let which = number == 1 ? "" : ", task \(number)"
    var random = SeededRandom(seed: seed, "round \(round), client \(client)\(which)")
    return random.next()
  }
}

/// A round goes on without a client that is there.
public struct LeftOut: Sendable, Codable, Equatable {
  public static let reasonLimit = 300
  public var round: Int
  /// In the planner's words; `nil` where it gave none.
  public var reason: String?

  public init(round: Int, reason: String? = nil) {
    self.round = round
    // One line: it is shown.
    self.reason = reason.map {
      $0.prefix(Self.reasonLimit).split(whereSeparator: \.isNewline).joined(separator: " ")
    }
  }
}

/// The answer to a client that asks for work.
public enum TaskReply: Sendable, Codable, Equatable {
  case train(TrainingTask)
  /// Nothing to do yet; ask again.
  case wait
  /// A round goes on without it; ask again for the next one.
  case leftOut(LeftOut)
  /// The session is not known here (any more): join again.
  case rejoin
  /// Another process joined under the same name; this one is no longer listened to.
  case superseded
  case finished(RunEnding)
}

/// Why a client's attendance ended.
public enum AttendReply: Sendable, Codable, Equatable {
  /// Nothing has happened; attend again at once, which says that the client is there.
  case again
  case finished(RunEnding)
  /// The session is not known here (any more): join again.
  case rejoin
  /// Another process joined under the same name.
  case superseded
}

/// Asks for the bytes of a blob from an offset on.
public struct DownloadRequest: Sendable, Codable, Equatable {
  public var caller: Caller
  public var digest: Digest
  public var offset: Int

  public init(caller: Caller, digest: Digest, offset: Int = 0) {
    self.caller = caller
    self.digest = digest
    self.offset = offset
  }
}

/// A client offers an update before it sends the tensors.
public struct UploadOffer: Sendable, Equatable {
  public var caller: Caller
  /// The update's header as JSON: `update.json`. Kept as bytes, because it is not yet trusted.
  public var header: Data
  /// Size and digest of the safetensors bytes to come.
  public var payload: BlobReference
  /// Of the task that it is the answer to.
  public var attempt: Int
  /// Its signature, where the connection knows by certificate who speaks: the server's side of a transport sets it.
  public var proof: UpdateProof?

  public init(caller: Caller, header: Data, payload: BlobReference, attempt: Int = 1) {
    self.caller = caller
    self.header = header
    self.payload = payload
    self.attempt = attempt
  }
}

public enum UploadAnswer: Sendable, Equatable {
  /// Send the bytes from this offset on, under this ticket.
  case send(ticket: String, offset: Int)
  case refused(UpdateRefusal)
  /// This very update was counted already.
  case accepted
  case rejoin
}

public enum UploadReply: Sendable, Equatable {
  case accepted
  case refused(UpdateRefusal)
}

/// A client could not do its task.
public struct FailureReport: Sendable, Codable, Equatable {
  public static let reasonLimit = 500
  public var caller: Caller
  public var round: Int
  public var reason: String

  public init(caller: Caller, round: Int, reason: String) {
    self.caller = caller
    self.round = round
    self.reason = String(reason.prefix(Self.reasonLimit))
  }
}
