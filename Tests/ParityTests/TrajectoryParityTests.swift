import Foundation
import PeatData
import PeatModels
import PeatNN
import PeatTensor
import PeatTuning
import TestSupport
import Testing

/// Ten AdamW steps against PyTorch's (Tools/golden/trajectories.py).
///
/// Losses agree to 1e-5 of their value, parameters to ‖a − b‖ / ‖b‖ ≤ 1e-4 per tensor.
@Suite("Training follows PyTorch") struct TrajectoryParityTests {
  static let cases = ["llama-tiny", "gpt2-tiny"].flatMap { model in
    ["lora", "lora-zero", "full", "ends"].map { "\(model)-\($0)" }
  }

  /// How the same step can be computed.
  enum Way: CaseIterable {
    case plain, checkpointing, twoWorkers, fourWorkers, accumulation, everything

    var threads: Int {
      switch self {
      case .twoWorkers, .everything: 2
      case .fourWorkers: 4
      case .plain, .checkpointing, .accumulation: 1
      }
    }
    var accumulation: Int { self == .accumulation || self == .everything ? 2 : 1 }
    var checkpointing: Bool { self == .checkpointing || self == .everything }
  }

  /// The tuned parameters by their golden names, in a model of their own.
  private func tuned(
    _ golden: GoldenCase
  ) throws -> (model: TransformerModel, parameters: [(name: String, parameter: Parameter)]) {
    let name = try golden.fact("model", as: String.self).split(separator: "/").last.map(String.init)
    let model = try GoldenModels.model(try #require(name))
    let ends = [0, model.blocks.count - 1]
    let adapter: Adapter
    switch try golden.fact("tuned", as: String.self) {
    case "full": return (model, model.parameters.map { ($0.name, $0) })
    case "ends":
      adapter = try Adapter(new: .endBlocks, for: model, blocks: ends, seed: 0, sourceDigest: nil)
    default:
      var start: NamedTensors = [:]
      for (key, tensor) in golden.tensors where key.hasPrefix("start.") {
        start[String(key.dropFirst("start.".count))] = tensor
      }
      adapter = Adapter(
        method: .lora(
          try LoRAConfiguration(
            rank: try golden.fact("rank"), alpha: Double(try golden.fact("alpha", as: Int.self)),
            targetModules: try golden.fact("targetModules"))), state: start, sourceDigest: nil)
    }
    return (model, try adapter.inject(into: model).parameters)
  }

  private static let batches: Result<[[[Int]]], any Error> = Result {
    struct Batches: Decodable { let inputIDs: [[[Int]]] }
    let url = ProjectFolders.golden.appendingPathComponent("trajectories/batches.json")
    return try JSONFile.read(Batches.self, from: url).inputIDs
  }

  private func data() throws -> TokenDataset {
    try TokenDataset(
      try Self.batches.get().flatMap { $0 }.map { TokenSequence($0.map(Int32.init)) },
      .documents(context: 18))
  }

  @Test(arguments: cases, Way.allCases)
  func `ten steps`(name: String, way: Way) throws {
    let golden = try GoldenCase(name, in: "trajectories")
    let data = try data()
    let finalRun: String = try golden.fact("finalRun")
    let undetermined = try golden.fact("undetermined", as: [String: [Int]].self)
    // Elements that rounding decides on in PyTorch too: where there are more, something else is wrong.
    let sensitive = try golden.fact("sensitive", as: [String: [Int]].self)
    #expect(sensitive.values.reduce(0) { $0 + $1.count } <= 1)
    let runs = try golden.fact("runs", as: [String: [String: Any]].self)
    #expect(runs.count == 4)
    for (label, run) in runs {
      let decay = try #require(run["weightDecay"] as? Double)
      // PyTorch's run decays norms and biases too, ours matrices alone: the same where all that trains is matrices.
      if decay > 0, !name.contains("lora") { continue }
      let (model, parameters) = try tuned(golden)
      #expect(
        parameters.reduce(0) { $0 + $1.parameter.count }
          == (try golden.fact("trainedParameters", as: Int.self)))
      let trainer = try Trainer(
        model, parameters: parameters.map(\.parameter), data: data,
        configuration: TrainingConfiguration(
          steps: 10, batch: 2, context: 18,
          learningRate: Float(try #require(run["learningRate"] as? Double)),
          optimizer: .init(weightDecay: Float(decay)),
          clipNorm: (run["maximumNorm"] as? Double).map { Float($0) },
          accumulation: way.accumulation, checkpointing: way.checkpointing, order: .sequential,
          threads: way.threads))
      let losses = try #require(run["losses"] as? [Double])
      let norms = run["norms"] as? [Double]
      for (step, expected) in losses.enumerated() {
        let report = try trainer.advance()
        #expect(report.tokens == (step + 1) * 36)
        #expect(
          abs(report.loss - expected) <= 1e-5 * expected,
          "\(label), step \(step): loss \(report.loss), PyTorch \(expected)")
        if let norm = norms?[step] {
          #expect(
            abs(report.gradientNorm - norm) <= 1e-4 * norm,
            "\(label), step \(step): norm \(report.gradientNorm), PyTorch \(norm)")
        }
      }
      trainer.finish()
      guard label == finalRun else { continue }
      var compared = 0
      for (key, parameter) in parameters {
        guard let expected = golden.tensors["final.\(key)"] else { continue }
        compared += 1
        let skipped = Set(undetermined[key].map { Array($0[0]..<$0[1]) } ?? []).union(
          sensitive[key] ?? [])
        let distance = frobeniusDistance(parameter.tensor, expected, skipping: skipped)
        #expect(distance <= 1e-4, "\(label): \(key) is \(distance) away from PyTorch's")
      }
      #expect(compared == golden.tensors.keys.filter { $0.hasPrefix("final.") }.count)
    }
  }

  @Test(arguments: cases.filter { !$0.hasSuffix("ends") }, Way.allCases)
  func `gradients of the first step`(name: String, way: Way) throws {
    let golden = try GoldenCase(name, in: "trajectories")
    let (model, parameters) = try tuned(golden)
    let trainable = TrainableParameters(parameters.map(\.parameter))
    defer { trainable.release() }
    let rows = try Self.batches.get()[0].map { $0.map(Int32.init) }
    let workers = StepWorkers(count: way.threads, parameterCount: trainable.count)
    workers.zeroGradient()
    let parts = way.accumulation == 1 ? [rows] : rows.map { [$0] }
    for part in parts {
      let inputs = part.flatMap { $0.dropLast() }
      let targets = part.flatMap { $0.dropFirst() }
      // Four workers divide the sequences among them.
      _ = workers.run(SequenceLayout(rows: inputs.count, length: 18)) { tape, layout in
        inputs.withUnsafeBufferPointer { inputs in
          targets.withUnsafeBufferPointer { targets in
            model.loss(
              .init(rebasing: inputs[layout.rows]), targets: .init(rebasing: targets[layout.rows]),
              layout: layout, scale: 1 / 36, on: tape, checkpointing: way.checkpointing)
          }
        }
      }
    }
    workers.joinGradients()
    var compared = 0
    for ((key, parameter), range) in zip(parameters, trainable.ranges) {
      guard let expected = golden.tensors["gradient.\(key)"] else { continue }
      compared += 1
      let found = Tensor(range.map { workers.gradient[$0] }, shape: parameter.shape)
      expectClose(found, expected, within: 2e-5, "gradient of \(key)")
    }
    #expect(compared == golden.tensors.keys.filter { $0.hasPrefix("gradient.") }.count)
  }
}
