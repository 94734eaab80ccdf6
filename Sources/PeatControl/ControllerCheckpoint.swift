import Foundation
import PeatNN
import PeatTensor

/// A controller's training as it was between two iterations, in one safetensors file.
public struct ControllerCheckpoint: Sendable {
  struct Facts: Sendable, Codable {
    var formatVersion = ControllerCheckpoint.formatVersion
    var configuration: ControllerTrainingConfiguration
    /// Names the environment with all that defines it: a training goes on in no other.
    var environment: String
    /// As its user names it.
    var environmentName: String?
    /// Of PPO.
    var iteration: Int
    var optimizerSteps: Int
    var curve: [SABPPO.Report]
    /// Where the expert is still imitated; then there are no iterations of PPO.
    var cloning: Cloning?

    struct Cloning: Sendable, Codable {
      var iteration: Int
      var random: SeededRandom
    }
  }

  static let formatVersion = 2
  let facts: Facts
  /// What learning by PPO took, as whoever trains has measured it.
  public var spent = Spent()
  private let tensors: NamedTensors
  /// Of cloning, per iteration.
  private let decisions: [(expert: [UInt16], played: [UInt16])]

  public struct Spent: Sendable, Codable, Equatable {
    public var seconds = 0.0
    public var processorSeconds = 0.0

    public init() {}
  }

  /// Rounds that PPO has learned from.
  public var steps: Int { facts.curve.last?.steps ?? 0 }

  /// Iterations in which the expert was imitated; `nil` where that is over, or there is none.
  public var clonedIterations: Int? { facts.cloning?.iteration }

  init(_ ppo: SABPPO, _ training: ControllerTraining<some ControlEnvironment>) {
    self.init(
      ppo.state, training, iteration: ppo.iteration, curve: training.curve, cloning: nil,
      decisions: [])
  }

  init(_ cloning: CloningState, _ training: ControllerTraining<some ControlEnvironment>) {
    self.init(
      cloning.learner, training, iteration: 0, curve: [],
      cloning: .init(iteration: cloning.iteration, random: cloning.random),
      decisions: cloning.decisions)
  }

  private init(
    _ state: Learner.State, _ training: ControllerTraining<some ControlEnvironment>,
    iteration: Int, curve: [SABPPO.Report], cloning: Facts.Cloning?,
    decisions: [(expert: [UInt16], played: [UInt16])]
  ) {
    tensors = ["values": state.values, "first_moment": state.first, "second_moment": state.second]
    facts = Facts(
      configuration: training.configuration, environment: training.environment.fingerprint,
      environmentName: training.environment.name, iteration: iteration,
      optimizerSteps: state.steps, curve: curve, cloning: cloning)
    self.decisions = decisions
  }

  /// The weights and their optimizer.
  func learnerState() throws -> Learner.State {
    guard let values = tensors["values"], let first = tensors["first_moment"],
      let second = tensors["second_moment"]
    else { throw PeatError.badData("The saved training lacks a tensor.") }
    return Learner.State(values: values, first: first, second: second, steps: facts.optimizerSteps)
  }

  func cloningState() throws -> CloningState? {
    guard let cloning = facts.cloning else { return nil }
    return CloningState(
      iteration: cloning.iteration, random: cloning.random, learner: try learnerState(),
      decisions: decisions)
  }
}

// MARK: - Files

extension ControllerCheckpoint {
  static let key = "fedpeat.controller-training"
  private static let spentKey = "fedpeat.spent"

  /// Where the training of a controller is kept while it lasts.
  public static func url(of controller: URL) -> URL {
    controller.deletingPathExtension().appendingPathExtension("training")
  }

  /// The training that a command goes on from; `nil` where it begins anew.
  ///
  /// - Throws: where one is there and the command does not say that it goes on, or the other way round.
  public static func read(of controller: URL, resume: Bool) throws -> ControllerCheckpoint? {
    let saved = url(of: controller)
    let exists = FileManager.default.fileExists(atPath: saved.path)
    if !resume, exists {
      throw PeatError.usage(
        "'\(saved.relativePath)' holds an interrupted training of this controller. Go on from it with --resume, or delete that file to begin anew."
      )
    }
    if resume, !exists {
      throw PeatError.inputOutput(
        "There is nothing to go on from: no '\(saved.relativePath)'. Leave out --resume to begin.")
    }
    return resume ? try ControllerCheckpoint(contentsOf: saved) : nil
  }

