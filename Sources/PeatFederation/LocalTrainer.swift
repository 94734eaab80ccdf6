import Foundation
import PeatTensor

/// What the federation needs of a trainer. A client has one, and the coordinator where it takes part itself.
///
/// Training takes long: an implementation does it on threads of its own, so that the connection stays alive meanwhile.
public protocol LocalTrainer: Sendable {
  /// Makes ready for a package that has arrived. Called before the first task on it, and again when it was replaced.
  ///
  /// - Parameters:
  ///   - folder: holds the package's files. They must not be changed.
  ///   - level: the emulator level the package stands for.
  func prepare(package folder: URL, level: Int) async throws

  /// Throws where this side can't train on a package, and so need not fetch it. Called before its weights (`*.safetensors`) are fetched.
  ///
  /// - Parameters:
  ///   - folder: holds the package's other files.
  ///   - task: what it is for.
  func check(outline folder: URL, level: Int, for task: TrainingTask) async throws

  /// How fast this side trains, in floating-point operations per second, measured in a moment; `nil` where that can't be said.
  func measureCompute() async -> Double?

  /// Tunes `adapter` on this side's data and gives its new values, under the same names and shapes.
  ///
  /// All chance comes from `task.seed`. What is thrown is reported to the coordinator as this client's failure.
  func train(_ task: TrainingTask, adapter: NamedTensors) async throws -> LocalResult

  /// The same, and tells how many local steps are done whenever that changed: where a round waits for whoever makes progress, silence is none.
  ///
  /// - Parameters:
  ///   - carried: what it gave back as `LocalResult.carried` with its last training that counted in this run; empty where there is none.
  ///   - unfinished: where it may keep how far it is, and goes on from what it kept there of this task, to the same result; `nil`: it begins at the
  ///     start, and keeps nothing.
  func train(
    _ task: TrainingTask, adapter: NamedTensors, carried: NamedTensors,
    unfinished: UnfinishedTraining?, onStep: @escaping @Sendable (Int) -> Void
  ) async throws -> LocalResult
}

extension LocalTrainer {
  public func prepare(package folder: URL, level: Int) async throws {}

  public func check(outline folder: URL, level: Int, for task: TrainingTask) async throws {}

  public func measureCompute() async -> Double? { nil }

  public func train(
    _ task: TrainingTask, adapter: NamedTensors, carried: NamedTensors,
    unfinished: UnfinishedTraining?, onStep: @escaping @Sendable (Int) -> Void
  ) async throws -> LocalResult {
    try await train(task, adapter: adapter)
  }
}

/// What a trainer gives back.
public struct LocalResult: Sendable {
  public var tensors: NamedTensors
  /// How many examples the data holds: the weight in FedAvg, n_k of McMahan et al. (arXiv 1602.05629).
  public var exampleCount: Int
  public var metrics: [String: Double]
  public var computeSeconds: Double
  public var peakMemoryBytes: Int
  public var tokens: Int
  /// What the trainer wants to be given with its next task, such as an optimizer's moments. It stays on this side, and survives a restart.
  public var carried: NamedTensors = [:]

  public init(
    tensors: NamedTensors, exampleCount: Int, metrics: [String: Double] = [:],
    computeSeconds: Double = 0, peakMemoryBytes: Int = 0, tokens: Int = 0
  ) {
    self.tensors = tensors
    self.exampleCount = exampleCount
    self.metrics = metrics
    self.computeSeconds = computeSeconds
    self.peakMemoryBytes = peakMemoryBytes
    self.tokens = tokens
  }
}
