import Foundation
import PeatTensor

/// Why an update was not taken.
public struct UpdateRefusal: Error, Sendable, Codable, Equatable, CustomStringConvertible {
  public enum Code: String, Sendable, Codable, CaseIterable {
    case tooLarge, malformed, digestMismatch
    case notExpected, wrongRun, wrongRound, wrongClient, wrongBase
    case wrongMethod, wrongRank, wrongAlpha, wrongEncoding
    case exampleCount, metrics, telemetry
    case missingTensors, unknownTensors, wrongShape, notFinite
    case tooFar, unsigned, wrongSignature
  }

  public let code: Code
  /// What was expected and what was found.
  public let message: String

  public init(_ code: Code, _ message: String) {
    self.code = code
    self.message = String(message.prefix(1_000))
  }

  public var description: String { message }
}

/// What an update of one round must be like. An update comes from a machine that is not ours: nothing is assumed.
///
/// The checks come in three steps, so that little is spent on a bad one: `check(_:bytes:)` on the header before any
/// byte of the tensors is taken, the size while bytes arrive, `decode(_:)` on the complete bytes.
public struct UpdatePolicy: Sendable {
  public var run: RunID
  public var round: Int
  /// The digest of that adapter, whole.
  public var baseDigest: Digest
  public var method: String
  public var rank: Int?
  public var alpha: Double?
  /// What trains of the adapter that the round began with.
  public var base: NamedTensors
  /// The shape of each of its tensors.
  public let shapes: [String: [Int]]
  /// The most bytes an update's tensors may take.
  public var sizeLimit: Int
  /// The largest example count that is believed. Nobody can check a client's word, and its update counts by it: the limit bounds how far one can
  /// outweigh all others.
  public var exampleLimit = CoordinatorConfiguration.usualExampleLimit
  /// The largest L2 norm of an update's difference from the adapter that the round began with; `nil`: it is not bounded.
  public var normLimit: Double?
  /// The run's seed, where devices that train a part of the rank draw its components; `nil`: they train the first.
  public var componentSeed: UInt64?
  /// No value of an adapter is as far from 0 as that; sums and products of larger ones would not stay finite.
  public static let largestValue: Float = 1e12
  /// No update has values so many times as large as 1, or as the tensor's largest where its round began: no training gets so far, and a model with such an adapter
  /// computes nothing of use, or no numbers at all.
  public static let largestGrowth: Float = 1e4
  static let metricLimit = 64

  public init(
    run: RunID, round: Int, base: NamedTensors, baseDigest: Digest? = nil, method: String,
    rank: Int?, alpha: Double?, sizeLimit: Int
  ) {
    self.run = run
    self.round = round
    self.base = base
    self.baseDigest = baseDigest ?? base.digest
    self.method = method
    self.rank = rank
    self.alpha = alpha
    shapes = base.mapValues(\.shape)
    self.sizeLimit = sizeLimit
  }

  /// Checks all that is known before the tensors arrive. Throws `UpdateRefusal`.
  public func check(_ header: UpdateHeader, from client: ClientID, bytes: Int) throws {
    guard header.client == client else {
      throw UpdateRefusal(
        .wrongClient, "The update is signed '\(header.client)' but came from '\(client)'.")
    }
    try expect(header.run, run, .wrongRun, "run")
    try expect(header.round, round, .wrongRound, "round")
    try checkSize(bytes)
    guard header.baseDigest == baseDigest else {
      throw UpdateRefusal(
        .wrongBase,
        "The update was trained from the adapter \(header.baseDigest?.short ?? "(not stated)"), "
          + "but round \(round) began with \(baseDigest.short).")
    }
    try expect(header.method, method, .wrongMethod, "method")
    try expect(header.rank, rank, .wrongRank, "rank")
    try expect(header.alpha, alpha, .wrongAlpha, "alpha")
    guard (1...exampleLimit).contains(header.exampleCount) else {
      throw UpdateRefusal(
        .exampleCount,
        "exampleCount is \(header.exampleCount); it must lie between 1 and \(exampleLimit).")
    }
    guard header.metrics.count <= Self.metricLimit,
      header.metrics.keys.allSatisfy({ $0.utf8.count <= 64 })
    else {
      throw UpdateRefusal(
        .metrics, "There may be \(Self.metricLimit) metrics with names of up to 64 bytes.")
    }
    if let (name, value) = header.metrics.sorted(by: { $0.key < $1.key })
      .first(where: { !$0.value.isFinite })
    {
      throw UpdateRefusal(.metrics, "The metric '\(name)' is \(value); it must be finite.")
    }
    if let field = header.telemetry.implausibleField {
      throw UpdateRefusal(
        .telemetry, "The telemetry says \(field); its numbers are finite and not negative.")
    }
  }