  /// The tensor of an iteration of cloning.
  private static func name(_ iteration: Int, _ part: String) -> String {
    "cloning.\(iteration).\(part)"
  }

  /// Writes the file, whole or not at all.
  public func write(to url: URL) throws {
    let encoder = JSONEncoder()
    let text = String(decoding: try encoder.encode(facts), as: UTF8.self)
    let spent = String(decoding: try encoder.encode(spent), as: UTF8.self)
    var raw: [String: SafeTensors.Raw] = [:]
    for (iteration, both) in decisions.enumerated() {
      for (part, choices) in [("expert", both.expert), ("played", both.played)] {
        let bytes = choices.map(\.littleEndian).withUnsafeBytes { Data($0) }
        raw[Self.name(iteration, part)] = .init("U16", [choices.count], bytes)
      }
    }
    try SafeTensors.write(
      tensors, raw: raw, to: url, as: { _ in .float32 },
      metadata: [Self.key: text, Self.spentKey: spent])
  }

  /// - Throws: `inputOutput` where the file can't be read; `badData` where it is no training's.
  public init(contentsOf url: URL) throws {
    let file = try SafeTensorsFile(contentsOf: url)
    guard let text = file.metadata[Self.key] else {
      throw PeatError.badData("'\(url.path)' holds no controller's training.")
    }
    do { facts = try JSONDecoder().decode(Facts.self, from: Data(text.utf8)) } catch {
      throw PeatError.badData(
        "The saved training '\(url.path)' can't be understood (\(describe(error))).", cause: error)
    }
    guard (1...Self.formatVersion).contains(facts.formatVersion) else {
      throw PeatError.badData(
        "The saved training '\(url.path)' is of format \(facts.formatVersion); this program reads 1 to \(Self.formatVersion)."
      )
    }
    guard facts.areConsistent else {
      throw PeatError.badData(
        "The saved training '\(url.path)' holds counts that contradict each other. It is damaged; begin anew without --resume."
      )
    }
    var tensors: NamedTensors = [:]
    for name in ["values", "first_moment", "second_moment"] {
      let tensor = try file.tensor(named: name)
      guard tensor.isFinite else {
        throw PeatError.badData(
          "The saved training '\(url.path)' holds NaN or infinity in '\(name)'.")
      }
      tensors[name] = tensor.copied()
    }
    self.tensors = tensors
    decisions = try facts.lessons.map { iteration in
      func choices(_ part: String) throws -> [UInt16] {
        let name = Self.name(iteration, part)
        guard let entry = file.entries[name], entry.dtype == "U16" else {
          throw PeatError.badData("The saved training '\(url.path)' lacks '\(name)'.")
        }
        return file.withBytes(of: entry) { bytes in
          (0..<bytes.count / 2).map {
            UInt16(littleEndian: bytes.loadUnaligned(fromByteOffset: 2 * $0, as: UInt16.self))
          }
        }
      }
      return (try choices("expert"), try choices("played"))
    }
    if let text = file.metadata[Self.spentKey],
      let known = try? JSONDecoder().decode(Spent.self, from: Data(text.utf8)),
      known.seconds >= 0, known.processorSeconds >= 0
    {
      spent = known
    }
  }
}

extension ControllerCheckpoint.Facts {
  /// The iterations of cloning whose decisions are kept.
  fileprivate var lessons: Range<Int> {
    guard let cloning, let settings = configuration.cloning,
      cloning.iteration < settings.iterations
    else { return 0..<0 }
    return 0..<cloning.iteration
  }

  fileprivate var areConsistent: Bool {
    guard (try? configuration.validate()) != nil,
      (0...configuration.iterations).contains(iteration), curve.count == iteration,
      (0...1_000_000_000_000).contains(optimizerSteps),
      curve.enumerated().allSatisfy({ number, report in
        report.iteration == number + 1 && (0...2_000_000_000_000).contains(report.steps)
      })
    else { return false }
    guard let cloning else { return true }
    guard let settings = configuration.cloning else { return false }
    return iteration == 0 && (0...settings.iterations).contains(cloning.iteration)
  }
}
