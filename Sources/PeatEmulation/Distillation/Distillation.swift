import Foundation
import PeatData
import PeatModels
import PeatNN
import PeatTensor
import PeatTuning

/// A distillation under way: steps of a `Trainer` on the middle's weights, of which the moment is kept when an adapter tuned through the emulator is
/// worth the most in the full model.
///
/// Offsite-tuning keeps the moment when the emulator itself predicts best, which is not what it is there for.
public final class Distillation {
  public let trainer: Trainer
  private let emulator: Emulator
  private let teacher: TransformerModel
  private let settings: DistillationSettings
  private let probe: PlugInProbe?
  private let sourceDigest: Digest?
  private var best: (check: DistillationCheck, values: NamedTensors)?

  /// - Parameters:
  ///   - emulator: whose middle's weights are changed; it must not be packed.
  ///   - data: the owner's public text.
  ///   - probe: makes the checks that the settings ask for; without it there are none.
  ///   - sourceDigest: of the full model.
  /// - Throws: `usage` or `badData` where settings or data make no sense.
  public init(
    _ emulator: Emulator, full: TransformerModel, data: TokenDataset,
    settings: DistillationSettings, probe: PlugInProbe? = nil, sourceDigest: Digest? = nil
  ) throws {
    try settings.validate(contextLength: full.configuration.contextLength)
    teacher = try full.asTeacher(of: emulator.split)
    let training = settings.training(emulator.model.configuration)
    let probe = settings.checks > 0 ? probe : nil
    let objective = try DistillationObjective(
      emulator, full: full, teacher: teacher, data: data, settings: settings, training,
      choosing: probe.map { "\(settings.checks) checks on \($0.name)" } ?? "the last")
    trainer = try Trainer(
      emulator.model, parameters: emulator.middleParameters, data: data,
      configuration: training, objective: objective)
    trainer.modelDigest = sourceDigest
    self.emulator = emulator
    self.settings = settings
    self.probe = probe
    self.sourceDigest = sourceDigest
  }

  /// The best moment so far.
  public var chosen: DistillationCheck? { best?.check }

  /// Makes all steps that are left; where none is left the middle's weights are those of the best moment, and are trained no more.
  ///
  /// - Parameters:
  ///   - shouldStop: asked between steps, and within probes.
  ///   - onStep: called after each step.
  ///   - onCheck: called after each probe.
  /// - Throws: `interrupted` where a probe was to stop; what was done can be saved then as after steps that were, and the probe is made when it is resumed.
  public func run(
    shouldStop: () -> Bool = { false }, onStep: (Trainer.Progress) throws -> Void = { _ in },
    onCheck: (DistillationCheck) -> Void = { _ in }
  ) throws -> Trainer.Outcome {
    // Perhaps it was saved before its probe; that finds the same once more.
    if trainer.step > 0 { try check(after: trainer.step, shouldStop, onCheck) }
    let outcome = try trainer.run(shouldStop: shouldStop) { progress in
      try check(after: progress.report.step, shouldStop, onCheck)
      try onStep(progress)
    }
    guard outcome.isComplete else { return outcome }
    trainer.finish()
    if let best, best.check.step < outcome.steps {
      for parameter in emulator.middleParameters {
        if let tensor = best.values[parameter.name] { parameter.assign(tensor) }
        best.values[parameter.name]?.releasePages()
      }
    }
    return outcome
  }

  /// Tunes a probe where the settings ask for one after this step, and keeps the moment if it is the best.
  private func check(
    after step: Int, _ shouldStop: () -> Bool, _ onCheck: (DistillationCheck) -> Void
  ) throws {
    guard let probe, let sourceDigest, settings.isCheck(step) else { return }
    trainer.rest()
    let found = try probe.run(
      emulator, full: teacher, sourceDigest: sourceDigest, shouldStop: shouldStop)
    let check = DistillationCheck(step: step, plugInLoss: found.plugInLoss)
    onCheck(check)
    if check.plugInLoss <= best?.check.plugInLoss ?? .infinity {
      // Memory is short while a model is distilled; where the disk has no room either, memory it is.
      best = (check, (try? values.onDisk()) ?? values.copied())
    }
  }

  private var values: NamedTensors {
    Dictionary(
      uniqueKeysWithValues: emulator.middleParameters.map { ($0.name, $0.tensor) })
  }
}

// MARK: Interrupting and resuming

extension Distillation {
  /// The file of the best moment so far, beside those of `Trainer.State`.
  public static let bestName = "distillation_best.safetensors"

  /// Saves where the work stands, for `resume`.
  public func save(in folder: URL) throws {
    let write = try best.map { best in
      let check = String(decoding: try JSONFile.encode(best.check), as: UTF8.self)
      return { url in try SafeTensors.write(best.values, to: url, metadata: ["check": check]) }
    }
    trainer.rest()
    try trainer.save(in: folder, others: [Self.bestName: write])
    for tensor in best?.values.values.map({ $0 }) ?? [] { tensor.releasePages() }
  }

  /// Goes on where `save` left off.
  ///
  /// - Throws: `badData` where the state belongs to other weights or settings.
  public func resume(_ state: Trainer.State, from folder: URL) throws {
    let url = folder.appendingPathComponent(Self.bestName)
    var saved: (check: DistillationCheck, values: NamedTensors)?
    if FileManager.default.fileExists(atPath: url.path) {
      let file = try SafeTensorsFile(contentsOf: url)
      let values = try file.tensors()
      guard let text = file.metadata["check"],
        let check = try? JSONDecoder().decode(DistillationCheck.self, from: Data(text.utf8)),
        values.mapValues(\.shape) == self.values.mapValues(\.shape),
        check.plugInLoss.isFinite, check.step <= state.step,
        values.values.allSatisfy(\.isFinite)
      else {
        throw PeatError.badData(
          "'\(url.path)' is no moment of this distillation. Delete the folder's saved state and start again."
        )
      }
      saved = (check, (try? values.onDisk()) ?? values.copied())
    }
    try trainer.resume(state)
    best = saved
  }
}