  /// Checks a size that is stated, or that has arrived so far.
  public func checkSize(_ bytes: Int) throws {
    guard bytes >= 0, bytes <= sizeLimit else {
      throw UpdateRefusal(
        .tooLarge, "The update takes \(bytes) bytes; the limit is \(sizeLimit) bytes.")
    }
  }

  /// Checks that an update is written as its task told. Throws `UpdateRefusal`.
  public func check(_ header: UpdateHeader, followsTask task: TrainingTask?) throws {
    try expect(header.trainedRank, task?.trainedRank, .wrongEncoding, "trainedRank")
    try expect(header.uploadBits, task?.uploadBits, .wrongEncoding, "uploadBits")
    try expect(header.upload, task?.upload, .wrongEncoding, "upload")
  }

  /// Reads the adapter's new values from a complete file and checks names, shapes and values. Throws `UpdateRefusal`.
  public func decode(_ file: URL, _ header: UpdateHeader) throws -> NamedTensors {
    let tensors = try read(file, header)
    try check(tensors)
    return tensors
  }

  /// The same checks, where the values are not needed yet.
  ///
  /// - Returns: the L2 norm of the difference from the adapter that the round began with.
  func inspect(_ file: URL, _ header: UpdateHeader) throws -> Double {
    try check(read(file, header))
  }

  private func read(_ file: URL, _ header: UpdateHeader) throws -> NamedTensors {
    do {
      let encoding = try UpdateEncoding(
        rank: header.trainedRank, bits: header.uploadBits, word: header.upload)
      let order = componentOrder(of: header)
      let read = try encoding.decode(
        SafeTensorsFile(contentsOf: file), onto: order?.applied(to: base) ?? base)
      return order?.undone(in: read) ?? read
    } catch let refusal as UpdateRefusal { throw refusal } catch {
      let reason = "\(error)".replacingOccurrences(of: file.path, with: ClientUpdate.tensorsFile)
      throw UpdateRefusal(.malformed, reason)
    }
  }

  private func componentOrder(of header: UpdateHeader) -> ComponentOrder? {
    guard let componentSeed, header.trainedRank != nil else { return nil }
    return ComponentOrder(
      seed: TrainingTask.seed(run: componentSeed, round: header.round, client: header.client))
  }

  /// Checks names, shapes and values. Throws `UpdateRefusal`.
  ///
  /// - Returns: the L2 norm of the difference from the adapter that the round began with.
  @discardableResult
  public func check(_ tensors: NamedTensors) throws -> Double {
    let missing = shapes.keys.filter { tensors[$0] == nil }.sorted()
    guard missing.isEmpty else {
      throw UpdateRefusal(
        .missingTensors, "The update lacks \(missing.count) tensors, \(list(missing)).")
    }
    let unknown = tensors.keys.filter { shapes[$0] == nil }.sorted()
    guard unknown.isEmpty else {
      throw UpdateRefusal(
        .unknownTensors,
        "The update has \(unknown.count) tensors that the adapter has not, \(list(unknown)).")
    }
    var square = 0.0
    for (name, tensor) in tensors.sorted(by: { $0.key < $1.key }) {
      guard let start = base[name], tensor.shape == start.shape else {
        throw UpdateRefusal(
          .wrongShape,
          "'\(name)' has shape \(tensor.shape); the adapter's has \(shapes[name] ?? []).")
      }
      let extent = tensor.extent(from: start)
      guard extent.squaredDistance.isFinite else {
        throw UpdateRefusal(
          .notFinite, "'\(name)' holds a value that is not a finite number (NaN or infinity).")
      }
      if extent.largest > Self.largestGrowth {
        // Control variates are gradients, which may be of any size.
        let before = start.extent(from: start).largest
        let limit =
          ControlNames.isControl(name) ? Self.largestValue : Self.largestGrowth * max(1, before)
        guard extent.largest <= min(limit, Self.largestValue) else {
          throw UpdateRefusal(
            .tooFar,
            "'\(name)' holds \(extent.largest); where its round began the largest value was \(before), and values beyond ±\(limit) are not taken."
          )
        }
      }
      square += extent.squaredDistance
    }
    guard let normLimit, square.squareRoot() > normLimit else { return square.squareRoot() }
    throw UpdateRefusal(
      .tooFar,
      "The update is \(square.squareRoot()) away from the round's adapter (L2 norm of the difference); updateNormLimit is \(normLimit)."
    )
  }

  private func list(_ names: [String]) -> String {
    names.prefix(3).map { "'\($0.prefix(120))'" }.joined(separator: ", ")
      + (names.count > 3 ? ", …" : "")
  }

  private func expect<Value: Equatable>(
    _ found: Value?, _ expected: Value?, _ code: UpdateRefusal.Code, _ name: String
  ) throws {
    guard found == expected else {
      func text(_ value: Value?) -> String { value.map { "\($0)" } ?? "none" }
      throw UpdateRefusal(
        code, "The update's \(name) is \(text(found)); this round's is \(text(expected)).")
    }
  }
}
