import ArgumentParser
import FedPEAT
import Foundation

struct Pretrain: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Make a small foundation model of your own from text.",
    discussion: """
      Example: fedpeat pretrain --text story.txt --out model --blocks 8 --hidden-size 128

      Learns a byte-level vocabulary, then trains a Llama-type model from scratch until its loss on held-out text levels \
      off. transformers loads the result.
      """)

  @Option(help: "Text, a JSON array, or JSON lines.")
  var text: String

  @Option(help: "The folder to write.")
  var out: String

  @Option(help: "Tokens in the vocabulary.")
  var vocabulary = 1024

  @Option(help: "Blocks.")
  var blocks = 8

  @Option(help: "Width of the hidden states.")
  var hiddenSize = 128

  @Option(help: "Attention heads.")
  var heads = 4

  @Option(help: "Key/value heads.")
  var keyValueHeads = 2

  @Option(help: "Width of the feed-forward layer; 8/3 of the hidden size if not given.")
  var feedForwardSize: Int?

  @Option(help: "Input tokens per window, and the longest text the model reads.")
  var context = 256

  @Option(help: "Windows per step.")
  var batch = 16

  @Option(help: "Learning rate.")
  var learningRate: Float = 3e-3

  @Option(help: "Steps at most.")
  var steps = 2000

  @OptionGroup var streaming: StreamOptions

  @OptionGroup var common: CommonOptions

  func run() async throws {
    let target = URL(path: out)
    try CheckpointWriter.checkOutput(target)
    let configuration = PretrainingConfiguration(
      vocabularySize: vocabulary, blocks: blocks, hiddenSize: hiddenSize, heads: heads,
      keyValueHeads: keyValueHeads,
      feedForwardSize: feedForwardSize ?? max(8, (min(hiddenSize, 1 << 20) * 8 / 3 + 7) / 8 * 8),
      context: context,
      batch: batch, learningRate: learningRate, maximumSteps: steps, seed: common.seedValue,
      threads: common.threadCount)
    try configuration.validate()
    let file = URL(path: text)
    let pretraining =
      try streaming.isFor(file)
      ? try Pretraining(streaming: file, configuration)
      : try Pretraining(try DocumentReader.read(file), configuration)
    let report = try pretraining.run(
      shouldStop: { Interruption.isRequested }, onEvent: Pretrain.tell)
    try pretraining.write(to: target)
    try common.report(
      report,
      text: Format.table([
        ["written to", out], ["parameters", Format.count(report.parameters)],
        ["held-out perplexity", Format.number(report.perplexity)],
        [
          "steps", "\(report.steps)\(report.levelledOff ? "" : " (the loss had not levelled off)")",
        ],
        ["tokens/s", Format.number(report.tokensPerSecond, digits: 0)],
      ]))
  }

  static func tell(_ event: Pretraining.Event) {
    switch event {
    case .tokenizer(let size, let tokens):
      Terminal.note(
        "vocabulary   \(Format.count(size)) tokens; the text has \(Format.count(tokens))")
    case .step(let step, let steps, let loss, let rate, let left):
      Terminal.status(
        "pretraining: step \(step) of at most \(steps)  loss \(Format.number(loss, digits: 3))  "
          + "\(Format.number(rate, digits: 0)) tokens/s  at most \(Format.time(left)) left")
    case .heldOut(let step, let loss):
      Terminal.note("pretraining  step \(step): held-out loss \(Format.number(loss, digits: 3))")
    case .levelledOff(let step, let share, let steps):
      Terminal.note(
        "pretraining  levelled off: the held-out loss fell by less than \(Format.percent(share)) in the last \(steps) "
          + "steps (step \(step)); the rate now decays")
    case .wentBack(let step, let loss):
      Terminal.note(
        "pretraining  the held-out loss had risen, so the model is the one of step \(step) (\(Format.number(loss, digits: 3))): "
          + "the text is small for this model. Give more text, or a smaller model.")
    }
  }
}
