import Foundation
import PeatNN
import PeatTensor

/// A controller's training as it was between two iterations, in one safetensors file.
public struct ControllerCheckpoint: Sendable {
  struct Facts: Sendable, Codable {
    var formatVersion = 1
    var configuration: ControllerTrainingConfiguration
    /// Names the environment: a training goes on in no other.
    var environment: String
    var iteration: Int
    var optimizerSteps: Int
    var curve: [PPO.Report]
  }

  let facts: Facts
  private let tensors: NamedTensors

  /// Rounds that were learned from.
  public var steps: Int { facts.curve.last?.steps ?? 0 }

  init(
    _ ppo: PPO, _ configuration: ControllerTrainingConfiguration, environment: String,
    curve: [PPO.Report]
  ) {
    let state = ppo.state
    tensors = ["values": state.values, "first_moment": state.first, "second_moment": state.second]
    facts = Facts(
      configuration: configuration, environment: environment, iteration: ppo.iteration,
      optimizerSteps: state.steps,
      curve: curve)
  }

  func restore(_ ppo: PPO) throws {
    guard let values = tensors["values"], let first = tensors["first_moment"],
      let second = tensors["second_moment"]
    else { throw PeatError.badData("The saved training lacks a tensor.") }
    try ppo.resume(
      iteration: facts.iteration, values: values, first: first, second: second,
      steps: facts.optimizerSteps)
  }

  static let key = "fedpeat.controller-training"

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

  /// Writes the file, whole or not at all.
  public func write(to url: URL) throws {
    let text = String(decoding: try JSONEncoder().encode(facts), as: UTF8.self)
    try SafeTensors.write(tensors, to: url, metadata: [Self.key: text])
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
    guard facts.formatVersion == 1 else {
      throw PeatError.badData(
        "The saved training '\(url.path)' is of format \(facts.formatVersion); this program reads 1."
      )
    }
    guard (try? facts.configuration.validate()) != nil,
      (0...facts.configuration.iterations).contains(facts.iteration),
      facts.curve.count == facts.iteration, (0...1_000_000_000_000).contains(facts.optimizerSteps),
      facts.curve.enumerated().allSatisfy({ number, report in
        report.iteration == number + 1
          && (0...2_000_000_000_000).contains(report.steps)
      })
    else {
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
  }
}
