import ArgumentParser
import FedPEAT
import Foundation

struct Compress: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Make an emulator: the model with its middle compressed.",
    discussion: """
      Example: fedpeat compress models/stories260K --bottom 1 --top 1 --recipe layer-drop=2 --out emulator

      A recipe's words are applied from left to right, in this order:
      layer-drop=N keeps N blocks of the middle, evenly; layers=0:2 those, counted in the middle from 0.
      importance=N, loss-importance=N and cluster=N keep N that matter, on the text of --calibration.
      share runs the nearest kept block in the place of each that is missing.
      prune-heads=F and prune-channels=F keep a share F of heads and feed-forward channels.
      low-rank=F keeps a share F of each matrix's singular values.
      int8, int4, bf16, f16 keep the middle's matrices in fewer bits, on disk, on the wire and in memory.

      An emulator of chosen blocks alone is a checkpoint folder that transformers loads too. --distill tunes the middle on \
      a text of the owner's, before it is stored in fewer bits, so that it computes what the full model's does.
      """)

  @Argument(help: "The full model's folder.")
  var model: String

  @Option(help: "Blocks at the bottom that stay as they are, where an adapter sits.")
  var bottom = 1

  @Option(help: "Blocks at the top that stay as they are, where an adapter sits.")
  var top = 1

  @Option(help: "How the middle is compressed.")
  var recipe: String

  @Option(help: "The folder to write.")
  var out: String

  @Option(
    help:
      "A text on which emulator and full model are compared, and that importance and cluster look at; fidelity is null if not given."
  )
  var calibration: String?

  @OptionGroup var distillation: DistillationOptions

  @OptionGroup var common: CommonOptions

  struct Report: Encodable {
    var bytes: Int
    var fullBytes: Int
    var blocks: Int
    var keptBlocks: [Int]
    var parameters: Int
    var exposure: Double
    var fidelity: FidelityReport?

    private enum CodingKeys: String, CodingKey {
      case bytes, fullBytes, blocks, keptBlocks, parameters, exposure, fidelity
    }

    func encode(to encoder: any Encoder) throws {
      var container = encoder.container(keyedBy: CodingKeys.self)
      try container.encode(bytes, forKey: .bytes)
      try container.encode(fullBytes, forKey: .fullBytes)
      try container.encode(blocks, forKey: .blocks)
      try container.encode(keptBlocks, forKey: .keptBlocks)
      try container.encode(parameters, forKey: .parameters)
      try container.encode(exposure, forKey: .exposure)
      try container.encode(fidelity, forKey: .fidelity)
    }
  }

  func run() async throws {
    let recipe = try EmulatorRecipe(recipe)
    let target = URL(path: out)
    try CheckpointWriter.checkOutput(target, inputs: [URL(path: model)])
    let source = try Checkpoint(folder: URL(path: model))
    guard try EmulatorFacts.read(in: source.folder) == nil else {
      throw PeatError.badData("'\(model)' is an emulator already; compress the full model.")
    }
    guard target.standardizedFileURL != source.folder.standardizedFileURL else {
      throw PeatError.usage("--out is the model's own folder; name another.")
    }
    let full = try source.model()
    let split = try ModelSplit(bottom: bottom, top: top, of: full.blocks.count)
    try recipe.check(full.configuration, split)
    let sample = try calibration.map { text in
      CompressionCalibration(
        try TokenDataset.make(
          try DocumentReader.read(URL(path: text)),
          tokenizer: try Tokenizer(folder: source.folder), layout: .stream,
          context: min(256, full.configuration.contextLength), addBegin: nil),
        threads: common.threadCount)
    }
    var emulator = try recipe.makeUnpacked(from: full, split: split, calibration: sample)
    try distillation.run(&emulator, full: full, source: source, target: target, common)
    emulator.pack()
    emulator.fidelity = try calibration.map { try measure(full, emulator, source, URL(path: $0)) }
    let fidelity = emulator.fidelity
    let facts = try emulator.facts(source: source, full: full)
    try checkInterruption()
    try emulator.write(to: target, source: source, facts: facts)
    let written = try Checkpoint(folder: target)
    let report = Report(
      bytes: written.byteCount, fullBytes: source.byteCount, blocks: emulator.model.blocks.count,
      keptBlocks: emulator.keptBlocks, parameters: emulator.model.parameterCount,
      exposure: facts.exposure, fidelity: fidelity)
    var rows = [
      ["emulator", out],
      ["blocks of the full model kept", report.keptBlocks.map(String.init).joined(separator: " ")],
      ["parameters", Format.count(report.parameters)],
      [
        "bytes",
        "\(Format.count(report.bytes)) of \(Format.count(report.fullBytes)) "
          + "(\(Format.percent(Double(report.bytes) / Double(report.fullBytes))))",
      ],
      ["exposure of the middle", Format.percent(report.exposure)],
    ]
    if let fidelity {
      rows.append(["loss of the full model", Format.number(fidelity.fullLoss, digits: 4)])
      rows.append(["loss of the emulator", Format.number(fidelity.emulatorLoss, digits: 4)])
    }
    try common.report(report, text: Format.table(rows))
  }

  private func measure(
    _ full: TransformerModel, _ emulator: Emulator, _ source: Checkpoint, _ file: URL
  ) throws -> FidelityReport {
    let tokenizer = try Tokenizer(folder: source.folder)
    let tokens = try DocumentReader.read(file).map {
      try tokenizer.encode($0.text, addSpecialTokens: true)
    }
    let measure = try PerplexityMeasure(
      context: min(full.configuration.contextLength, 512), threads: common.threadCount, model: full)
    return FidelityReport(
      full: try measure.loss(
        full, rows: tokens, shouldStop: { Interruption.isRequested }),
      emulator: try measure.loss(
        emulator.model, rows: tokens, shouldStop: { Interruption.isRequested }))
  }
}
