import Foundation
import PeatData
import PeatModels
import PeatTensor
import PeatTuning
import TestSupport
import Testing

/// DoRA, IA3, tuned norms and LoRA's options against PEFT (Tools/golden/methods.py).
@Suite("Methods agree with PEFT") struct MethodParityTests {
  static let names = ["llama-tiny", "gpt2-tiny"].flatMap { base in
    ["dora", "ia3", "norms", "options"].map { "\(base)-\($0)" }
  }

  private static func base(_ name: String) -> String {
    name.split(separator: "-").prefix(2).joined(separator: "-")
  }

  private func read(_ name: String, for model: TransformerModel) throws -> Adapter {
    try AdapterFolder.read(
      ProjectFolders.golden.appendingPathComponent("methods/\(name)"), for: model
    ).0
  }

  @Test(arguments: names) func `logits, injected and merged`(name: String) throws {
    let golden = try GoldenCase("expected", in: "methods/\(name)")
    let model = try GoldenModels.model(Self.base(name))
    let rows = try golden.rows()
    let expected = try golden.matrix("logits")
    let without = model.logits(rows)
    #expect(Difference(without, expected).relative > 0.01)
    let adapter = try read(name, for: model)
    let injected = try adapter.inject(into: model)
    expectClose(model.logits(rows), expected, within: 1e-4, "injected")
    injected.remove()
    #expect(model.logits(rows) == without)
    let merged = try PlugIn.mergedTensors(adapter, into: model, digest: model.tensors.digest)
    let plain = try TransformerModel(
      configuration: model.configuration, tensors: merged.tensors, source: "merged")
    expectClose(plain.logits(rows), expected, within: 1e-4, "merged")
  }

  @Test(arguments: names, [1, 2])
  func `gradients, and parameters after one step`(name: String, threads: Int) throws {
    let golden = try GoldenCase("expected", in: "methods/\(name)")
    let model = try GoldenModels.model(Self.base(name))
    let injected = try read(name, for: model).inject(into: model)
    let batch = try golden.rows("batch")
    let data = try TokenDataset(
      batch.map { TokenSequence($0) }, .documents(context: batch[0].count - 1))
    func trainer() throws -> Trainer {
      try Trainer(
        model, parameters: injected.parameters.map(\.parameter), data: data,
        configuration: TrainingConfiguration(
          steps: 1, batch: 2, context: batch[0].count - 1, learningRate: 1e-2,
          optimizer: .init(weightDecay: 0), order: .sequential, threads: threads))
    }
    let first = try trainer()
    let vector = first.gradient()
    first.finish()
    let second = try trainer()
    let report = try second.advance()
    second.finish()
    let loss: Double = try golden.fact("batchLoss")
    #expect(abs(report.loss - loss) <= 1e-5 * loss)
    var offset = 0
    for (key, parameter) in injected.parameters {
      let gradient = Tensor(
        Array(vector[offset..<offset + parameter.count]), shape: parameter.shape)
      offset += parameter.count
      let away = frobeniusDistance(gradient, try golden.tensor("gradient.\(key)"))
      #expect(away <= 1e-4, "gradient of \(key) is \(away) away")
      let distance = frobeniusDistance(
        parameter.tensor, try golden.tensor("final.\(key)"))
      #expect(distance <= 1e-4, "\(key) is \(distance) away after a step")
    }
    #expect(
      injected.parameters.count == golden.tensors.keys.count { $0.hasPrefix("final.") })
  }

  private func write(_ adapter: Adapter, for model: TransformerModel, to folder: URL) throws {
    try AdapterFolder.write(
      adapter,
      facts: .init(
        method: adapter.method.name, sourceDigest: nil, modelDigest: nil, split: nil,
        blockMap: Dictionary(uniqueKeysWithValues: model.blocks.indices.map { (String($0), $0) })),
      configuration: model.configuration, baseModel: "base", to: folder)
  }

  @Test(arguments: names) func `a folder by PEFT, written by us, holds the same`(name: String)
    throws
  {
    let model = try GoldenModels.model(Self.base(name))
    let adapter = try read(name, for: model)
    try withTemporaryFolder { scratch in
      let folder = scratch.appendingPathComponent("adapter")
      try write(adapter, for: model, to: folder)
      let (again, _) = try AdapterFolder.read(folder, for: model)
      #expect(again.state == adapter.state && again.method.name == adapter.method.name)
      #expect(try AdapterFolder.read(folder).0.state == adapter.state)
    }
  }

  @Test(.needsPeers, arguments: names)
  func `PEFT loads what we write and computes the same`(name: String) async throws {
    let golden = try GoldenCase("expected", in: "methods/\(name)")
    let model = try GoldenModels.model(Self.base(name))
    let adapter = try read(name, for: model)
    try await withTemporaryFolder { scratch in
      let folder = scratch.appendingPathComponent("adapter")
      try write(adapter, for: model, to: folder)
      let theirs = try await Peers.logits(
        "check_adapter.py", [GoldenModels.folder(Self.base(name)), folder],
        ids: try golden.rows(), in: scratch)
      expectClose(theirs, try golden.matrix("logits"), within: 1e-5, "logits")
    }
  }
}
